"""Steps 6 to 10: what an operator may set about enrichment and windows."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pulseweir.records.hand_charted import HAND_CHARTED_TYPES

MICROSECONDS = 1_000_000
_MINUTE_SECONDS = 60


class EnrichmentSettings(BaseModel):
    """How patients are looked up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context_keep_seconds: float = Field(300, gt=0, description="A patient's context is read again after so long")
    context_wait_seconds: float = Field(
        2, ge=0, description="A patient never seen before is waited for at most so long"
    )
    context_follow_seconds: float = Field(
        86_400, ge=0, description="A silent patient's moves are still followed for so long"
    )
    batch_seconds: float = Field(0.02, ge=0, description="Measurements are taken in at most once in so long")


class WindowSettings(BaseModel):
    """How measurements become windows and windows become scores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_seconds: int = Field(60, gt=0, description="Length of a window; a divisor or a multiple of 60")
    lateness_seconds: int = Field(
        14_400, ge=0, description="How late a measurement may be and still revise its windows"
    )
    disorder_seconds: float = Field(
        5, ge=0, description="How far a patient's devices may disagree before a window closes"
    )
    grace_seconds: float = Field(10, ge=0, description="After its end a window of a quiet patient waits this long")
    quiet_seconds: float = Field(2, ge=0, description="A patient without measurements for so long is quiet")
    backfill_after_seconds: int = Field(900, gt=0, description="Older on arrival is backfill: scored, never an alert")
    hand_charted_backfill_after_seconds: int = Field(
        3600, gt=0, description="Likewise for what people chart by hand, which reaches the system later than a monitor"
    )
    hand_charted_types: tuple[str, ...] = Field(
        HAND_CHARTED_TYPES, description="Beginnings of the measurement types that people chart by hand"
    )
    unknown_age: Literal["score", "abstain"] = Field(
        "score", description="A patient of unknown age is scored as an adult and marked, or not scored"
    )
    live_seconds: float = Field(1, gt=0, description="At most one live row a patient in so long")
    batch_seconds: float = Field(0.05, ge=0, description="Measurements are taken in at most once in so long")
    forget_after_seconds: int = Field(86_400, gt=0, description="A patient silent for so long leaves the state")

    @field_validator("window_seconds")
    @classmethod
    def _fits_minutes(cls, seconds: int) -> int:
        if seconds % _MINUTE_SECONDS and _MINUTE_SECONDS % seconds:
            raise ValueError("window_seconds must divide 60 or be a multiple of it")
        return seconds

    @property
    def window(self) -> int:
        """Length of a window, microseconds."""
        return self.window_seconds * MICROSECONDS

    @property
    def lateness(self) -> int:
        """Allowed lateness, microseconds."""
        return self.lateness_seconds * MICROSECONDS

    @property
    def tie_bucket(self) -> int:
        """Readings within so many microseconds tie, and the better source wins: a minute, or a shorter window."""
        return min(self.window_seconds, _MINUTE_SECONDS) * MICROSECONDS
