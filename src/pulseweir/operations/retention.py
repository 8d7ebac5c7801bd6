"""Remove what the bus no longer needs: the raw archive, FHIR, the lake and the repository keep what happened."""

from pulseweir.backends.bus.embedded import EmbeddedBus, ledger_path
from pulseweir.backends.bus.ledger import Ledger
from pulseweir.clock import real_microseconds
from pulseweir.pipeline import GROUPS
from pulseweir.settings import Settings
from pulseweir.systems import bus_directory

_HOUR_SECONDS = 3_600
_SECOND = 1_000_000


def remove_settled(settings: Settings) -> int:
    """Unlink topic files that every group has dealt with and that are old enough; returns how many.

    A group that has never run holds its topic back whole: nothing is removed that somebody may still read.
    """
    untouched_since = real_microseconds() / _SECOND - settings.bus.keep_hours * _HOUR_SECONDS
    directory = bus_directory(settings)
    removed = 0
    for topic in dict.fromkeys(topic for topic, _ in GROUPS):
        log = EmbeddedBus(directory, settings.bus).open_log(topic)
        try:
            done = [_positions(settings, topic, group) for name, group in GROUPS if name == topic]
            removed += log.remove_settled(done, untouched_since)
        finally:
            log.close()
    return removed


def _positions(settings: Settings, topic: str, group: str) -> dict[int, int]:
    ledger = Ledger(ledger_path(bus_directory(settings), topic, group), topic)
    try:
        return ledger.balance()[0]
    finally:
        ledger.close()
