"""Step 1: charted readings of an intensive-care recording as the messages of one bedside monitor a patient. Pure.

Documented approximations: the Glasgow coma scale stands in for consciousness (15 is alert, 3 to 14 not alert, level
unknown), its parts are summed where all three are charted in one minute
(and are sent as parts where not), and a pressure without a method is a cuff's.
Impossible values are sent as they are charted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from pulseweir import clock
from pulseweir.ingest.recording_plan import (
    PlannedMessage,
    RecordingOptions,
    RecordingPlan,
    monitor_body,
    plan_in_order,
    sender_message_id,
)
from pulseweir.ingest.ward_setup import DeviceSetup, PatientSetup

MONITOR_KIND = "bedside-monitor"
FAHRENHEIT_ITEMS = frozenset({"678", "679", "223761"})
"""Items charted in degrees Fahrenheit and stored in Celsius: sent in Fahrenheit again, as their device would."""

MASKED_AGE_YEARS = 120
SHOWN_MASKED_AGE_YEARS = 90
_SETTLE_SECONDS = 60
_MICROSECONDS = 1_000_000
COMA_SCALE = "glasgowComaScale"
_GCS_PARTS = {
    "gcs_eye": "glasgowComaParts.eye",
    "gcs_verbal": "glasgowComaParts.verbal",
    "gcs_motor": "glasgowComaParts.motor",
}
_PRESSURES = {"systolic_bp": "systolic", "diastolic_bp": "diastolic", "mean_bp": "mean"}
_PLAIN_MEMBERS = {
    "heart_rate": "heartRate",
    "respiratory_rate": "respiratoryRate",
    "spo2": "spo2",
    "gcs_total": COMA_SCALE,
    **_GCS_PARTS,
    "fio2": "fio2",
    "o2_flow": "oxygenFlow",
}
VITALS = frozenset({*_PLAIN_MEMBERS, *_PRESSURES, "temperature"})
_GENDERS = {"M": "male", "F": "female"}


@dataclass(frozen=True, slots=True)
class Reading:
    """One charted reading; instants are the recording's own, microseconds.

    Attributes:
        subject: Number of the patient in the recording.
        stay: Number of the stay, "" when unknown.
        charted: When it was measured.
        stored: When it was entered.
        vital: The recording's name of the vital, one of `VITALS`.
        number: In the recording's unit.
        method: ``cuff``, ``arterial-line`` or "".
        item: The recording's item number.
    """

    subject: int
    stay: str
    charted: int
    stored: int
    vital: str
    number: float
    method: str
    item: str


@dataclass(frozen=True, slots=True)
class RecordedPatient:
    """What the recording says about a patient.

    Attributes:
        gender: ``M``, ``F`` or anything else for unknown.
        born: Date of birth in the recording's own, shifted time.
    """

    gender: str
    born: date


@dataclass(frozen=True, slots=True)
class RecordedStay:
    """Where a patient lay.

    Attributes:
        ward: Name of the care unit.
        admitted: Start of the admission, the recording's own time, microseconds.
    """

    ward: str
    admitted: int


@dataclass(frozen=True, slots=True)
class _Member:
    """One member of a message: what the reading that was stored last says."""

    name: str
    number: float | str
    stored: int
    readings: int


def plan_monitors(
    readings: Iterable[Reading],
    patients: Mapping[int, RecordedPatient],
    stays: Mapping[str, RecordedStay],
    start_microseconds: int,
    options: RecordingOptions,
) -> RecordingPlan:
    """Messages of one bedside monitor a patient, moved in time a patient on its own.

    In the order ``charted`` there is exactly one message a patient and charted time. In the order ``stored`` what
    was charted together and entered at different times goes in several. Both orders carry the same members: which
    of several equal readings counts (the last stored) is settled before messages are made.
    """
    setups: list[PatientSetup] = []
    messages: list[PlannedMessage] = []
    beds: dict[str, int] = {}
    for subject, rows in _selected(readings, options).items():
        stay = stays.get(rows[0].stay, RecordedStay("ICU", rows[0].charted))
        beds[stay.ward] = beds.get(stay.ward, 0) + 1
        shift = _shift(rows, start_microseconds, options)
        setup = _setup(subject, patients.get(subject), stay, rows[0].charted, shift)
        setups.append(replace(setup, bed=f"Bed {beds[stay.ward]:02}"))
        messages += _messages(setup.devices[0].device_id, rows, shift, options)
    devices = [device for setup in setups for device in setup.devices]
    return plan_in_order(devices, setups, messages)


def _selected(readings: Iterable[Reading], options: RecordingOptions) -> dict[int, list[Reading]]:
    """The wanted readings of the wanted patients, by number, each in charted order."""
    by_subject: dict[int, list[Reading]] = {}
    for reading in readings:
        by_subject.setdefault(reading.subject, []).append(reading)
    chosen = {}
    for subject in sorted(by_subject)[: options.patients]:
        rows = sorted(by_subject[subject], key=lambda row: row.charted)
        if options.hours is not None:
            end = rows[0].charted + round(options.hours * 3600 * _MICROSECONDS)
            rows = [row for row in rows if row.charted < end]
        if rows:
            chosen[subject] = rows
    return chosen


def _shift(rows: Sequence[Reading], start_microseconds: int, options: RecordingOptions) -> int:
    if options.live:
        return start_microseconds - rows[0].charted
    last = start_microseconds - (options.backfill_after_seconds + _SETTLE_SECONDS) * _MICROSECONDS
    return last - rows[-1].charted


def _setup(
    subject: int, recorded: RecordedPatient | None, stay: RecordedStay, first_charted: int, shift: int
) -> PatientSetup:
    first = clock.from_microseconds(first_charted).date()
    moved_first = clock.from_microseconds(first_charted + shift).date()
    born = recorded.born if recorded else _years_before(first, SHOWN_MASKED_AGE_YEARS)
    if first.year - born.year > MASKED_AGE_YEARS:
        moved_born = _years_before(moved_first, SHOWN_MASKED_AGE_YEARS)
    else:
        moved_born = born + timedelta(days=(moved_first - first).days)
    return PatientSetup(
        patient_id=f"mimic3-patient-{subject}",
        name=f"Recorded patient {subject}",
        birth_date=moved_born.isoformat(),
        gender=_GENDERS.get(recorded.gender if recorded else "", "unknown"),
        ward=stay.ward,
        bed="",
        since_microseconds=min(stay.admitted, first_charted) + shift,
        devices=(DeviceSetup(f"mimic3-monitor-{subject}", MONITOR_KIND),),
    )


def _years_before(day: date, years: int) -> date:
    if (day.month, day.day) == (2, 29):
        day = day.replace(day=28)
    return day.replace(year=day.year - years)


def _messages(
    device_id: str, rows: Sequence[Reading], shift: int, options: RecordingOptions
) -> Iterator[PlannedMessage]:
    together: dict[int, list[Reading]] = {}
    for row in rows:
        together.setdefault(row.charted, []).append(row)
    for charted, minute in together.items():
        members = _members(minute)
        measured_at = charted + shift
        if options.order == "charted":
            yield _message(device_id, measured_at, members, due=measured_at)
            continue
        for stored in sorted({member.stored for member in members}):
            portion = [member for member in members if member.stored == stored]
            yield _message(device_id, measured_at, portion, due=stored + shift)


def _message(device_id: str, measured_at: int, members: Sequence[_Member], due: int) -> PlannedMessage:
    body = monitor_body(device_id, measured_at, [(member.name, member.number) for member in members])
    return PlannedMessage(
        device_id=device_id,
        message_id=sender_message_id(device_id, measured_at, body),
        body=body,
        due_microseconds=due,
        readings=sum(member.readings for member in members),
    )


def _members(minute: Sequence[Reading]) -> list[_Member]:
    """The members of what was charted together: of equal ones the last stored, in the recording's order."""
    newest: dict[str, Reading] = {}
    counts: dict[str, int] = {}
    for row in minute:
        key = _key(row)
        counts[key] = counts.get(key, 0) + 1
        if key not in newest or row.stored >= newest[key].stored:
            newest[key] = row
    members = [_member(key, row, counts[key]) for key, row in newest.items()]
    members = _with_summed_parts(members)
    scales = [member for member in members if member.name == COMA_SCALE]
    return members + [_consciousness(scale) for scale in scales if _is_coma_scale(scale.number)]


