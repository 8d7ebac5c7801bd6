"""Step 5a: from when to when a device measured whom, as DeviceUseStatements say it. Pure.

A DeviceUseStatement says from when to when a device measured whom; only where a Device has none does its own
``patient`` count. A device that two patients had at one instant is nobody's: no answer is better than a wrong one.
Source: HL7 FHIR R4, DeviceUseStatement, http://hl7.org/fhir/R4/deviceusestatement.html; dateTime and Period,
http://hl7.org/fhir/R4/datatypes.html.
"""

import re
from dataclasses import dataclass
from typing import Any

from pulseweir.ingest.device_mapping.tokens import FIRST_INSTANT, LAST_INSTANT, ExpressionFault, parse_instant

_LEGAL_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_NO_USE = frozenset({"entered-in-error", "intended"})
_MONTHS_END = "12-31"


@dataclass(frozen=True, slots=True)
class Use:
    """One span in which a patient had a device; microseconds, both ends included."""

    patient_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """What the FHIR service said about a device.

    Attributes:
        resource_id: FHIR id of the Device; None when there is none, or more than one.
        uses: Its spans.
        patient_id: Whom the Device itself names, used where it has no spans.
        asked_at: When this was asked, monotonic seconds.
        asked_on: The same moment by the clock of measurements, microseconds.
        generation: Count of changes that stood when this was asked; None where nobody counts.
        is_managed: Whether any DeviceUseStatement names the device, a usable one or not.
    """

    resource_id: str | None
    uses: tuple[Use, ...]
    patient_id: str | None
    asked_at: float
    asked_on: int = 0
    generation: int | None = None
    is_managed: bool = False


def wearer(device: KnownDevice, occurred_at: int) -> str | None:
    """The one patient who had the device at that instant; None for nobody or for two."""
    if not device.uses:
        return device.patient_id
    covering = [use for use in device.uses if use.start <= occurred_at <= use.end]
    if len(covering) == 1:
        return covering[0].patient_id
    if len({use.patient_id for use in covering}) > 1:
        # One span may end at the very instant the next begins: the new one counts.
        covering = [use for use in covering if use.end != occurred_at or use.start == occurred_at]
    patients = {use.patient_id for use in covering}
    return patients.pop() if len(patients) == 1 else None


def read_use(statement: dict[str, Any]) -> Use | None:
    """The span of a DeviceUseStatement; None when it does not say that a Patient had the device."""
    patient_id = reference_id(statement.get("subject"), "Patient")
    if patient_id is None or statement.get("status") in _NO_USE:
        return None
    period = statement.get("timingPeriod")
    if period is None and isinstance(statement.get("timingDateTime"), str):
        period = {"start": statement["timingDateTime"], "end": statement["timingDateTime"]}
    if not isinstance(period, dict):
        return None
    try:
        start = _bound(period["start"], latest=False) if period.get("start") else FIRST_INSTANT
        end = _bound(period["end"], latest=True) if period.get("end") else LAST_INSTANT
    except ExpressionFault:
        return None
    return Use(patient_id, start, end)


def reference_id(reference: object, resource_type: str) -> str | None:
    """The logical id of a reference to a resource of that type; None for anything else."""
    text = reference.get("reference") if isinstance(reference, dict) else None
    if not isinstance(text, str):
        return None
    kind, _, logical = text.split("/_history/")[0].rpartition("/")
    is_right = kind.rpartition("/")[2] == resource_type and is_legal_id(logical)
    return logical if is_right else None


def is_legal_id(text: str) -> bool:
    """Whether FHIR allows this text as a logical id."""
    return _LEGAL_ID.fullmatch(text) is not None


def identifier_values(resource: dict[str, Any], system: str = "") -> set[str]:
    """The values of a resource's identifiers, of one system or, without one, of all."""
    identifiers = resource.get("identifier") or []
    return {
        str(one["value"])
        for one in identifiers
        if isinstance(one, dict) and "value" in one and (not system or one.get("system") == system)
    }


def _bound(text: str, *, latest: bool) -> int:
    """First or last microsecond a FHIR dateTime may mean; a text without a time covers its whole day or longer."""
    if "T" in text:
        return parse_instant(text)
    year, _, rest = text.partition("-")
    if not latest:
        return parse_instant(f"{year}-{rest or '01-01'}" if "-" in rest or not rest else f"{year}-{rest}-01")
    if not rest:
        return parse_instant(f"{year}-{_MONTHS_END}T23:59:59.999999Z")
    if "-" in rest:
        return parse_instant(f"{text}T23:59:59.999999Z")
    return _last_of_month(int(year), int(rest))


def _last_of_month(year: int, month: int) -> int:
    following = f"{year + month // 12:04d}-{month % 12 + 1:02d}-01"
    return LAST_INSTANT if year == 9_999 and month == 12 else parse_instant(following) - 1
