"""Do the counts add up? Every acknowledged message and every measurement, accounted for exactly.

A group stores its positions and what became of the rows before them in one transaction, so both sides of a balance
can be read from a running house without stopping it.
"""

from dataclasses import dataclass
from pathlib import Path

from pulseweir.backends.bus.embedded import EmbeddedBus, ledger_path
from pulseweir.backends.bus.ledger import PARKED, QUARANTINED, Ledger
from pulseweir.backends.settings import BusSettings
from pulseweir.errors import RefuseToStart
from pulseweir.records.topics import DEVICE_MESSAGES, MEASUREMENTS
from pulseweir.telemetry import CONSERVATION_DIFFERENCE

MESSAGES_GROUP = "connector"
MEASUREMENTS_GROUP = "fhir-observations"
_FILTERED = "filtered:"


@dataclass(frozen=True, slots=True)
class Balance:
    """What became of every row of one topic in one group.

    Attributes:
        total: Rows ever published.
        done: Rows that reached their end, by outcome.
        filtered: Rows dropped by a named rule, by rule.
        quarantined: Rows that wait for a person.
        in_flight: Rows not yet committed, and rows parked to be tried again.
        difference: Rows committed but not accounted for; anything but 0 is a loss or a double count.
    """

    total: int
    done: dict[str, int]
    filtered: dict[str, int]
    quarantined: int
    in_flight: int
    difference: int


@dataclass(frozen=True, slots=True)
class Conservation:
    """The two balances of the house: device messages, and measurements on their way into FHIR.

    Attributes:
        messages: Of the connector.
        measurements: Of the Observation writer.
        conservation_difference: Sum of both absolute differences; anything but 0 is a loss or a double count.
    """

    messages: Balance
    measurements: Balance
    conservation_difference: int


def conserve(bus_directory: Path, settings: BusSettings | None = None) -> Conservation:
    """Draw up both balances; exact also while everything runs.

    Raises:
        RefuseToStart: There is no bus: nothing ever ran on this directory.
    """
    if not bus_directory.is_dir():
        raise RefuseToStart(f"{bus_directory} does not exist: nothing ran there. Name the house with --data-dir.")
    messages = balance(bus_directory, DEVICE_MESSAGES, MESSAGES_GROUP, settings)
    measurements = balance(bus_directory, MEASUREMENTS, MEASUREMENTS_GROUP, settings)
    difference = abs(messages.difference) + abs(measurements.difference)
    CONSERVATION_DIFFERENCE.set(difference)
    return Conservation(messages, measurements, difference)


def balance(bus_directory: Path, topic: str, group: str, settings: BusSettings | None = None) -> Balance:
    """The balance of one group on one topic."""
    log = EmbeddedBus(bus_directory, settings or BusSettings()).open_log(topic)
    ledger = Ledger(ledger_path(bus_directory, topic, group), topic)
    try:
        positions, tallies, aside = ledger.balance()
        committed = sum(log.rows_up_to(positions).values())
        total = log.total_rows()
    finally:
        ledger.close()
        log.close()
    parked = aside.get(PARKED, 0)
    quarantined = aside.get(QUARANTINED, 0)
    return Balance(
        total=total,
        done={name: rows for name, rows in tallies.items() if not name.startswith(_FILTERED)},
        filtered={name.removeprefix(_FILTERED): rows for name, rows in tallies.items() if name.startswith(_FILTERED)},
        quarantined=quarantined,
        in_flight=total - committed + parked,
        difference=committed - sum(tallies.values()) - quarantined - parked,
    )


def lag(bus_directory: Path, topic: str, group: str, settings: BusSettings | None = None) -> int:
    """Rows of a topic that a group has still to deal with, parked ones included."""
    return balance(bus_directory, topic, group, settings).in_flight
