"""Step 18: signals of devices become alerts of their own list, and a page only where a patient at risk is unwatched."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patient_measurements import MINUTE
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.repository import Repository, alerts, device_signals, outbox
from pulseweir.records.flag_facts import FLAG_OPENED, FlagFact, flag_fact_table
from pulseweir.records.signal_facts import (
    SIGNAL_CLOSED,
    SIGNAL_OPENED,
    SIGNALS,
    DeviceHeard,
    SignalFact,
    signal_table,
)
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.care_resources import task
from pulseweir.warm_path.coordination import CoordinationStage
from pulseweir.warm_path.settings import NoticeSettings
from pulseweir.warm_path.technical_alerts import Watch, monitoring_lost, take_signal

SETTINGS = AlertSettings()


def signal(change: int = 1, **other: Any) -> SignalFact:
    facts: dict[str, Any] = {
        "patient_id": "p1",
        "device_id": "monitor-1",
        "signal": "silent",
        "change": change,
        "active": True,
        "since": 0,
        "at": 5 * MINUTE,
        "last_good_at": 0,
        "vitals": [],
        "skew_seconds": 0.0,
        "ward": "Ward A",
        "bed": "Bed 01",
    }
    return SignalFact(**(facts | other))


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_is_one_low_alert_that_says_what_to_do_and_pages_nobody(name: str) -> None:
    step = take_signal(signal(signal=name, vitals=["heart_rate"], skew_seconds=7_200), None, 5 * MINUTE)

    assert step is not None
    alert = step.alert
    assert (alert.kind, alert.device_id, alert.priority, alert.rule) == (
        "technical",
        "monitor-1",
        "low",
        f"signal-{name}:monitor-1",
    )
    assert "monitor-1" in alert.reason
    assert alert.action
    assert step.pages == []
    assert take_signal(signal(signal=name), alert, 6 * MINUTE) is None
    assert task(alert)["focus"]["identifier"]["value"] == "monitor-1"


def test_it_ends_by_itself_and_comes_back_as_another() -> None:
    raised = take_signal(signal(), None, 5 * MINUTE)
    assert raised is not None
    ended = take_signal(signal(2, active=False), raised.alert, 20 * MINUTE)
    assert ended is not None
    assert (ended.alert.state, ended.alert.closed_at, ended.alert.missed) == ("auto-cleared", 20 * MINUTE, False)

    again = take_signal(signal(3, since=60 * MINUTE), ended.alert, 65 * MINUTE)
    assert again is not None
    assert again.alert.alert_id != raised.alert.alert_id


def test_what_a_person_closed_stays_closed_for_that_episode() -> None:
    raised = take_signal(signal(), None, 5 * MINUTE)
    assert raised is not None
    closed = replace(raised.alert, state="resolved", closed_at=6 * MINUTE, outcome="device-problem")

    assert take_signal(signal(2, vitals=["spo2"]), closed, 7 * MINUTE) is None
    assert take_signal(signal(3, since=60 * MINUTE), closed, 65 * MINUTE) is not None


@pytest.mark.parametrize(
    ("at_risk", "life", "now", "paged"),
    [
        (True, 0, 11, True),
        (True, None, 16, True),
        (True, 0, 9, False),
        (True, 5, 14, False),
        (False, 0, 300, False),
    ],
)
def test_the_nurse_is_paged_once_monitoring_of_a_patient_at_risk_is_lost(
    at_risk: bool, life: int | None, now: int, *, paged: bool
) -> None:
    raised = take_signal(signal(), None, 5 * MINUTE)
    assert raised is not None
    life_at = None if life is None else life * MINUTE

    step = monitoring_lost(raised.alert, Watch(at_risk, life_at), now * MINUTE, SETTINGS)

    assert (step is not None) == paged
    if step is not None:
        assert step.alert.priority == "medium"
        assert [page.role for page in step.pages] == ["nurse"]
        assert "Monitoring of a patient at risk is lost" in step.alert.reason
        assert monitoring_lost(step.alert, Watch(at_risk, life_at), now * MINUTE, SETTINGS) is None


FACTS = st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.integers(0, 3)), max_size=30)


@given(FACTS)
def test_whatever_is_repeated_or_late_there_is_one_open_alert_and_the_newest_word_counts(
    told: list[tuple[int, bool, int]],
) -> None:
    current = None
    said: dict[tuple[int, int], bool] = {}
    for place, (change, is_active, since) in enumerate(told):
        active = said.setdefault((since, change), is_active)
        step = take_signal(signal(change, active=active, since=since * MINUTE), current, place * MINUTE)
        current = step.alert if step else current
        assert take_signal(signal(change, active=active, since=since * MINUTE), current, place * MINUTE) is None
    if current is not None and current.is_open:
        assert current.ended_at is None


@pytest.fixture
def stage(repository: Repository, bus: EmbeddedBus) -> CoordinationStage:
    return CoordinationStage(repository, bus, SETTINGS, NoticeSettings())


def heard(at: int, **other: Any) -> DeviceHeard:
    facts: dict[str, Any] = {
        "patient_id": "p1",
        "device_id": "monitor-1",
        "type": "heart-rate",
        "received_at": at,
        "good_at": at,
        "skew_seconds": 7_200.0,
        "signals": ["clock-ahead"],
        "at": at,
    }
    return DeviceHeard(**(facts | other))


async def test_facts_on_the_bus_become_an_alert_row_and_what_is_known_of_the_device(
    stage: CoordinationStage, repository: Repository
) -> None:
    opened = signal_table([(SIGNAL_OPENED, signal())], [heard(2 * MINUTE), heard(MINUTE, skew_seconds=1.0)])

    first = await stage.handle({0: opened})
    await stage.handle({0: opened})

    assert first.outcome.tallies == {"taken": 3}
    [row] = await repository.read(alerts.open_alerts, patient_id="p1")
    assert (row.kind, row.device_id, row.priority, row.state) == ("technical", "monitor-1", "low", "raised")
    assert await repository.read(outbox.of_alert, row.alert_id) == []
    known = (await repository.read(device_signals.by_device))["monitor-1"]
    assert (known.skew_seconds, known.signals_json, known.updated_at) == (7_200.0, '["clock-ahead"]', 2 * MINUTE)

    await stage.handle({0: signal_table([(SIGNAL_CLOSED, signal(2, active=False))])})
    assert await repository.read(alerts.open_alerts, patient_id="p1") == []


async def test_a_patient_with_an_open_clinical_alert_who_is_no_longer_watched_is_paged_once(
    stage: CoordinationStage, repository: Repository
) -> None:
    flagged = FlagFact(
        flag_id="f1", patient_id="p1", rule="news2", change=1, status="active", band="high", score=8.0, backfill=False,
        reason="NEWS2 8", start_at=0, last_window_end=MINUTE, end_at=None, ward="Ward A", bed="Bed 01",
        care_team_id=None, care_team=None,
    )  # fmt: skip
    await stage.handle({0: flag_fact_table([(FLAG_OPENED, flagged)])})
    await stage.handle({0: signal_table([(SIGNAL_OPENED, signal()), (SIGNAL_OPENED, signal(patient_id="p2"))])})
    now = repository.clock.now_microseconds() + 20 * MINUTE

    assert await stage._devices.watch_at(now) == 1  # noqa: SLF001 - what the tick does, at an instant
    assert await stage._devices.watch_at(now) == 0  # noqa: SLF001

    rows = {row.patient_id: row for row in await repository.read(alerts.open_alerts) if row.kind == "technical"}
    assert (rows["p1"].priority, rows["p2"].priority) == ("medium", "low")
