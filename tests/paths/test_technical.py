"""From a device that is at fault to the list of the device team, in event time."""

import pytest

from patient_measurements import MINUTE, NOON, Reading, StillClock, by_shard, patient_measurements
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.repository import Repository, alerts, device_signals, outbox
from pulseweir.backends.repository.rows import AlertRow
from pulseweir.scoring.device_intake import Key
from pulseweir.scoring.device_kinds import DeviceKind
from pulseweir.scoring.signal_stage import SignalStage
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.coordination import CoordinationStage
from pulseweir.warm_path.settings import NoticeSettings

VITALS = {"heart_rate": 78.0, "respiratory_rate": 16.0, "spo2": 96.0}


class Here:
    """Every patient is here with their device."""

    def present(self, keys: list[Key]) -> dict[Key, bool | None]:
        return dict.fromkeys(keys, True)


async def play(readings: list[Reading], until: int, repository: Repository, bus: EmbeddedBus) -> list[AlertRow]:
    """Readings minute by minute through both stages; the alerts that were ever raised of the patient."""
    signals = SignalStage(Here(), StillClock(), read_kinds=lambda: {"1": DeviceKind("continuous", 60)})
    coordination = CoordinationStage(repository, bus, AlertSettings(), NoticeSettings())
    for minute in range(until):
        signals._clock = StillClock(instant=(minute + 1) * MINUTE)  # noqa: SLF001 - time passes
        arrived = [one for one in readings if minute * MINUTE <= (one.received or one.at) < (minute + 1) * MINUTE]
        if arrived:
            await signals.handle(by_shard(patient_measurements(arrived)))
        ticked = await signals.tick()
        if ticked is not None:
            for _, table in ticked.publish:
                await coordination.handle({0: table})
    return await repository.read(alerts.alerts_of, "ann")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("impossible", "impossible values of heart rate, respiratory rate, spo2"),
        ("silent", "has sent nothing"),
        ("frozen", "is frozen"),
        ("clock-ahead", "2 h 00 min ahead: local time sent without its zone?"),
    ],
)
async def test_a_fault_becomes_one_alert_that_nobody_is_paged_for_and_ends_with_it(
    fault: str, words: str, repository: Repository, bus: EmbeddedBus
) -> None:
    readings = [_reading(fault, minute, vital) for minute in range(80) for vital in VITALS]
    if fault == "silent":
        readings = [one for one in readings if not 10 <= one.at // MINUTE < 60]

    [row] = await play(readings, 59, repository, bus)

    assert (row.rule, row.kind, row.priority, row.closed_at) == (
        f"signal-{fault}:monitor-ann",
        "technical",
        "low",
        None,
    )
    assert words in row.reason
    assert row.action
    assert await repository.read(outbox.of_alert, row.alert_id) == []
    assert [one.alert_id for one in await repository.read(alerts.worklist, "devices")] == [row.alert_id]
    assert await repository.read(alerts.worklist, "unit") == []


async def test_a_device_that_becomes_well_ends_its_alert_and_its_skew_is_kept(
    repository: Repository, bus: EmbeddedBus
) -> None:
    readings = [_reading("impossible", minute, vital) for minute in range(20) for vital in VITALS]
    readings += [_reading("well", minute, vital) for minute in range(20, 30) for vital in VITALS]

    [row] = await play(readings, 30, repository, bus)
    [known] = await repository.read(device_signals.of_patient, "ann")

    assert (row.state, row.missed) == ("auto-cleared", False)
    assert row.closed_at is not None
    assert (known.device_id, known.skew_seconds) == ("monitor-ann", -1.0)
    assert known.received_at > NOON


def _reading(fault: str, minute: int, vital: str) -> Reading:
    well = VITALS[vital] + minute % 3
    if fault == "impossible":
        return Reading(vital, 0.0, minute * MINUTE)
    if fault == "frozen":
        return Reading(vital, VITALS[vital], minute * MINUTE)
    if fault == "clock-ahead":
        return Reading(vital, well, (minute + 120) * MINUTE, received=minute * MINUTE + 1)
    return Reading(vital, well, minute * MINUTE)
