"""`pulseweir edge`: one edge in a process of its own."""

import asyncio
import signal

import uvloop

from pulseweir.clock import Clock
from pulseweir.ingest.edge import Edge
from pulseweir.role_process import configure_logging
from pulseweir.run_files import write_ready
from pulseweir.settings import Settings
from pulseweir.systems import open_bus, open_registry


def run_edge(settings: Settings) -> None:
    """Take, store and forward until SIGTERM or SIGINT; what was not forwarded waits on disk.

    Raises:
        RefuseToStart: The edge cannot listen as configured.
    """
    configure_logging("edge")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings))


async def _run(settings: Settings) -> None:
    clock = Clock.from_environment()
    bus = open_bus(settings)
    edge = Edge(bus, open_registry(settings, clock), settings.edge, clock)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await edge.start()
    forwarding = asyncio.create_task(edge.run())
    write_ready(settings.data_dir, "edge", {"mqtt_port": edge.hub.mqtt_port, "mqtts_port": edge.hub.mqtts_port})
    await stopping.wait()
    await edge.stop()
    await forwarding
    await bus.close()
