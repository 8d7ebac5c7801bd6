"""The shared journey of the four path tests: one house, the whole recording, kept running for all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from paths.journey import OVERRIDES, Background, Journey, Webhook, open_journey, replay_all
from paths.recount import HOURS, Patient, read_recording
from pulseweir.clock import real_microseconds
from pulseweir.ingest.recording import plan_recording
from pulseweir.ingest.recording_plan import RecordingOptions

COLOURS = ("test_blue", "test_green", "test_green_history", "test_red", "test_orange")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Walk the paths in the order of the journey: people act on the alert last."""
    ours = [place for place, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    ordered = sorted((items[place] for place in ours), key=lambda item: _place(item.path.stem))
    for place, item in zip(ours, ordered, strict=True):
        items[place] = item


def _place(module: str) -> int:
    return COLOURS.index(module) if module in COLOURS else len(COLOURS)


@pytest.fixture(scope="session")
def recording(test_data: Path) -> Path:
    """The folder of the recording."""
    folder = test_data / "mimic3-demo"
    if not folder.is_dir():
        pytest.skip("PULSEWEIR_TEST_DATA holds no mimic3-demo")
    return folder


@pytest.fixture(scope="session")
def recount(recording: Path) -> dict[int, Patient]:
    """The recording, read by the tests' own code."""
    return read_recording(recording, HOURS)


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    """A running event loop."""
    loop = Background()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def webhook() -> Iterator[Webhook]:
    """Where Adaptive Cards arrive."""
    receiver = Webhook()
    yield receiver
    receiver.close()


@pytest.fixture(scope="session")
def journey(
    background: Background,
    webhook: Webhook,
    recording: Path,
    recount: dict[int, Patient],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Journey]:
    """The house after the replay, all settled."""
    start = real_microseconds()
    plan = plan_recording("mimic3-demo", recording, start, RecordingOptions(hours=HOURS))
    overrides = {
        **OVERRIDES,
        "coordination": {"teams_webhook_url": webhook.url},
        # The recording's charts by hand are as old as the rest of it: one limit tells what is backfill.
        "windows": {"hand_charted_backfill_after_seconds": 900},
    }
    begun = open_journey(background, tmp_path_factory.mktemp("journey"), plan, recount, start, overrides)
    try:
        replay_all(begun)
        yield begun
    finally:
        begun.close()
