"""Step 1: the simulated hospital: two wards, twelve invented patients, their devices and messages. Pure."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from pulseweir import clock
from pulseweir.ingest.recording_plan import sender_message_id
from pulseweir.ingest.simulation.devices import RHYTHMS, Members, with_artefact
from pulseweir.ingest.simulation.physiology import Course, Physiology, SimulatedPatient
from pulseweir.ingest.ward_setup import DeviceSetup, PatientSetup

Route = Literal["mqtt", "https", "edge"]
GATEWAY_ID = "sim-gateway-b"
_MICROSECONDS = 1_000_000
_STAYED_MICROSECONDS = 2 * 3600 * _MICROSECONDS
_DUPLICATE_EVERY = 25
_CATALOG_KINDS = {"arterial-monitor": "bedside-monitor"}

_WELL = Physiology(74, 15, 98, 124, 76, 36.9)
_SEPSIS = Course(45, 200, Physiology(138, 28, 93, 86, 48, 38.7, 2, "V"))
_HYPOXIA = Course(60, 210, Physiology(118, 29, 85, 142, 84, 37.3, 4, "C"))
_RECOVERY = Course(90, 180, Physiology(82, 16, 97, 122, 74, 37.2))


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """One device at a bed.

    Attributes:
        role: Key of `devices.RHYTHMS`.
        route: How its messages reach the hub.
        artefacts: Whether it shows impossible values now and then.
    """

    role: str
    route: Route = "mqtt"
    artefacts: bool = False


@dataclass(frozen=True, slots=True)
class SimulatedBed:
    """One bed with its patient."""

    ward: str
    number: int
    baseline: Physiology
    devices: tuple[SimulatedDevice, ...]
    course: Course | None = None
    spo2_scale: int | None = None


_NURSE = SimulatedDevice("nurse-entry")
_MONITOR = SimulatedDevice("bedside-monitor")
_PATCH = SimulatedDevice("patch")
BEDS = (
    SimulatedBed("Ward A", 1, Physiology(88, 17, 97, 118, 70, 37.8), (_MONITOR, _NURSE), _SEPSIS),
    SimulatedBed("Ward A", 2, Physiology(84, 17, 96, 130, 78, 37.1), (_MONITOR, _NURSE), _HYPOXIA),
    SimulatedBed("Ward A", 3, _WELL, (SimulatedDevice("arterial-monitor", artefacts=True), _NURSE)),
    SimulatedBed("Ward A", 4, Physiology(116, 23, 93, 106, 62, 37.6, 3), (_MONITOR, _NURSE), _RECOVERY),
    SimulatedBed("Ward A", 5, Physiology(80, 18, 90, 132, 78, 36.8, 2), (_MONITOR, _NURSE), spo2_scale=2),
    SimulatedBed("Ward A", 6, _WELL, (SimulatedDevice("bedside-monitor", "edge", artefacts=True), _NURSE)),
    SimulatedBed("Ward B", 7, _WELL, (_PATCH, _NURSE)),
    SimulatedBed("Ward B", 8, Physiology(84, 16, 97, 138, 82, 37.0), (_PATCH, _NURSE)),
    SimulatedBed("Ward B", 9, Physiology(66, 14, 98, 116, 70, 36.6), (_PATCH, _NURSE)),
    SimulatedBed(
        "Ward B",
        10,
        _WELL,
        (
            SimulatedDevice("pulse-oximeter"),
            SimulatedDevice("blood-pressure-cuff", "https"),
            SimulatedDevice("thermometer", "https"),
            _NURSE,
        ),
    ),
    SimulatedBed(
        "Ward B",
        11,
        Physiology(78, 16, 97, 128, 74, 36.8),
        (
            SimulatedDevice("pulse-oximeter", "edge"),
            SimulatedDevice("blood-pressure-cuff"),
            SimulatedDevice("thermometer"),
            _NURSE,
        ),
    ),
    SimulatedBed(
        "Ward B",
        12,
        Physiology(86, 18, 96, 134, 80, 37.2, 1),
        (SimulatedDevice("bedside-monitor", "https", artefacts=True), _NURSE),
    ),
)


@dataclass(frozen=True, slots=True)
class SimulatedConnection:
    """A device that connects by itself.

    Attributes:
        device_id: Its identity at the hub.
        kind: Catalog kind.
        route: Over which protocol, or through the edge.
        children: Devices it carries, if it is a gateway.
    """

    device_id: str
    kind: str
    route: Route
    children: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class SimulatedMessage:
    """One message of a simulated device.

    Attributes:
        connection: Device id of the connection that sends it.
        message_id: The sender's own id; a repeated message repeats it.
        body: JSON in the kind's catalog format.
        measured_at_microseconds: Device clock; also when it is sent.
    """

    connection: str
    message_id: str
    body: bytes
    measured_at_microseconds: int


class _Speaker:
    """One thing that speaks at its rhythm: a device, or a gateway for all its patches."""

    def __init__(self, connection: str, role: str, rng: np.random.Generator) -> None:
        self.connection = connection
        self.rhythm = RHYTHMS[role]
        self.phase_seconds = float(rng.uniform(0.0, 4.0))
        self.artefact_phase: int | None = None
        self.duplicate_phase = int(rng.integers(_DUPLICATE_EVERY))
        self.patients: list[tuple[str, SimulatedPatient]] = []
        self._last: dict[str, Members | None] = {}

    def said(self, look: int, measured_at: int, elapsed_seconds: float) -> bytes | None:
        """The body of this look's message; None for silence."""
        instant = clock.to_text(measured_at)
        readings = []
        for device_id, patient in self.patients:
            members = self.rhythm.members(patient.vitals_at(elapsed_seconds), look, self._last.get(device_id))
            if members is None:
                continue
            self._last[device_id] = members
            if self.artefact_phase is not None:
                members = with_artefact(members, look, self.artefact_phase)
            readings.append({"device": device_id, "measuredAt": instant} | members)
        if not readings:
            return None
        whole: dict[str, Any] = readings[0]
        if self.connection == GATEWAY_ID:
            whole = {"gateway": GATEWAY_ID, "readings": readings}
        return msgspec.json.encode(whole)


