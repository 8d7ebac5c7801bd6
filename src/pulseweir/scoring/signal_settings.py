"""Step 10: what an operator may set about technical signals of devices. Pure."""

from pydantic import BaseModel, ConfigDict, Field


class SignalSettings(BaseModel):
    """When a device is said to be silent, frozen, impossible or ahead of its time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    silent: bool = Field(True, description="Whether a device that has gone silent raises a technical alert.")
    silent_after_seconds: float = Field(
        300, gt=0, description="Silence of a continuously measuring device until the alert; never less than "
        "`silent_after_intervals` of its intervals."
    )  # fmt: skip
    silent_after_intervals: float = Field(5, ge=1, description="Missed intervals until a device counts as silent.")
    frozen: bool = Field(True, description="Whether a device whose values all stand still raises a technical alert.")
    frozen_after_seconds: float = Field(
        1_800,
        ge=900,
        le=3_600,
        description="How long at least two vitals, and all that change at all, must stand still.",
    )
    impossible: bool = Field(True, description="Whether impossible values that go on raise a technical alert.")
    impossible_after_seconds: float = Field(300, gt=0, le=600, description="How long a vital must be impossible.")
    clock_ahead: bool = Field(True, description="Whether a device whose clock is ahead raises a technical alert.")
    clock_ahead_after_seconds: float = Field(300, gt=0, le=600, description="How long its clock must be ahead.")
    clock_ahead_tolerance_seconds: float = Field(
        300, gt=0, description="How far a clock may be ahead; what is further ahead is not scored before its time."
    )
    recovery_seconds: float = Field(
        120, ge=0, le=200, description="How long a device must be well again until its alert ends; up to four times "
        "as long for one that falls ill again and again."
    )  # fmt: skip
    presence_keep_seconds: float = Field(
        60, gt=0, description="Real seconds after which assignment and Encounter are asked for again."
    )
    alert_without_encounter: bool = Field(
        True, description="Whether a patient of whom the FHIR service holds no Encounter at all counts as present."
    )
    heard_seconds: float = Field(
        30, gt=0, description="Real seconds between two notes of when a device was last heard, and of its clock."
    )

    def is_on(self, signal: str) -> bool:
        """Whether a signal raises technical alerts."""
        return bool(getattr(self, signal.replace("-", "_")))
