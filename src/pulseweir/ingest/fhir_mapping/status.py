"""Step 5c: the status of an Observation over its life. Pure.

An Observation of one instant is ``final`` when it is written. One of an hour, a day or a session is ``preliminary``
until it has closed: its period has ended and nothing new has come for a while. Then it is ``final``, and ``amended``
when anything changes it later. Instants are microseconds since 1970 UTC.
Source: HL7 FHIR R4, http://hl7.org/fhir/R4/valueset-observation-status.html.
"""

from pulseweir.ingest.fhir_mapping.observations import stored_period
from pulseweir.ingest.fhir_mapping.values import parse_ticks
from pulseweir.ingest.grouping import SINGLE, TICKS_A_MICROSECOND

PRELIMINARY = "preliminary"
_OPEN = frozenset({"registered", PRELIMINARY})
_WITHDRAWN = frozenset({"entered-in-error", "cancelled"})


def closes_at(observation: dict[str, object], closing_microseconds: int) -> int | None:
    """When an Observation closes: so long after its end and its newest value; None when it says neither.

    Raises:
        MessageError: A time in it cannot be read.
    """
    period = stored_period(observation)
    issued = issued_at(observation)
    known = [tick for tick in (period[1] // TICKS_A_MICROSECOND if period else None, issued) if tick is not None]
    return max(known) + closing_microseconds if known else None


def issued_at(observation: dict[str, object]) -> int | None:
    """When its newest value came, None when it does not say.

    Raises:
        MessageError: The time cannot be read.
    """
    issued = observation.get("issued")
    return parse_ticks(issued) // TICKS_A_MICROSECOND if isinstance(issued, str) else None


def first_status(interval: int, closes: int | None, now: int) -> str:
    """The status of a new Observation, or of one that was not final yet, when it is written.

    >>> first_status(60, 1_000, 999), first_status(60, 1_000, 1_000), first_status(0, 1_000, 999)
    ('preliminary', 'final', 'final')
    """
    is_open = interval != SINGLE and closes is not None and now < closes
    return PRELIMINARY if is_open else "final"


def next_status(stored: object, interval: int, closes: int | None, now: int) -> str:
    """The status of a stored Observation that new values have changed; what a person withdrew stays withdrawn.

    >>> [next_status(stored, 60, 1_000, 999) for stored in ("preliminary", "final", "amended", "entered-in-error")]
    ['preliminary', 'amended', 'amended', 'entered-in-error']
    """
    if stored in _WITHDRAWN:
        return str(stored)
    return first_status(interval, closes, now) if stored in _OPEN else "amended"
