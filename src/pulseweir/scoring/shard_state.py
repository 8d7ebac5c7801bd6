"""Step 10: what the engine remembers of one shard, and its form on disk. Pure.

Values are immutable by convention: scoring makes a new state and leaves the old one usable, so that a caller whose
publish failed simply goes on with what it had.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from pulseweir.errors import RefuseToStart

Rows = npt.NDArray[np.void]
Places = npt.NDArray[np.int32]

READING = np.dtype(
    [
        ("occurred", "<i8"),
        ("received", "<i8"),  # newest reception of this value: the last received holds
        ("arrived", "<i8"),  # its first reception
        ("number", "<f8"),
        ("source", "<i4"),  # place in `ShardState.sources`
        ("context", "<i4"),  # place in `ShardState.contexts`, -1 for unknown
        ("vital", "i1"),
        ("quality", "i1"),
        ("seen", "?"),  # came on the bus; otherwise only read back from the lake
        ("observation", "S64"),
    ]
)
WINDOW = np.dtype([("number", "<i8"), ("revision", "<i4"), ("digest", "<u8")])
KNOWN = np.dtype([("at", "<i8"), ("context", "<i4")])
"""A context that became known by itself, not with a reading."""

_FORM = 2
_READABLE_FORMS = (1, 2)
"""Form 1 knew neither `Context.pregnant`, `PatientState.known` nor `PatientState.released_at`."""
Key = TypeVar("Key")


class Source(NamedTuple):
    """Where readings come from: equal sources and instants make equal readings."""

    device_id: str
    type: str
    name: str


class Context(NamedTuple):
    """The patient as enrichment knew them when a reading passed."""

    version: int
    age_years: int | None
    sex: str | None
    ward: str | None
    bed: str | None
    spo2_scale: int | None
    pregnant: bool | None = None


@dataclass(frozen=True, slots=True)
class PatientState:
    """One patient.

    Attributes:
        readings: Of dtype `READING`, in no particular order; unique by source and instant.
        windows: Of dtype `WINDOW`, ascending, that had data and may still be revised; revision 0 is open.
        watermark: Newest accepted instant, microseconds.
        touched_at: When a measurement last arrived, engine clock.
        live_at: When the last live row was made, engine clock.
        live_waits: Whether something happened since.
        due_at: When time alone has work for this patient.
        known: Of dtype `KNOWN`: contexts read after the readings that they concern.
        released_at: Until when held readings were let into their windows, engine clock.
    """

    readings: Rows
    windows: Rows
    watermark: int
    touched_at: int
    live_at: int
    live_waits: bool
    due_at: int
    known: Rows = field(default_factory=lambda: np.zeros(0, KNOWN))
    released_at: int = 0


NEVER = 2**62


@dataclass(frozen=True, slots=True)
class ShardState:
    """One shard.

    Attributes:
        patients: By patient id.
        sources: Every source seen, with its number, in order of appearance.
        contexts: Every context seen, likewise.
    """

    patients: Mapping[str, PatientState] = field(default_factory=dict)
    sources: Mapping[Source, int] = field(default_factory=dict)
    contexts: Mapping[Context, int] = field(default_factory=dict)

    @property
    def due_at(self) -> int:
        """When time alone has work for any patient, microseconds of the engine clock."""
        return min((patient.due_at for patient in self.patients.values()), default=NEVER)

    @property
    def waiting(self) -> int:
        """Patients with an open window, or with something that no live row has shown yet."""
        return sum(
            1 for patient in self.patients.values() if patient.live_waits or (patient.windows["revision"] == 0).any()
        )

    def to_bytes(self) -> bytes:
        """The whole state; `from_bytes` gives it back."""
        return msgspec.msgpack.encode(
            _Document(
                _FORM,
                list(self.sources),
                list(self.contexts),
                {name: _stored(patient) for name, patient in self.patients.items()},
            )
        )

    @classmethod
    def from_bytes(cls, document: bytes) -> "ShardState":
        """The state that `to_bytes` wrote.

        Raises:
            RefuseToStart: Another release wrote it, in a form this one does not know.
        """
        stored = msgspec.msgpack.decode(document, type=_Document)
        if stored.form not in _READABLE_FORMS:
            raise RefuseToStart(
                f"A scoring snapshot has form {stored.form}; this release knows {_FORM}. Run the release that wrote it."
            )
        patients = {name: _restored(patient) for name, patient in stored.patients.items()}
        return cls(patients, _numbered(stored.sources), _numbered(stored.contexts))


class _Patient(msgspec.Struct, array_like=True):
    readings: bytes
    windows: bytes
    watermark: int
    touched_at: int
    live_at: int
    live_waits: bool
    due_at: int
    known: bytes = b""
    released_at: int = 0


class _Document(msgspec.Struct, array_like=True):
    form: int
    sources: list[Source]
    contexts: list[Context]
    patients: dict[str, _Patient]


def _numbered(values: Sequence[Key]) -> dict[Key, int]:
    return {value: number for number, value in enumerate(values)}


def _stored(patient: PatientState) -> _Patient:
    return _Patient(
        patient.readings.tobytes(),
        patient.windows.tobytes(),
        patient.watermark,
        patient.touched_at,
        patient.live_at,
        patient.live_waits,
        patient.due_at,
        patient.known.tobytes(),
        patient.released_at,
    )


def _restored(stored: _Patient) -> PatientState:
    return PatientState(
        np.frombuffer(stored.readings, READING),
        np.frombuffer(stored.windows, WINDOW),
        stored.watermark,
        stored.touched_at,
        stored.live_at,
        stored.live_waits,
        stored.due_at,
        np.frombuffer(stored.known, KNOWN),
        stored.released_at,
    )


def joined(first: ShardState, second: ShardState) -> ShardState:
    """One state of the patients of both, as an engine that owns several shards scores them in one call."""
    sources, contexts = _with(first.sources, second.sources), _with(first.contexts, second.contexts)
    moved = _moved(
        second.patients,
        np.array([sources[one] for one in second.sources], np.int32),
        np.array([contexts[one] for one in second.contexts], np.int32),
    )
    return ShardState({**first.patients, **moved}, sources, contexts)


def share(state: ShardState, names: Iterable[str]) -> ShardState:
    """The state of some of the patients, with only the sources and contexts they use."""
    patients = {name: state.patients[name] for name in names if name in state.patients}
    sources, source_places = _used(state.sources, [one.readings["source"] for one in patients.values()])
    contexts, context_places = _used(
        state.contexts, [part["context"] for one in patients.values() for part in (one.readings, one.known)]
    )
    return ShardState(_moved(patients, source_places, context_places), sources, contexts)


def _with(known: Mapping[Key, int], more: Mapping[Key, int]) -> dict[Key, int]:
    fresh = [key for key in more if key not in known]
    return {**known, **{key: len(known) + place for place, key in enumerate(fresh)}}


def _used(keys: Mapping[Key, int], columns: Sequence[npt.NDArray[np.int32]]) -> tuple[dict[Key, int], Places]:
    """The keys whose numbers appear, and each old number's new one."""
    numbers = np.unique(np.concatenate(columns)) if columns else np.zeros(0, np.int32)
    numbers = numbers[numbers >= 0]
    places = np.full(len(keys), -1, np.int32)
    places[numbers] = np.arange(len(numbers))
    words = list(keys)
    return _numbered([words[number] for number in numbers]), places


def _moved(patients: Mapping[str, PatientState], sources: Places, contexts: Places) -> dict[str, PatientState]:
    """The patients with their readings' sources and contexts renumbered; -1 stays."""
    moved = {}
    for name, patient in patients.items():
        readings = patient.readings.copy()
        readings["source"] = sources[readings["source"]]
        readings["context"] = np.append(contexts, np.int32(-1))[readings["context"]]
        known = patient.known.copy()
        known["context"] = contexts[known["context"]]
        moved[name] = replace(patient, readings=readings, known=known)
    return moved
