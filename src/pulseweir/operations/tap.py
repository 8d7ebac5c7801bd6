"""`pulseweir tap`: measurements for other consumers, one JSON line each, in the predecessor's normalized format."""

import asyncio
from collections.abc import Callable, Mapping

import pyarrow as pa

from pulseweir.errors import RetryLater
from pulseweir.ingest.json_tap import normalized_messages
from pulseweir.operations.conserve import lag
from pulseweir.records.topics import MEASUREMENTS
from pulseweir.settings import Settings
from pulseweir.systems import bus_directory, open_bus
from pulseweir.worker import Handled, Stage, Worker

_LOOK_SECONDS = 0.2
Write = Callable[[str], None]


class TapStage(Stage):
    """Writes every measurement as a line; a line may come again after a crash, never not at all."""

    topic = MEASUREMENTS
    commit_seconds = 0.0

    def __init__(self, group: str, write: Write) -> None:
        self.group = group
        self._write = write

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Write the rows; each counts as done once its line was handed over."""
        handled = Handled()
        for table in tables.values():
            for _, text in normalized_messages(table):
                self._write(text.decode())
            handled.outcome.count("tapped", table.num_rows)
        return handled


async def tap(settings: Settings, group: str, write: Write, *, follow: bool) -> None:
    """Hand every measurement that this group has not had yet to `write`.

    Args:
        settings: Where the bus is.
        group: Name of the consumer group; each has its own place in the topic.
        write: Takes one JSON document a call. It is patient data.
        follow: Go on with what comes, until cancelled; else end when the topic is read.
    """
    reader_left = asyncio.Event()

    def hand_over(text: str) -> None:
        try:
            write(text)
        except BrokenPipeError as error:
            reader_left.set()
            raise RetryLater("Whoever read these lines has left. Run the tap again to go on from here.") from error

    bus = open_bus(settings)
    stage = TapStage(f"tap-{group}", hand_over)
    worker = Worker(stage, bus, await bus.subscribe(stage.topic, stage.group))
    running = asyncio.create_task(worker.run())
    try:
        while not reader_left.is_set() and (follow or await asyncio.to_thread(_left, settings, stage.group)):
            done, _ = await asyncio.wait([running], timeout=_LOOK_SECONDS)
            if done:
                break
    finally:
        worker.stop()
        await running
        await bus.close()


def _left(settings: Settings, group: str) -> bool:
    return lag(bus_directory(settings), MEASUREMENTS, group, settings.bus) > 0