class SimulatedHospital:
    """Patients, connections and messages of one seed; equal seeds say equal things."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def patients(self, now_microseconds: int) -> tuple[PatientSetup, ...]:
        """Who lies where at that instant, having arrived two hours before."""
        return tuple(_setup(bed, now_microseconds - _STAYED_MICROSECONDS) for bed in BEDS)

    def connections(self) -> tuple[SimulatedConnection, ...]:
        """Every device that connects by itself; patches connect through their gateway."""
        children = tuple(_device_id(bed, device) for bed in BEDS for device in bed.devices if device.role == "patch")
        own = [
            SimulatedConnection(_device_id(bed, device), _kind(device), device.route)
            for bed in BEDS
            for device in bed.devices
            if device.role != "patch"
        ]
        return (*own, SimulatedConnection(GATEWAY_ID, "gateway", "mqtt", children))

    def messages(self, started_microseconds: int) -> Iterator[SimulatedMessage]:
        """All messages from that instant on, without end, in the order measured."""
        speakers = self._speakers()
        due = [(speaker.phase_seconds, place, 0) for place, speaker in enumerate(speakers)]
        heapq.heapify(due)
        while True:
            elapsed, place, look = due[0]
            speaker = speakers[place]
            heapq.heapreplace(due, (elapsed + speaker.rhythm.every_seconds, place, look + 1))
            measured_at = started_microseconds + round(elapsed * 1_000) * 1_000
            body = speaker.said(look, measured_at, elapsed)
            if body is None:
                continue
            own_id = sender_message_id(speaker.connection, measured_at)
            message = SimulatedMessage(speaker.connection, own_id, body, measured_at)
            yield message
            if speaker.artefact_phase is not None and look % _DUPLICATE_EVERY == speaker.duplicate_phase:
                yield message

    def _speakers(self) -> list[_Speaker]:
        """Everything that speaks; each draws from a generator of its own, so that order does not matter."""
        generators = iter(np.random.default_rng(self._seed).spawn(100))
        gateway = _Speaker(GATEWAY_ID, "patch", next(generators))
        speakers = [gateway]
        for bed in BEDS:
            patient = SimulatedPatient(bed.baseline, bed.course, next(generators))
            for device in bed.devices:
                device_id = _device_id(bed, device)
                rng = next(generators)
                if device.role == "patch":
                    gateway.patients.append((device_id, patient))
                    continue
                speaker = _Speaker(device_id, device.role, rng)
                speaker.patients.append((device_id, patient))
                speaker.artefact_phase = int(rng.integers(1, 20)) if device.artefacts else None
                speakers.append(speaker)
        return speakers


def _setup(bed: SimulatedBed, since_microseconds: int) -> PatientSetup:
    return PatientSetup(
        patient_id=f"sim-patient-{bed.number:02}",
        name=f"Sim Patient {bed.number:02}",
        birth_date=f"{1938 + 4 * bed.number}-0{1 + bed.number % 9}-1{bed.number % 10}",
        gender="female" if bed.number % 2 else "male",
        ward=bed.ward,
        bed=f"Bed {bed.number:02}",
        since_microseconds=since_microseconds,
        devices=tuple(DeviceSetup(_device_id(bed, device), _kind(device)) for device in bed.devices),
        spo2_scale=bed.spo2_scale,
    )


def _kind(device: SimulatedDevice) -> str:
    return _CATALOG_KINDS.get(device.role, device.role)


def _device_id(bed: SimulatedBed, device: SimulatedDevice) -> str:
    return f"sim-{device.role}-{bed.number:02}"
