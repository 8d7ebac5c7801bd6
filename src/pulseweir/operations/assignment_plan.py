"""Step 5a: what to write so that a device belongs to a patient from when to when, and never to two. Pure.

Spans are taken half open here, [start, end): one ends at the instant the next begins.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pulseweir.clock import to_text
from pulseweir.errors import RejectRecord
from pulseweir.ingest.device_mapping.tokens import FIRST_INSTANT, LAST_INSTANT
from pulseweir.ingest.device_uses import Use, read_use, reference_id
from pulseweir.records.identifiers import digest

Json = dict[str, Any]


class AssignmentRefused(RejectRecord):
    """An association cannot be written as it was asked for; nothing was changed."""

    def __init__(self, device_id: str, problem: str, remedy: str) -> None:
        self.device_id = device_id
        super().__init__(f"Device {device_id}: {problem}. Nothing was changed. {remedy}", reason="assignment-refused")


@dataclass(frozen=True, slots=True)
class Statement:
    """One association as FHIR holds it.

    Attributes:
        use: Patient and span.
        resource: The DeviceUseStatement; None for the Device's own patient, which counts where it has no statement.
    """

    use: Use
    resource: Json | None

    @property
    def is_open(self) -> bool:
        """Whether it has no end."""
        return self.use.end == LAST_INSTANT


@dataclass(frozen=True, slots=True)
class DeviceBook:
    """All that FHIR says about who has a device.

    Attributes:
        device: The Device.
        device_id: Its id for messages.
        resources: Every DeviceUseStatement about it, unusable ones too.
    """

    device: Json
    device_id: str
    resources: tuple[Json, ...]

    @property
    def statements(self) -> list[Statement]:
        """The associations, earliest first."""
        if not self.resources:
            own = reference_id(self.device.get("patient"), "Patient")
            return [Statement(Use(own, FIRST_INSTANT, LAST_INSTANT), None)] if own else []
        read = [(read_use(resource), resource) for resource in self.resources]
        usable = [Statement(use, resource) for use, resource in read if use is not None]
        return sorted(usable, key=lambda one: (one.use.start, one.use.end, one.use.patient_id))

    def new_id(self, patient_id: str, start: int) -> str:
        """The id of a further statement: the same for the same association, and never that of another."""
        taken = {resource["id"] for resource in self.resources}
        number = 0
        parts: tuple[str | int, ...] = ("DeviceUseStatement", self.device_id, patient_id, _start_text(start))
        while (name := digest(*parts, *([number] if number else []))) in taken:
            number += 1
        return name


def plan_assignment(book: DeviceBook, wanted: Use, *, replacing: bool = False) -> list[Json]:
    """The DeviceUseStatements to write so that the patient has the device in [start, end).

    An earlier association without end ends where the new one begins. Any other of another patient inside the span
    refuses it; `replacing` rewrites exactly the span instead, and leaves what lies before and after as it was.

    Raises:
        AssignmentRefused: Another patient has the device in the span.
    """
    writes: list[Json] = []
    conflicts = 0
    kept: Statement | None = None
    for one in book.statements:
        if not _meets(one.use, wanted):
            continue
        if _is_same(one, wanted) and not (replacing and one.use.end > wanted.end):
            if kept is None:
                kept = one
            else:
                writes.append(_erased(one))
        elif not replacing and one.is_open and one.use.start < wanted.start:
            writes.append(_written(book, replace(one, use=replace(one.use, end=wanted.start))))
        elif replacing:
            writes += _around(book, one, wanted)
        elif one.use.patient_id != wanted.patient_id:
            conflicts += 1
    if conflicts:
        raise AssignmentRefused(
            book.device_id,
            f"{conflicts} association(s) of other patients lie in that span",
            f"See them: pulseweir device assignments {book.device_id}. To overwrite exactly that span, add --replace.",
        )
    return _united([*writes, _written(book, Statement(wanted, kept.resource if kept else None))])


def plan_release(book: DeviceBook, instant: int) -> list[Json]:
    """The DeviceUseStatements to write so that nobody has the device from this instant on, as far as a span reaches.

    Raises:
        AssignmentRefused: Nobody has the device then.
    """
    held = [one for one in book.statements if one.use.start <= instant < one.use.end]
    if not held:
        raise AssignmentRefused(
            book.device_id,
            "nobody has it at that instant",
            f"See who had it when: pulseweir device assignments {book.device_id}.",
        )
    # An end at the very start would leave the patient that one instant.
    return [
        _written(book, replace(one, use=replace(one.use, end=instant))) if one.use.start < instant else _erased(one)
        for one in held
    ]


def overlapping(statements: Iterable[Statement]) -> set[int]:
    """Places, in order, of the associations that give some instant two patients."""
    listed = list(statements)
    return {
        place
        for place, one in enumerate(listed)
        for other in listed
        if other.use.patient_id != one.use.patient_id and _meets(other.use, one.use)
    }


def _united(writes: list[Json]) -> list[Json]:
    """One of each id: where a patient had the device twice over, the rests are one, as long as the longer."""
    longest: dict[str, Json] = {}
    for write in writes:
        held, use = read_use(longest.get(write["id"], {})), read_use(write)
        if held is None or (use is not None and use.end > held.end):
            longest[write["id"]] = write
    return list(longest.values())


def _is_same(one: Statement, wanted: Use) -> bool:
    """Whether a DeviceUseStatement says the same but for its end."""
    return one.resource is not None and (one.use.patient_id, one.use.start) == (wanted.patient_id, wanted.start)


def _erased(one: Statement) -> Json:
    return (one.resource or {}) | {"status": "entered-in-error"}


def _meets(use: Use, span: Use) -> bool:
    """Whether two half-open spans share an instant; one of no length stands for its instant."""
    return use.start < max(span.end, span.start + 1) and span.start < max(use.end, use.start + 1)


def _around(book: DeviceBook, one: Statement, span: Use) -> list[Json]:
    """What is left of an association when a span is cut out of it."""
    use = one.use
    pieces: list[Use] = []
    if use.start < span.start:
        pieces.append(replace(use, end=span.start))
    if span.end < use.end:
        pieces.append(replace(use, start=span.end))
    if not pieces:
        return [_erased(one)] if one.resource is not None else []
    rest: Sequence[Use] = pieces[1:]
    return [_written(book, replace(one, use=pieces[0])), *(_written(book, Statement(use, None)) for use in rest)]


def _written(book: DeviceBook, one: Statement) -> Json:
    """The DeviceUseStatement that says this, made or changed; texts of ends that did not move stay as they were."""
    use = one.use
    before = read_use(one.resource) if one.resource is not None else None
    period = dict((one.resource or {}).get("timingPeriod") or {})
    if before is None or before.start != use.start:
        period["start"] = _start_text(use.start)
    if before is None or before.end != use.end:
        period["end"] = "" if use.end == LAST_INSTANT else to_text(use.end)
    made = one.resource or {
        "resourceType": "DeviceUseStatement",
        "id": book.new_id(use.patient_id, use.start),
        "subject": {"reference": f"Patient/{use.patient_id}"},
        "device": {"reference": f"Device/{book.device['id']}"},
    }
    changed = {
        "status": "active" if use.end == LAST_INSTANT else "completed",
        "timingPeriod": {name: text for name, text in period.items() if text},
    }
    return {name: member for name, member in made.items() if name != "timingDateTime"} | changed


def _start_text(start: int) -> str:
    return "" if start == FIRST_INSTANT else to_text(start)