def _with_summed_parts(members: list[_Member]) -> list[_Member]:
    """The coma scale instead of its parts where all three are there and no total; else the parts as charted."""
    parts = [member for member in members if member.name in _GCS_PARTS.values()]
    if len(parts) < len(_GCS_PARTS) or any(member.name == COMA_SCALE for member in members):
        return members
    total = _Member(
        COMA_SCALE,
        sum(float(part.number) for part in parts),
        max(part.stored for part in parts),
        sum(part.readings for part in parts),
    )
    return [*(member for member in members if member not in parts), replace(total, number=_plain(float(total.number)))]


def _key(row: Reading) -> str:
    if row.vital in _PRESSURES:
        group = "arterialPressure" if row.method == "arterial-line" else "cuffPressure"
        return f"{group}.{_PRESSURES[row.vital]}"
    return _PLAIN_MEMBERS.get(row.vital, row.vital)


def _member(key: str, row: Reading, readings: int) -> _Member:
    if key != "temperature":
        return _Member(key, _plain(row.number), row.stored, readings)
    if row.item in FAHRENHEIT_ITEMS:
        return _Member("temperatureFahrenheit", _plain(round(row.number * 1.8 + 32, 1)), row.stored, readings)
    return _Member("temperatureCelsius", _plain(row.number), row.stored, readings)


def _is_coma_scale(number: float | str) -> bool:
    return isinstance(number, int) and 3 <= number <= 15


def _consciousness(scale: _Member) -> _Member:
    """Alert at 15, else not alert, level unknown; it stands for no reading of its own."""
    return _Member("consciousness", "A" if scale.number == 15 else "CVPU", scale.stored, 0)


def _plain(number: float) -> float:
    """The number as it was charted: the recording keeps single precision, seven digits."""
    charted = float(f"{number:.7g}")
    return int(charted) if charted.is_integer() else charted
