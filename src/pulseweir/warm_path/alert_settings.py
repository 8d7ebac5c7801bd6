"""Step 18: ladders, actions and limits of alerts, as data. Pure."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Priority = Literal["high", "medium", "low"]

RANK = {"low": 0, "medium": 1, "high": 2}
"""Priorities by urgency."""

ACKNOWLEDGE_REASONS = ("seen-going", "known-expected", "artefact", "device-problem")


class Rung(BaseModel):
    """One step of an escalation ladder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after_seconds: float = Field(..., ge=0, description="Seconds after the alert got its priority.")
    role: str = Field(..., min_length=1, description="Who is told.")


def _ladder(*rungs: tuple[float, str]) -> tuple[Rung, ...]:
    return tuple(Rung(after_seconds=seconds, role=role) for seconds, role in rungs)


class AlertSettings(BaseModel):
    """When alerts are raised, whom they reach, and how long until the next one is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    priorities: dict[str, Priority] = Field(
        {"high": "high", "medium": "medium", "low-medium": "low", "low": "low"},
        description="Priority of an alert by the band of its score; a band not named is medium.",
    )
    ladders: dict[str, tuple[Rung, ...]] = Field(
        {
            "high": _ladder((0, "nurse"), (60, "charge-nurse"), (180, "rapid-response"), (300, "everyone")),
            "medium": _ladder((0, "nurse"), (300, "charge-nurse"), (900, "clinician")),
            "low": (),
        },
        description="Who is told after how long without an acknowledgement; an empty ladder means the worklist only.",
    )
    reminder_seconds: dict[str, float] = Field(
        {"high": 120, "medium": 900},
        description="Seconds from the last rung to the first reminder; the pause doubles with every reminder.",
    )
    longest_reminder_seconds: float = Field(3_600, gt=0, description="Longest pause between two reminders.")
    reminders_at_most: int = Field(
        10, ge=0, description="Reminders in a row below high; at high they go on, from then to `reminder_circle`."
    )
    reminder_circle: dict[str, str] = Field(
        {"high": "everyone"}, description="Who is reminded, by priority, once `reminders_at_most` were in vain."
    )
    unattended_reminder_seconds: dict[str, float] = Field(
        {"high": 900, "medium": 3_600},
        description="Seconds after which an acknowledged alert that nobody has claimed is reminded of, while its "
        "condition lasts; the pause doubles with every reminder. A priority not named is not reminded of.",
    )
    worse_by_points: float = Field(
        2, gt=0, description="Points above what people were last told that count as worse and page again at once."
    )
    cooldown_seconds: float = Field(
        1_800, ge=0, description="Time since the last message after which a new episode of an open alert pages again."
    )
    expected_for_seconds: float = Field(
        43_200, gt=0, description='How long an acknowledgement as "known-expected" quiets what is no worse.'
    )
    clear_after_seconds: float = Field(
        14_400,
        ge=0,
        description="How long a condition must be over before its alert closes; one that returns sooner goes on.",
    )
    on_delay_seconds: dict[str, float] = Field(
        default_factory=dict, description="How long a patient must have been outside before an alert is raised."
    )
    quiet_after_close_seconds: float = Field(
        1_800, ge=0, description="How long after a person closed an alert its condition raises none, unless worse."
    )
    suppress_at_most_seconds: dict[str, float] = Field(
        {"high": 120, "medium": 3_600, "low": 14_400}, description="Longest time an alert's messages may be held back."
    )
    suppress_budget_seconds: dict[str, float] = Field(
        {"high": 240, "medium": 7_200, "low": 28_800},
        description="Time for which one alert's messages may be held back in all.",
    )
    monitoring_lost_after_seconds: float = Field(
        600,
        gt=0,
        description="A patient at risk of whom nothing usable was heard for so long while a device is at fault: its "
        "technical alert becomes medium and is paged.",
    )
    acknowledge_reasons: tuple[str, ...] = Field(
        ACKNOWLEDGE_REASONS, min_length=1, description="Reasons offered with one tap."
    )
    actions: dict[str, str] = Field(
        {
            "high": "Go to the patient now. Emergency assessment by a team with critical-care skills; monitor "
            "continuously.",
            "medium": "Urgent assessment by a clinician competent in acute illness; monitor at least hourly.",
            "low": "Review the patient on the ward and decide on escalation; monitor at least hourly.",
        },
        description="What to do, by priority. No priority goes without one.",
    )

    @model_validator(mode="after")
    def _every_priority_says_what_to_do(self) -> Self:
        silent = [priority for priority in RANK if not self.actions.get(priority, "").strip()]
        if silent:
            message = f"actions: no action text for priority {', '.join(silent)}"
            raise ValueError(message)
        keyed = (
            self.ladders,
            self.reminder_seconds,
            self.on_delay_seconds,
            self.suppress_at_most_seconds,
            self.suppress_budget_seconds,
            self.unattended_reminder_seconds,
            self.reminder_circle,
            self.actions,
        )
        strangers = {priority for table in keyed for priority in table} - set(RANK)
        if strangers:
            message = f"{', '.join(sorted(strangers))}: no such priority; use {', '.join(RANK)}"
            raise ValueError(message)
        for priority, ladder in self.ladders.items():
            if list(ladder) != sorted(ladder, key=lambda rung: rung.after_seconds):
                message = f"ladders.{priority}: after_seconds must grow from rung to rung"
                raise ValueError(message)
        return self

    def priority_of(self, band: str) -> Priority:
        """The priority of an alert by its band."""
        return self.priorities.get(band, "medium")
