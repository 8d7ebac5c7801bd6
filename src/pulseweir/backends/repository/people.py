"""Step 17: users, sessions, care teams, and the log of what people did."""

from collections.abc import Iterable, Mapping

import msgspec
from sqlalchemy import delete, select, update

from pulseweir.backends.repository import changes
from pulseweir.backends.repository.rows import AuditRow, CareTeamRow, SessionRow, UserRow
from pulseweir.backends.repository.schema import CARE_TEAM
from pulseweir.backends.repository.schema_people import AUDIT_LOG, SESSION, USER_ACCOUNT
from pulseweir.backends.repository.store import Transaction
from pulseweir.records.identifiers import digest


def user(transaction: Transaction, user_name: str) -> UserRow | None:
    """One account."""
    query = select(*changes.columns(UserRow, USER_ACCOUNT)).where(USER_ACCOUNT.c.user_name == user_name)
    found = changes.typed(UserRow, transaction.execute(query))
    return found[0] if found else None


def users(transaction: Transaction) -> list[UserRow]:
    """Every account, by name."""
    query = select(*changes.columns(UserRow, USER_ACCOUNT)).order_by(USER_ACCOUNT.c.user_name)
    return changes.typed(UserRow, transaction.execute(query))


def save_user(transaction: Transaction, row: UserRow) -> None:
    """Create or replace an account."""
    changes.upsert(transaction, USER_ACCOUNT, [changes.values_of(row)])


def add_user_if_new(transaction: Transaction, row: UserRow) -> bool:
    """Create an account unless the name is taken; whether it was created."""
    return changes.insert_new(transaction, USER_ACCOUNT, [changes.values_of(row)]) == 1


def wards_of(row: UserRow) -> frozenset[str] | None:
    """The wards a user may see; None for all."""
    names = msgspec.json.decode(row.wards_json, type=list[str] | None)
    return None if names is None else frozenset(names)


def session(transaction: Transaction, session_hash: str, *, now_real: int) -> SessionRow | None:
    """A session that has not expired."""
    query = select(*changes.columns(SessionRow, SESSION)).where(
        SESSION.c.session_hash == session_hash, SESSION.c.expires_at > now_real
    )
    found = changes.typed(SessionRow, transaction.execute(query))
    return found[0] if found else None


def save_session(transaction: Transaction, row: SessionRow) -> None:
    """Begin or prolong a session; expired ones of anybody leave."""
    transaction.execute(delete(SESSION).where(SESSION.c.expires_at <= row.last_seen_at))
    changes.upsert(transaction, SESSION, [changes.values_of(row)])


def touch_session(transaction: Transaction, session_hash: str, *, last_seen_at: int, expires_at: int) -> None:
    """Move the end of a session that is in use."""
    transaction.execute(
        update(SESSION)
        .where(SESSION.c.session_hash == session_hash)
        .values(last_seen_at=last_seen_at, expires_at=expires_at)
    )


def end_session(transaction: Transaction, session_hash: str) -> None:
    """Sign out."""
    transaction.execute(delete(SESSION).where(SESSION.c.session_hash == session_hash))


def record_act(  # noqa: PLR0913 - an audit row is as wide as what an auditor asks
    transaction: Transaction,
    *,
    actor: str,
    action: str,
    now: int,
    patient_id: str = "",
    subject: str = "",
    detail: Mapping[str, object] | None = None,
) -> AuditRow:
    """Append one act of a person to the audit log; it is chained to the act before."""
    changes.take(transaction)  # holds the writers' order on every database, so that the chain has no fork
    last = transaction.execute(
        select(AUDIT_LOG.c.number, AUDIT_LOG.c.hash).order_by(AUDIT_LOG.c.number.desc()).limit(1)
    ).first()
    number, previous = (last.number + 1, last.hash) if last else (1, "")
    detail_json = msgspec.json.encode(detail or {}, order="deterministic").decode()
    row = AuditRow(
        number=number,
        occurred_at=now,
        actor=actor,
        action=action,
        patient_id=patient_id,
        subject=subject,
        detail_json=detail_json,
        previous_hash=previous,
        hash="",
    )
    sealed = changes.values_of(row) | {"hash": _seal(row)}
    transaction.execute(AUDIT_LOG.insert(), sealed)
    return AuditRow(**sealed)


def acts(
    transaction: Transaction, *, after: int = 0, patient_id: str | None = None, limit: int = 1_000
) -> list[AuditRow]:
    """Acts in order, after a number."""
    query = select(*changes.columns(AuditRow, AUDIT_LOG)).where(AUDIT_LOG.c.number > after)
    if patient_id is not None:
        query = query.where(AUDIT_LOG.c.patient_id == patient_id)
    return changes.typed(AuditRow, transaction.execute(query.order_by(AUDIT_LOG.c.number).limit(limit)))


def verify_acts(transaction: Transaction) -> int | None:
    """The number of the first act that was changed, removed or moved; None when the chain is whole."""
    number, previous = 0, ""
    while page := acts(transaction, after=number):
        for row in page:
            if row.number != number + 1 or row.previous_hash != previous or row.hash != _seal(row):
                return number + 1
            number, previous = row.number, row.hash
    return None


def _seal(row: AuditRow) -> str:
    return digest(
        row.previous_hash,
        row.number,
        row.occurred_at,
        row.actor,
        row.action,
        row.patient_id,
        row.subject,
        row.detail_json,
    )


def care_teams(transaction: Transaction) -> list[CareTeamRow]:
    """Every team as last read from the FHIR service."""
    return changes.typed(CareTeamRow, transaction.execute(select(*changes.columns(CareTeamRow, CARE_TEAM))))


def replace_care_teams(transaction: Transaction, rows: Iterable[CareTeamRow]) -> None:
    """Store the teams of the FHIR service; those it no longer has leave."""
    transaction.execute(delete(CARE_TEAM))
    changes.upsert(transaction, CARE_TEAM, map(changes.values_of, rows))
