"""Step 16: the report tables, their refresh, and samples of latency."""

from collections.abc import Collection, Iterable
from statistics import quantiles

from sqlalchemy import case, delete, func, insert, literal_column, select

from pulseweir.backends.repository import changes
from pulseweir.backends.repository.rows import AlertBurdenRow, RefreshRow, WardSummaryRow
from pulseweir.backends.repository.schema import ALERT, FLAG, LIVE_ROW, SCORE
from pulseweir.backends.repository.schema_people import ALERT_BURDEN, LATENCY_SAMPLE, REFRESH_RUN, WARD_SUMMARY
from pulseweir.backends.repository.scores import DEFAULT_MODEL
from pulseweir.backends.repository.store import Transaction
from pulseweir.site_time import SiteTime

LATENCY_SAMPLES_KEPT = 20_000
_SECOND = 1_000_000


def ward_summary(transaction: Transaction, *, wards: Collection[str] | None = None) -> list[WardSummaryRow]:
    """The ward report as last refreshed."""
    query = select(*changes.columns(WardSummaryRow, WARD_SUMMARY)).order_by(WARD_SUMMARY.c.ward)
    if wards is not None:
        query = query.where(WARD_SUMMARY.c.ward.in_(wards))
    return changes.typed(WardSummaryRow, transaction.execute(query))


def alert_burden(
    transaction: Transaction, *, wards: Collection[str] | None = None, since: int = 0
) -> list[AlertBurdenRow]:
    """The alert-burden report as last refreshed, newest day first."""
    query = select(*changes.columns(AlertBurdenRow, ALERT_BURDEN)).where(ALERT_BURDEN.c.day_start >= since)
    if wards is not None:
        query = query.where(ALERT_BURDEN.c.ward.in_(wards))
    ordered = query.order_by(ALERT_BURDEN.c.day_start.desc(), ALERT_BURDEN.c.ward, ALERT_BURDEN.c.rule)
    return changes.typed(AlertBurdenRow, transaction.execute(ordered))


def last_refresh(transaction: Transaction, *, cause: str | None = None) -> RefreshRow | None:
    """The newest run of the refresh."""
    query = select(*changes.columns(RefreshRow, REFRESH_RUN)).order_by(REFRESH_RUN.c.number.desc()).limit(1)
    if cause is not None:
        query = query.where(REFRESH_RUN.c.cause == cause)
    found = changes.typed(RefreshRow, transaction.execute(query))
    return found[0] if found else None


def refresh(
    transaction: Transaction,
    *,
    now: int,
    cause: str,
    requested_by: str = "",
    days: int = 14,
    site: SiteTime | None = None,
) -> RefreshRow:
    """Make every report anew, in one transaction, and remember the run; days are those of the site."""
    changes.take(transaction)
    _refresh_wards(transaction, now)
    _refresh_burden(transaction, now, days, site or SiteTime())
    number = (transaction.execute(select(func.max(REFRESH_RUN.c.number))).scalar() or 0) + 1
    row = RefreshRow(number=number, cause=cause, requested_by=requested_by, started_at=now, finished_at=now)
    transaction.execute(insert(REFRESH_RUN), changes.values_of(row))
    return row


def add_latencies(transaction: Transaction, stage: str, seconds: Iterable[float]) -> None:
    """Keep samples of a latency; only the newest `LATENCY_SAMPLES_KEPT` stay."""
    last = transaction.execute(select(func.max(LATENCY_SAMPLE.c.number))).scalar() or 0
    rows = [{"number": last + place, "stage": stage, "seconds": sample} for place, sample in enumerate(seconds, 1)]
    if not rows:
        return
    transaction.execute(insert(LATENCY_SAMPLE), rows)
    horizon = last + len(rows) - LATENCY_SAMPLES_KEPT
    transaction.execute(delete(LATENCY_SAMPLE).where(LATENCY_SAMPLE.c.number <= horizon))


def latency_samples(transaction: Transaction, stage: str = "recorded") -> list[float]:
    """The kept samples of one stage, oldest first, real seconds."""
    query = select(LATENCY_SAMPLE.c.seconds).where(LATENCY_SAMPLE.c.stage == stage).order_by(LATENCY_SAMPLE.c.number)
    return [float(sample) for sample in transaction.execute(query).scalars()]


