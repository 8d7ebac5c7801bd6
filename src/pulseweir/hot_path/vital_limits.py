"""Step 13b: limits of single vitals, which hold whatever a score says, and where none may be made. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pulseweir.records.codes import VITAL_BY_NAME

_SHORT = {"spo2": "SpO2", "fio2": "FiO2"}


class VitalLimit(BaseModel):
    """A value of one vital that is outside by itself, at ages it is meant for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vital: str = Field(..., description="Name of the vital, as in scores: heart_rate, respiratory_rate, spo2, ...")
    below: float | None = Field(None, description="Values below this are outside, in the unit of the vital.")
    above: float | None = Field(None, description="Values above this are outside, in the unit of the vital.")
    band: Literal["low", "low-medium", "medium", "high"] = Field("medium", description="Band of a window outside.")
    age_from: float | None = Field(None, ge=0, description="Only for patients at least this old, years.")
    age_under: float | None = Field(None, gt=0, description="Only for patients younger than this, years.")

    @model_validator(mode="after")
    def _limits_something_known(self) -> Self:
        known = VITAL_BY_NAME.get(self.vital)
        if known is None or known.lowest is None:
            numeric = ", ".join(name for name, vital in VITAL_BY_NAME.items() if vital.lowest is not None)
            message = f"vital_limits: {self.vital!r} is no vital with numbers; use one of {numeric}"
            raise ValueError(message)
        if self.below is None and self.above is None:
            message = f"vital_limits: the limit of {self.vital} needs below or above"
            raise ValueError(message)
        return self

    def is_for(self, age_years: float | None) -> bool:
        """Whether it is meant for this age; a limit of certain ages is for nobody of unknown age."""
        if self.age_from is None and self.age_under is None:
            return True
        if age_years is None:
            return False
        return (self.age_from or 0) <= age_years and (self.age_under is None or age_years < self.age_under)


@dataclass(frozen=True, slots=True)
class Breach:
    """A vital beyond its limit: which, in which band, and in words."""

    vital: str
    band: str
    words: str


class _Input(msgspec.Struct):
    vital: str
    value: float | str | None = None
    usable: bool = False
    age_seconds: float | None = None


_INPUTS = msgspec.json.Decoder(list[_Input])


def breaches(limits: Sequence[VitalLimit], inputs_json: str, age_years: float | None) -> list[Breach]:
    """The limits that fresh and usable inputs of a window are beyond, in the order of the limits.

    >>> limit = VitalLimit(vital="spo2", below=90)
    >>> [breach.words for breach in breaches([limit], '[{"vital":"spo2","value":84,"usable":true}]', 8)]
    ['SpO2 84 below 90']
    """
    meant = [limit for limit in limits if limit.is_for(age_years)]
    if not meant:
        return []
    known = {one.vital: one.value for one in _INPUTS.decode(inputs_json) if _is_fresh(one)}
    return [breach for limit in meant for breach in _breach(limit, known.get(limit.vital))]


def worst(bands: Iterable[str | None], severity: dict[str, int]) -> str | None:
    """The worst of some bands; None when there is none."""
    known = [band for band in bands if band is not None]
    return max(known, key=lambda band: severity.get(band, 2), default=None)


def _is_fresh(one: _Input) -> bool:
    vital = VITAL_BY_NAME.get(one.vital)
    return one.usable and vital is not None and (one.age_seconds or 0) <= vital.maximum_age_seconds


def _breach(limit: VitalLimit, value: float | str | None) -> list[Breach]:
    if not isinstance(value, (int, float)):
        return []
    title = _SHORT.get(limit.vital, VITAL_BY_NAME[limit.vital].title)
    if limit.below is not None and value < limit.below:
        return [Breach(limit.vital, limit.band, f"{title} {value:g} below {limit.below:g}")]
    if limit.above is not None and value > limit.above:
        return [Breach(limit.vital, limit.band, f"{title} {value:g} above {limit.above:g}")]
    return []
