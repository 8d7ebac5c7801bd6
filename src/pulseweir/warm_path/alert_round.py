"""Step 18: the round: open alerts compared with where patients are now, and with who still works where."""

from functools import partial

from pulseweir.backends.repository import Transaction, alerts, flags, people
from pulseweir.backends.repository.alerts import Place
from pulseweir.backends.repository.rows import FlagRow, UserRow
from pulseweir.records.flag_facts import FlagFact
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.alert_store import change, store, to_alert
from pulseweir.warm_path.alerts import Alert, Step, moved, rewound, still_present, unassigned
from pulseweir.warm_path.settings import NoticeSettings

_SECOND = 1_000_000

ACTING_ROLES = frozenset({"nurse", "clinician", "charge-nurse"})
"""Roles that act on patients: only their accounts may own an alert."""


def may_own(account: UserRow | None, ward: str | None) -> bool:
    """Whether an alert of this ward may be an account's: it is enabled, acts on patients, and reaches the ward."""
    if account is None or account.disabled or account.role not in ACTING_ROLES:
        return False
    wards = people.wards_of(account)
    return wards is None or ward in wards


def strays(transaction: Transaction) -> tuple[list[tuple[str, Place]], list[str]]:
    """What a round must see to: alerts in the wrong place, and alerts whose owner may no longer act."""
    owned = alerts.owned(transaction)
    accounts = {row.user_name: row for row in people.users(transaction)} if owned else {}
    lost = [alert_id for alert_id, owner, ward in owned if not may_own(accounts.get(owner), ward)]
    return alerts.misplaced(transaction), lost


def go_round(transaction: Transaction, now: int, settings: AlertSettings, notices: NoticeSettings) -> None:
    """Let open alerts follow their patients, and take them from owners who may no longer act."""
    for alert_id, place in alerts.misplaced(transaction):
        change(transaction, alert_id, partial(_to_place, place=place, now=now), notices)
    _, lost = strays(transaction)
    for alert_id in lost:
        change(transaction, alert_id, partial(unassigned, now=now, settings=settings), notices)


def rewind(transaction: Transaction, settings: AlertSettings, notices: NoticeSettings) -> None:
    """Give every open alert the next step that these settings mean: after an upgrade, or a change of settings."""
    for row in alerts.open_alerts(transaction):
        if row.kind == alerts.CLINICAL:
            change(transaction, row.alert_id, partial(rewound, settings=settings), notices)


def raise_still_present(
    transaction: Transaction, now: int, settings: AlertSettings, notices: NoticeSettings
) -> list[str]:
    """Raise anew what a person closed and what stands after the quiet that follows; returns the closed alerts."""
    before = now - int(settings.quiet_after_close_seconds * _SECOND)
    raised: list[str] = []
    for alert_id, flag_id in alerts.closed_while_present(transaction, before):
        row, flag = alerts.alert(transaction, alert_id), flags.by_id(transaction, [flag_id])[flag_id]
        if row is None:
            continue
        closed = to_alert(row)
        step = still_present(_fact(flag, closed), closed, now, settings)
        if step is not None:
            store(transaction, step, notices)
            raised.append(alert_id)
    return raised


def _to_place(alert: Alert, *, place: Place, now: int) -> Step | None:
    return moved(alert, now, ward=place.ward, bed=place.bed, care_team_id=place.care_team_id, care_team=place.care_team)


def _fact(flag: FlagRow, closed: Alert) -> FlagFact:
    """What a standing Flag says, where no new fact came; what raised it is known from the alert alone."""
    return FlagFact(
        flag_id=flag.flag_id,
        patient_id=flag.patient_id,
        rule=flag.rule,
        change=flag.change,
        status=flag.status,
        band=flag.last_band,
        score=flag.last_score,
        backfill=flag.backfill,
        reason=closed.reason,
        start_at=flag.start_at,
        last_window_end=flag.last_window_end,
        end_at=flag.end_at,
        ward=closed.ward if flag.ward is None else flag.ward,
        bed=flag.bed,
        care_team_id=closed.care_team_id,
        care_team=closed.care_team,
    )