def _refresh_wards(transaction: Transaction, now: int) -> None:
    transaction.execute(delete(WARD_SUMMARY))
    ward = func.coalesce(LIVE_ROW.c.ward, "")
    patients = select(
        ward,
        func.count(),
        *(func.count(case((LIVE_ROW.c.band == band, 1))) for band in ("high", "medium", "low-medium", "low")),
        func.count(case((LIVE_ROW.c.status == "insufficient-data", 1))),
    ).where(LIVE_ROW.c.model == DEFAULT_MODEL)
    flag_ward = func.coalesce(FLAG.c.ward, "")
    open_flags = select(flag_ward, func.count()).where(FLAG.c.status == "active").group_by(flag_ward)
    flags: dict[str, int] = {name: number for name, number in transaction.execute(open_flags)}
    alerts = _open_alerts(transaction)
    for name, count, high, medium, low_medium, low, insufficient in transaction.execute(patients.group_by(ward)):
        open_count, unacknowledged, oldest = alerts.get(name, (0, 0, None))
        row = WardSummaryRow(
            ward=name,
            patients=count,
            high=high,
            medium=medium,
            low_medium=low_medium,
            low=low,
            insufficient=insufficient,
            flags_open=flags.get(name, 0),
            alerts_open=open_count,
            alerts_unacknowledged=unacknowledged,
            oldest_unacknowledged_at=oldest,
            refreshed_at=now,
        )
        transaction.execute(insert(WARD_SUMMARY), changes.values_of(row))


def _open_alerts(transaction: Transaction) -> dict[str, tuple[int, int, int | None]]:
    ward = func.coalesce(ALERT.c.ward, "")
    waiting = ALERT.c.acknowledged_at.is_(None)
    query = (
        select(ward, func.count(), func.count(case((waiting, 1))), func.min(case((waiting, ALERT.c.raised_at))))
        .where(ALERT.c.closed_at.is_(None), ALERT.c.kind == "clinical")
        .group_by(ward)
    )
    return {name: (count, unseen, oldest) for name, count, unseen, oldest in transaction.execute(query)}


def _refresh_burden(transaction: Transaction, now: int, days: int, site: SiteTime) -> None:
    first_day = site.days_back(now, days - 1)
    transaction.execute(delete(ALERT_BURDEN).where(ALERT_BURDEN.c.day_start >= first_day))
    exposure = _patient_days(transaction, [site.days_back(now, back) for back in range(days)])
    groups: dict[tuple[str, str, int], list[tuple[int | None, str, str | None, bool, int, int | None]]] = {}
    query = select(ALERT).where(ALERT.c.raised_at >= first_day, ALERT.c.kind == "clinical")
    for row in transaction.execute(query):
        day = site.day_start(row.raised_at)
        waited = None if row.acknowledged_at is None else row.acknowledged_at - row.raised_at
        fact = (waited, row.state, row.owner, row.missed, row.level, row.claimed_at)
        groups.setdefault((row.ward or "", row.rule, day), []).append(fact)
    for (ward, rule, day), facts in groups.items():
        patients = exposure.get((ward, day), 0)
        waits = [waited / _SECOND for waited, *_ in facts if waited is not None]
        burden = AlertBurdenRow(
            ward=ward,
            rule=rule,
            day_start=day,
            alerts=len(facts),
            patient_days=float(patients),
            alerts_per_patient_day=len(facts) / patients if patients else None,
            acknowledged=len(waits),
            acted_on=sum(fact[1] in ("in-progress", "resolved") for fact in facts),
            rejected=sum(fact[1] == "rejected" for fact in facts),
            missed=sum(fact[3] for fact in facts),
            escalated=sum(fact[4] > 1 for fact in facts),
            median_acknowledge_seconds=_quantile(waits, 0.5),
            p90_acknowledge_seconds=_quantile(waits, 0.9),
            refreshed_at=now,
        )
        transaction.execute(insert(ALERT_BURDEN), changes.values_of(burden))


def _patient_days(transaction: Transaction, starts: list[int]) -> dict[tuple[str, int], int]:
    """Patients scored, by ward and first instant of the day; `starts` are the days, newest first."""
    ward = func.coalesce(SCORE.c.ward, "")
    # Written once: PostgreSQL takes two expressions with parameters of their own for different ones.
    day = case(*((SCORE.c.window_end >= start, literal_column(str(start))) for start in starts))
    query = (
        select(ward, day, func.count(SCORE.c.patient_id.distinct()))
        .where(SCORE.c.window_end >= starts[-1], SCORE.c.model == DEFAULT_MODEL)
        .group_by(ward, day)
    )
    return {(name, start): count for name, start, count in transaction.execute(query)}


def _quantile(samples: list[float], fraction: float) -> float | None:
    if not samples:
        return None
    if len(samples) == 1:
        return samples[0]
    return quantiles(samples, n=100, method="inclusive")[round(fraction * 100) - 1]
