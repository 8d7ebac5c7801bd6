"""What a house has done so far, added up: the last line of a demonstration or a replay."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from pulseweir.backends.repository import Transaction, alerts, outbox, reports
from pulseweir.clock import Clock
from pulseweir.operations.conserve import conserve
from pulseweir.settings import Settings
from pulseweir.systems import bus_directory, open_fhir, open_repository


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of a latency, real seconds; None where nothing was measured."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        """The percentiles of samples in seconds."""
        if not samples:
            return cls()
        p50, p95, p99 = np.percentile(samples, (50, 95, 99))
        return cls(round(float(p50), 4), round(float(p95), 4), round(float(p99), 4))


@dataclass(frozen=True, slots=True)
class Latencies:
    """From the device's clock to the repository, and to a screen; of live rows."""

    measured_to_recorded: Percentiles
    measured_to_screen: Percentiles


@dataclass(frozen=True, slots=True)
class Sums:
    """What a bounded run did. Resources are counted once each, however often they were written.

    Attributes:
        messages_acknowledged: Device messages the hub holds durably.
        measurements: Normalized measurements made of them.
        observations: Observations in FHIR, those of scores left out.
        risk_assessments: RiskAssessments in FHIR.
        flags: Flags in FHIR.
        alerts: Alerts raised.
        notifications: Taken by a channel that people look at.
        notifications_untaken: Meant for people and taken by none, as where no channel is set up.
        quarantined: Rows that wait for a person, in both balances.
        filtered: Rows dropped by a named rule, in both balances.
        in_flight: Rows on their way, in both balances.
        conservation_difference: Rows unaccounted for: must be 0.
        latency_seconds: Real seconds.
        peak_rss_mb: Highest resident memory of all roles together, megabytes; None when nobody watched.
        is_settled: Whether everything sent had reached its end when this was added up.
        readings: Of a replay: recorded readings sent.
        acknowledge_p99_seconds: Of a replay: send to acknowledgement.
        seconds: Of a replay: first send to settled.
    """

    messages_acknowledged: int
    measurements: int
    observations: int
    risk_assessments: int
    flags: int
    alerts: int
    notifications: int
    notifications_untaken: int
    quarantined: int
    filtered: int
    in_flight: int
    conservation_difference: int
    latency_seconds: Latencies
    peak_rss_mb: float | None
    is_settled: bool
    readings: int | None = None
    acknowledge_p99_seconds: float | None = None
    seconds: float | None = None


async def add_up(
    settings: Settings,
    clock: Clock,
    *,
    is_settled: bool,
    screen_seconds: Sequence[float] = (),
    peak_rss_mb: float | None = None,
    **replayed: Any,
) -> Sums:
    """Add up what a house holds; its FHIR service must be running.

    Raises:
        RetryLater: The FHIR service or the repository is not there.
    """
    books = await asyncio.to_thread(conserve, bus_directory(settings), settings.bus)
    both = (books.messages, books.measurements)
    fhir, repository = open_fhir(settings), open_repository(settings, clock)
    try:
        observations = await fhir.count("Observation", {}) - await fhir.count("Observation", {"category": "survey"})
        recorded = await repository.read(reports.latency_samples)
        return Sums(
            messages_acknowledged=books.messages.total,
            measurements=books.measurements.total,
            observations=observations,
            risk_assessments=await fhir.count("RiskAssessment", {}),
            flags=await fhir.count("Flag", {}),
            alerts=await repository.read(alerts.count),
            notifications=await repository.read(_notifications, taken=True),
            notifications_untaken=await repository.read(_notifications, taken=False),
            quarantined=sum(balance.quarantined for balance in both),
            filtered=sum(sum(balance.filtered.values()) for balance in both),
            in_flight=sum(balance.in_flight for balance in both),
            conservation_difference=books.conservation_difference,
            latency_seconds=Latencies(Percentiles.of(recorded), Percentiles.of(screen_seconds)),
            peak_rss_mb=peak_rss_mb,
            is_settled=is_settled,
            **replayed,
        )
    finally:
        repository.close()
        await fhir.close()


def _notifications(transaction: Transaction, *, taken: bool) -> int:
    entries = outbox.count(transaction)
    return sum(
        number
        for (kind, state), number in entries.items()
        if kind == outbox.NOTIFICATION and (state == outbox.SENT) is taken
    )
