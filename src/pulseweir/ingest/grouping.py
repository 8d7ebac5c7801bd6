"""Step 5c: which measurements make one Observation, and its deterministic id. Pure.

Instants here are ticks of 100 ns since 1970 UTC, because the predecessor ends an hour one tick before the next.
Source: the predecessor's grouping rules; two departures: one property never erases another of the same instant, and
the identifier of a Single group shows fractions of a second where they are not zero.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from pulseweir.errors import MessageError
from pulseweir.ingest.device_mapping.tokens import instant_text
from pulseweir.records.codes import SERVICE_SYSTEM

TICKS_A_MICROSECOND = 10
TICKS_A_SECOND = 10_000_000
CORRELATION = -1
SINGLE = 0
HOURLY = 60
DAILY = 1_440
INTERVALS = {"correlationid": CORRELATION, "single": SINGLE, "hourly": HOURLY, "daily": DAILY}

Sample = tuple[int, str]


@dataclass(frozen=True, slots=True)
class ObservationGroup:
    """Measurements that make one Observation.

    Attributes:
        start: First tick of its period.
        end: Last tick of its period.
        samples: By value name the (tick, text) pairs, sorted by time, one for a time.
    """

    start: int
    end: int
    samples: dict[str, list[Sample]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchKey:
    """What measurements share that may be grouped; parts cannot run into each other."""

    device_id: str
    type: str
    patient_id: str | None
    encounter_id: str | None
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """One measurement as the normalized stream carries it; instants in ticks."""

    key: BatchKey
    occurred_at: int
    ingested_at: int
    properties: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is left at one instant of a batch group.

    Attributes:
        occurred_at: When it was measured, ticks.
        ingested_at: The latest arrival that contributed, ticks.
        properties: For each value name the text that arrived last.
    """

    occurred_at: int
    ingested_at: int
    properties: dict[str, str]


def batch_groups(arrivals: Iterable[Arrival]) -> dict[BatchKey, list[Reading]]:
    """Arrivals by key, one reading an instant: for each property the text that arrived last."""
    groups: dict[BatchKey, dict[int, list[Arrival]]] = {}
    for arrival in arrivals:
        groups.setdefault(arrival.key, {}).setdefault(arrival.occurred_at, []).append(arrival)
    return {
        key: [_latest(occurred_at, instants[occurred_at]) for occurred_at in sorted(instants)]
        for key, instants in groups.items()
    }


def _latest(occurred_at: int, arrivals: Sequence[Arrival]) -> Reading:
    properties: dict[str, str] = {}
    ordered = sorted(arrivals, key=lambda arrival: arrival.ingested_at)
    for arrival in ordered:
        properties.update(arrival.properties)
    return Reading(occurred_at, ordered[-1].ingested_at, properties)


def boundary(interval: int, tick: int) -> tuple[int, int]:
    """First and last tick of the Single, Hourly or Daily period that holds a tick."""
    if interval == SINGLE:
        return tick, tick
    length = interval * 60 * TICKS_A_SECOND
    start = tick // length * length
    return start, start + length - 1


def segment(interval: int, tick: int, correlation_id: str | None, *, with_fraction: bool = True) -> str:
    """The part of an identifier that tells groups of one device and type apart.

    Args:
        interval: Minutes of one Observation, `SINGLE` or `CORRELATION`.
        tick: An instant of the group.
        correlation_id: What ties the group together, if anything.
        with_fraction: Show fractions of a second of a single instant; the predecessor does not.

    >>> segment(HOURLY, 15_463_008_050_000_000, None)
    '20190101000000Z.20190101005959Z'

    Raises:
        MessageError: The group needs a correlation id and has none.
    """
    if interval == CORRELATION:
        if not (correlation_id and correlation_id.strip()):
            raise correlation_missing()
        return correlation_id
    start, end = boundary(interval, tick)
    if interval == SINGLE:
        text = _compact(start, with_fraction=with_fraction)
        return f"{text}.{text}"
    return f"{_compact(start, with_fraction=False)}.{_compact(end, with_fraction=False)}"


def correlation_missing() -> MessageError:
    """What is wrong with a measurement that its group needs a correlation id of."""
    return MessageError(
        "The FHIR mapping groups this type by correlation id and the message has none."
        " Set correlationIdExpression in the device mapping.",
        reason="correlation-id-missing",
    )


@lru_cache(maxsize=16_384)
def _compact(tick: int, *, with_fraction: bool) -> str:
    seconds, fraction = divmod(tick, TICKS_A_SECOND)
    text = instant_text(seconds * 1_000_000)
    digits = f"{text[:4]}{text[5:7]}{text[8:10]}{text[11:13]}{text[14:16]}{text[17:19]}"
    if with_fraction and fraction:
        digits += "." + f"{fraction:07d}".rstrip("0")
    return f"{digits}Z"


def identifier_value(patient_id: str, device_id: str, type_name: str, part: str) -> str:
    """The value of the Observation's identifier: ids of the FHIR resources, measurement type, segment."""
    return f"{patient_id}.{device_id}.{type_name}.{part}"


def resource_id(value: str, system: str | None = SERVICE_SYSTEM) -> str:
    """The FHIR id of whatever carries this identifier: SHA-256 in 64 lower-case hex digits.

    >>> resource_id("deviceId", None)[:8]
    '96b1d91b'
    """
    return hashlib.sha256(f"{system or ''}_{value}".encode()).hexdigest()


def observation_groups(
    interval: int,
    data: Iterable[tuple[int, Mapping[str, str]]],
    correlation_id: str | None,
    *,
    with_fraction: bool = True,
) -> list[tuple[str, ObservationGroup]]:
    """Cut (tick, properties) pairs into Observation groups, oldest first, each with its segment.

    Single groups are told apart by their instant, whatever their segments show of it.

    Raises:
        MessageError: A correlation id is needed and missing.
    """
    rows = sorted(data, key=lambda row: row[0])
    if not rows:
        return []
    found: dict[str, tuple[str, ObservationGroup]] = {}
    for tick, properties in rows:
        key = segment(interval, tick, correlation_id)
        if key not in found:
            start, end = (rows[0][0], rows[-1][0]) if interval == CORRELATION else boundary(interval, tick)
            part = segment(interval, tick, correlation_id, with_fraction=with_fraction)
            found[key] = (part, ObservationGroup(start, end))
        group = found[key][1]
        for name, text in properties.items():
            samples = group.samples.setdefault(name, [])
            # The first of equal times stays, as in the predecessor; `batch_groups` has chosen it.
            if not samples or samples[-1][0] != tick:
                samples.append((tick, text))
    return list(found.values())
