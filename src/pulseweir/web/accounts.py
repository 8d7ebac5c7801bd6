"""Step 17: local accounts: passwords as argon2 hashes, locks after wrong ones."""

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import replace
from functools import cache

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from pulseweir.backends.repository import Repository, people
from pulseweir.backends.repository.rows import UserRow
from pulseweir.clock import real_microseconds
from pulseweir.errors import AccountInvalid
from pulseweir.web.rights import RIGHTS
from pulseweir.web.settings import WebSettings

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 1_024
_LONGEST_NAME = 64
_SECOND = 1_000_000
_ADDRESS_WINDOW = 300 * _SECOND
_MOST_ADDRESSES = 10_000


def add_user(
    repository: Repository, name: str, password: str, role: str, wards: Collection[str] | None = None
) -> UserRow:
    """Create an account, or replace the one of that name.

    Args:
        repository: Where accounts live.
        name: Sign-in name.
        password: At least `SHORTEST_PASSWORD` characters; only its argon2 hash is stored.
        role: A key of `rights.RIGHTS`.
        wards: Names of the wards whose patients this person may see; None for all.

    Raises:
        AccountInvalid: Unknown role, empty name, or a password too short or too long.
    """
    _check(name, password, role)
    wards_json = msgspec.json.encode(None if wards is None else sorted(wards)).decode()
    row = UserRow(
        user_name=name,
        password_hash=_hasher().hash(password),
        role=role,
        wards_json=wards_json,
        created_at=real_microseconds(),
    )
    with repository.writing() as transaction:
        people.save_user(transaction, row)
        people.record_act(
            transaction, actor="operator", action="add-user", now=repository.clock.now_microseconds(), subject=name
        )
    return row


class SignIn:
    """Checks passwords, slowly on purpose, and slower still for who guesses."""

    def __init__(self, repository: Repository, settings: WebSettings) -> None:
        self._repository = repository
        self._settings = settings
        self._by_address: dict[str, deque[int]] = {}

    async def check(self, name: str, password: str, address: str) -> UserRow | None:
        """The account these open; None when they open none, for whatever reason.

        Unknown names cost as much time as wrong passwords, and a locked account answers like a wrong password.
        """
        if not self._admits(address) or len(password) > LONGEST_PASSWORD or len(name) > _LONGEST_NAME:
            return None
        row = await self._repository.read(people.user, name)
        now = real_microseconds()
        known = row is not None and not row.disabled and (row.locked_until or 0) <= now
        stored = row.password_hash if row is not None and known else _no_one()
        is_right = await asyncio.to_thread(_matches, stored, password)
        if row is None or not known:
            return None
        settled = self._after(row, is_right, now)
        if settled != row:
            await self._repository.write(people.save_user, settled)
        return settled if is_right else None

    def _admits(self, address: str) -> bool:
        """Whether this address has not asked too often lately."""
        now = real_microseconds()
        if len(self._by_address) > _MOST_ADDRESSES:
            self._by_address.clear()
        asked = self._by_address.setdefault(address, deque())
        while asked and asked[0] < now - _ADDRESS_WINDOW:
            asked.popleft()
        if len(asked) >= self._settings.sign_in_attempts_per_address:
            return False
        asked.append(now)
        return True

    def _after(self, row: UserRow, is_right: bool, now: int) -> UserRow:
        """The account after one try."""
        if is_right:
            return replace(row, failed_attempts=0, locked_until=None)
        failed = row.failed_attempts + 1
        beyond = failed - self._settings.sign_in_attempts
        if beyond < 0:
            return replace(row, failed_attempts=failed)
        seconds = min(
            self._settings.sign_in_lock_seconds * 2 ** min(beyond, 20), self._settings.sign_in_longest_lock_seconds
        )
        return replace(row, failed_attempts=failed, locked_until=now + int(seconds * _SECOND))


def _check(name: str, password: str, role: str) -> None:
    if not name.strip() or len(name) > _LONGEST_NAME:
        raise AccountInvalid("its name is empty or too long", f"Choose a name of 1 to {_LONGEST_NAME} characters.")
    if role not in RIGHTS:
        raise AccountInvalid(f"there is no role {role!r}", f"Choose one of: {', '.join(RIGHTS)}.")
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise AccountInvalid(
            "its password is too short or too long", f"Choose {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters."
        )


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _no_one() -> str:
    """A hash no password is known for, so that an unknown name takes as long as a known one."""
    return _hasher().hash("no account has this password")


def _matches(stored: str, password: str) -> bool:
    try:
        return _hasher().verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
