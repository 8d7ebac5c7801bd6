"""Who made each version of a Subscription: in whose name it sends, and to whom its headers are shown.

The store notes it in the transaction of the version. Versions that the server writes itself are of whoever made the
one before.
"""

from typing import TYPE_CHECKING

import msgspec

from pulseweir.fhir_store.security.access import NO_BOUNDS
from pulseweir.fhir_store.security.caller import ANYBODY, Caller
from pulseweir.fhir_store.security.scopes import Grant

if TYPE_CHECKING:
    from pulseweir.fhir_store.session import Stored, WriteSession
    from pulseweir.fhir_store.storage import ReadSession


class Maker(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who wrote a version.

    Attributes:
        origin: Who vouches for the name; see `Caller.origin`.
        name: Name of the client.
        user: The person behind it; None when nobody is named.
        patient: The Patient it was bound to; None for no such bond.
        grants: What an issuer's token allowed; empty for others, whose rights are asked of the operator's file.
        written: Real instant of the version, microseconds.
    """

    origin: str
    name: str
    user: str | None = None
    patient: str | None = None
    grants: tuple[Grant, ...] = ()
    written: int = 0

    @property
    def identity(self) -> tuple[str, str, str | None]:
        """What tells it from every other; see `Caller.identity`."""
        return self.origin, self.name, self.user


def note_maker(session: "WriteSession", stored: "Stored", now: int) -> None:
    """Note who made a version, inside its transaction.

    Args:
        session: The write transaction.
        stored: The version.
        now: Real instant, microseconds.
    """
    if session.access is NO_BOUNDS and stored.version > 1:
        return
    caller = session.access.caller
    maker = Maker(caller.origin, caller.name, caller.user, caller.patient, _kept_grants(caller), now)
    session.connection.execute(
        "INSERT OR REPLACE INTO subscription_maker (pk, version, maker) VALUES (?, ?, ?)",
        (stored.pk, stored.version, msgspec.json.encode(maker).decode()),
    )


def renew_maker(session: "WriteSession", stored: "Stored", now: int) -> bool:
    """Begin anew what a signed token gives, if whoever made a version stores it again; False if it is another.

    Args:
        session: The write transaction.
        stored: The version.
        now: Real instant, microseconds.
    """
    caller = session.access.caller
    if session.access is NO_BOUNDS:
        return True
    if maker_of(session, stored.pk, stored.version).identity != caller.identity:
        return False
    if caller.is_of_issuer:
        note_maker(session, stored, now)
    return True


def maker_of(session: "WriteSession | ReadSession", pk: int, version: int) -> Maker:
    """Who made a version; anybody, where an earlier release did not note it."""
    found = session.connection.execute(
        "SELECT maker FROM subscription_maker WHERE pk = ? AND version <= ? ORDER BY version DESC LIMIT 1",
        (pk, version),
    ).get
    return Maker(ANYBODY.origin, ANYBODY.name) if found is None else msgspec.json.decode(str(found), type=Maker)


def revealed(session: "WriteSession | ReadSession", stored: "Stored") -> "Stored":
    """A version as the session's caller may see it: with a Subscription's headers if it made them, or is the house."""
    if stored.resource_type != "Subscription" or stored.is_whole:
        return stored
    caller = session.access.caller
    if caller.is_house or maker_of(session, stored.pk, stored.version).identity == caller.identity:
        return stored._replace(is_whole=True)
    return stored


def _kept_grants(caller: Caller) -> tuple[Grant, ...]:
    return caller.grants or () if caller.is_of_issuer else ()
