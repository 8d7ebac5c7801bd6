"""Step 17: who is signed in: a random token in a cookie, its hash in the repository."""

import secrets
from dataclasses import dataclass

from pulseweir.backends.repository import Repository, Transaction, people
from pulseweir.backends.repository.rows import SessionRow, UserRow
from pulseweir.clock import real_microseconds
from pulseweir.records.identifiers import digest
from pulseweir.web.rights import Viewer
from pulseweir.web.settings import WebSettings

COOKIE = "pulseweir_session"
_MINUTE = 60_000_000
_TOUCH_AFTER = 30_000_000


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that just began.

    Attributes:
        token: Value of the cookie `COOKIE`; stored nowhere.
        csrf_token: Must come back with every form.
    """

    token: str
    csrf_token: str


async def begin(repository: Repository, user_name: str, settings: WebSettings) -> NewSession:
    """Sign a person in whose right to it was checked before."""
    session = NewSession(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
    now = real_microseconds()
    row = SessionRow(
        session_hash=digest("session", session.token),
        user_name=user_name,
        csrf_token=session.csrf_token,
        created_at=now,
        last_seen_at=now,
        expires_at=now + _idle(settings),
    )
    await repository.write(_begin, row, repository.clock.now_microseconds())
    return session


async def viewer_of(
    repository: Repository, token: str, settings: WebSettings, *, is_action: bool = True
) -> Viewer | None:
    """Who holds this token; None when the session ended or the account was disabled.

    Args:
        repository: Where sessions live.
        token: Value of the cookie.
        settings: For the limits.
        is_action: Whether this is a sign of life of the person; a live stream is none.
    """
    now = real_microseconds()
    found = await repository.read(_look_up, digest("session", token), now)
    if found is None:
        return None
    session, user = found
    if is_action and now - session.last_seen_at > _TOUCH_AFTER:
        ends = min(now + _idle(settings), session.created_at + int(settings.session_lifetime_hours * 60 * _MINUTE))
        await repository.write(people.touch_session, session.session_hash, last_seen_at=now, expires_at=ends)
    return Viewer(user.user_name, user.role, people.wards_of(user), session.csrf_token, session.session_hash)


async def end(repository: Repository, viewer: Viewer) -> None:
    """Sign out; the cookie is worth nothing afterwards."""
    await repository.write(_end, viewer, repository.clock.now_microseconds())


def _begin(transaction: Transaction, row: SessionRow, now: int) -> None:
    people.save_session(transaction, row)
    people.record_act(transaction, actor=row.user_name, action="sign-in", now=now)


def _end(transaction: Transaction, viewer: Viewer, now: int) -> None:
    people.end_session(transaction, viewer.session_hash)
    people.record_act(transaction, actor=viewer.user_name, action="sign-out", now=now)


def _look_up(transaction: Transaction, session_hash: str, now: int) -> tuple[SessionRow, UserRow] | None:
    session = people.session(transaction, session_hash, now_real=now)
    if session is None:
        return None
    user = people.user(transaction, session.user_name)
    return None if user is None or user.disabled else (session, user)


def _idle(settings: WebSettings) -> int:
    return int(min(settings.session_idle_minutes, settings.session_lifetime_hours * 60) * _MINUTE)
