"""When devices were last heard, whose clock is off, and what else is wrong with them, from the repository."""

from typing import Any

import msgspec

from pulseweir.backends.repository import device_signals
from pulseweir.backends.repository.rows import DeviceSignalRow
from pulseweir.clock import Clock, to_text
from pulseweir.operations.findings import Finding
from pulseweir.records.signal_facts import skew_text
from pulseweir.settings import Settings
from pulseweir.systems import open_repository

_DAY_MICROSECONDS = 86_400 * 1_000_000


def known_devices(settings: Settings, clock: Clock) -> dict[str, DeviceSignalRow]:
    """What is known of every device that was heard, by device id; nothing before there is a repository.

    Raises:
        RepositoryUnavailable: It cannot be reached.
    """
    if settings.repository.url is None and not (settings.data_dir / "repository.sqlite").exists():
        return {}
    repository = open_repository(settings, clock)
    try:
        with repository.reading() as transaction:
            return device_signals.by_device(transaction)
    finally:
        repository.close()


def shown(row: DeviceSignalRow | None) -> dict[str, Any]:
    """When a device last measured, its skew in seconds (positive is ahead of the hub) and in words, and its signals."""
    if row is None:
        return {"last_measured_at": None, "skew_seconds": None, "clock": "", "signals": []}
    return {
        "last_measured_at": None if row.good_at is None else to_text(row.good_at),
        "skew_seconds": row.skew_seconds,
        "clock": skew_text(row.skew_seconds),
        "signals": msgspec.json.decode(row.signals_json, type=list[str]),
    }


def examine_clocks(settings: Settings, clock: Clock) -> list[Finding]:
    """Devices heard within a day whose clock is ahead; nothing where no device was ever heard."""
    known = known_devices(settings, clock)
    recent = clock.now_microseconds() - _DAY_MICROSECONDS
    heard = [row for row in known.values() if row.received_at >= recent]
    if not heard:
        return []
    tolerance = settings.signals.clock_ahead_tolerance_seconds
    ahead = [row for row in heard if row.skew_seconds > tolerance]
    if not ahead:
        return [Finding("device clocks", True, f"{len(heard)} devices heard within a day, none ahead")]
    named = ", ".join(f"{row.device_id} {skew_text(row.skew_seconds)}" for row in sorted(ahead, key=_by_id))
    remedy = "Set the clock of each, or send times with their zone: readings ahead of their time are not scored."
    return [Finding("device clocks", False, f"ahead: {named}", remedy)]


def _by_id(row: DeviceSignalRow) -> str:
    return row.device_id
