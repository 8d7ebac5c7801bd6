"""One process of a house: logging, metrics, signals, and the roles it runs until it is told to stop."""

import asyncio
import gc
import logging
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog
import uvloop

from pulseweir import __version__
from pulseweir.clock import Clock
from pulseweir.errors import PulseweirError
from pulseweir.operations.retention import remove_settled
from pulseweir.operations.status import take_stock
from pulseweir.pipeline import ROLES, House
from pulseweir.run_files import supervisor_is_gone, write_ready
from pulseweir.settings import Settings
from pulseweir.telemetry import BUILD_INFO, serve_metrics

_LOOK_SECONDS = 1.0
_STOCK_SECONDS = 15.0
_STOCK_ROLE = "connector"
_OPEN_FILES = 65_536
# Batches make many objects that live as long as the batch: collecting less often costs less than it keeps.
_COLLECT_THRESHOLDS = (20_000, 20, 50)


def run_roles(roles: Sequence[str], settings: Settings, clock: Clock) -> None:
    """Run roles in this process until SIGTERM, SIGINT or the supervisor's death.

    Raises:
        RefuseToStart: A role cannot start as configured.
    """
    configure_logging(",".join(roles))
    allow_connections()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(roles, settings, clock))


def allow_connections() -> None:
    """Take more open files than the 1 024 that are common, where the system lets us: each connection is one."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def configure_logging(role: str) -> None:
    """JSON lines on standard error; only our own events, so that no library can log patient data."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.EventRenamer("event"),
            _with_role(role),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.getLogger().handlers[:] = [logging.NullHandler()]


def _with_role(role: str) -> Any:
    def add(_logger: Any, _method: str, event: Any) -> Any:
        return {**event, "role": role}

    return add


async def _run(roles: Sequence[str], settings: Settings, clock: Clock) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    BUILD_INFO.labels(__version__).set(1)
    metrics_port = serve_metrics(settings.metrics_port)
    house = House(settings, clock)
    try:
        for role in roles:
            facts = await ROLES[role](house)
            write_ready(settings.data_dir, role, {"metrics_port": metrics_port, **facts})
        if _STOCK_ROLE in roles:
            house.loop(_take_stock(settings))
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT_THRESHOLDS)
        await _until_stopped(house, stopping)
    finally:
        await house.close()


async def _take_stock(settings: Settings) -> None:
    """Metrics and house-keeping of the whole house, a few times a minute; one process of it is enough."""
    while True:
        await asyncio.sleep(_STOCK_SECONDS)
        with suppress(PulseweirError):
            await asyncio.to_thread(take_stock, settings)
            await asyncio.to_thread(remove_settled, settings)


async def _until_stopped(house: House, stopping: asyncio.Event) -> None:
    """Return when told to stop; raise what made a worker fail, so that the supervisor starts this role anew."""
    while not stopping.is_set():
        waiting = [*house.tasks, asyncio.create_task(stopping.wait())]
        done, _ = await asyncio.wait(waiting, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        waiting[-1].cancel()
        for task in done - {waiting[-1]}:
            task.result()
            return
        if supervisor_is_gone():
            return
