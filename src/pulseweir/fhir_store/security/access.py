"""One request's access to the store: its caller, and what it saw and wrote.

The app makes it; the store hands it to every session that works for the request, so that what reads or writes
resources asks here, whichever interaction it serves. Work that no request caused has access without bounds.
"""

from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.security.caller import HOUSE, Caller, forbidden
from pulseweir.fhir_store.security.rights import check_subscription
from pulseweir.fhir_store.subscriptions.headers import has_headers

if TYPE_CHECKING:
    from pulseweir.fhir_store.session import Stored, WriteSession

Pairs = Sequence[tuple[str, str]]
AUDIT_ID_PREFIX = "audit-"
"""Ids of the AuditEvents that the store writes itself begin so; nobody else's may."""


class Trail(Protocol):
    """Where an access is written down."""

    def append(self, session: "WriteSession", access: "Access") -> None:
        """Write an AuditEvent inside the transaction of what it tells of."""

    async def record(self, access: "Access") -> None:
        """See to it that an access which wrote nothing gets its AuditEvent."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks, as far as the audit tells it.

    Attributes:
        method: HTTP method.
        segments: Path below the base URL.
        query: Query parameters.
        base_url: Absolute FHIR base URL.
        address: Network address of the client.
        request_id: The client's own id of the request; "" without one.
    """

    method: str
    segments: list[str]
    query: list[tuple[str, str]]
    base_url: str
    address: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Part:
    """An entry of a bundle, as far as the audit tells of it by itself.

    Attributes:
        method: HTTP method.
        segments: Path below the base URL.
        query: Query parameters.
        status: HTTP status of its answer.
    """

    method: str
    segments: list[str]
    query: Pairs
    status: str


@dataclass(slots=True, eq=False)
class Access:
    """The rights of one request, and what became of it.

    Attributes:
        caller: Who asks.
        trail: Where it is written down; None for callers that leave no AuditEvent.
        asked: What it asks; None outside of requests.
        seen: Resources that were shown.
        written: Resources that were written, with the interaction.
        outcome: "0" success, "4" refused, "8" failed.
        is_recorded: Whether its AuditEvent is written.
        bundle_kind: "batch" or "transaction"; "" for a request that is no bundle.
        parts: Entries of a bundle that searched, or were refused.
    """

    caller: Caller
    trail: Trail | None = None
    asked: Asked | None = None
    seen: "list[Stored]" = field(default_factory=list)
    written: "list[tuple[str, Stored]]" = field(default_factory=list)
    outcome: str = "0"
    is_recorded: bool = False
    bundle_kind: str = ""
    parts: list[Part] = field(default_factory=list)

    def sees(self, stored: "Stored", letters: str = "r") -> bool:
        """Whether the caller may know of a version of a resource, by any of these interactions with it."""
        caller = self.caller
        if caller.grants is None:
            return True
        if not caller.is_narrowed(stored.resource_type, letters):
            return any(caller.may(stored.resource_type, letter) for letter in letters)
        if stored.deleted:
            return False
        return caller.allows(stored.resource_type, stored.resource_id, stored.tree(), letters)

    def show(self, found: "Iterable[Stored]", letters: str = "r") -> "list[Stored]":
        """Those of the resources that the caller may see; they count as shown."""
        if self.trail is None and self.caller.grants is None:
            return list(found)
        shown = [stored for stored in found if self.sees(stored, letters)]
        self.showed(shown)
        return shown

    def showed(self, found: "Iterable[Stored]") -> None:
        """Note what the caller was shown."""
        if self.trail is not None:
            self.seen.extend(found)

    def wrote(self, interaction: str, stored: "Stored") -> None:
        """Note a write."""
        if self.trail is not None:
            self.written.append((interaction, stored))

    def asks(self, pairs: "Iterable[tuple[str, str]]") -> None:
        """Note all parameters of an operation, those in its body included."""
        if self.asked is not None and self.trail is not None:
            self.asked.query[:] = pairs

    def begins_bundle(self, kind: str) -> None:
        """Note that it is a bundle, "batch" or "transaction"."""
        if self.trail is not None:
            self.bundle_kind = kind

    def did_part(self, method: str, segments: list[str], query: Pairs, status: int) -> None:
        """Note an entry of a bundle that only read, or was refused."""
        if self.trail is None:
            return
        if status >= 400:
            self.outcome = "4"
        if status >= 400 or query or len(segments) != 2:
            self.parts.append(Part(method, segments, query, str(status)))

    def undo_parts(self, written: int, parts: int) -> None:
        """Drop what an entry of a bundle that is undone noted, beyond so many writes and parts."""
        del self.written[written:]
        del self.parts[parts:]

    def forget(self) -> None:
        """Drop what was noted of work that is undone; what was refused stays."""
        self.seen.clear()
        self.written.clear()
        self.parts[:] = [part for part in self.parts if part.status >= "400"]

    def check_insert(self, resource_type: str, resource_id: str, tree: Json) -> None:
        """Nothing, if the caller may store this first version.

        Raises:
            Refusal: 403 when it may not; 404 when it chose the id of a resource it may not see, held or not.
        """
        is_own_id = resource_type == "AuditEvent" and resource_id.startswith(AUDIT_ID_PREFIX)
        if is_own_id and self is not NO_BOUNDS:
            raise forbidden(f"Ids that begin with {AUDIT_ID_PREFIX} are the store's own; choose another.")
        caller = self.caller
        if caller.grants is None:
            return
        if caller.is_narrowed(resource_type, "cu") and tree.get("id") == resource_id:
            # Whether an id is taken is more than this caller may know: it updates what it sees, and creates by POST.
            raise Refusal(404, "not-found", f"There is no {resource_type}/{resource_id} (in that version).")
        self._check_content(resource_type, resource_id, tree, "cu")

    def check_replace(self, current: "Stored", tree: Json) -> None:
        """Nothing, if the caller may store this next version.

        Raises:
            Refusal: 405 for an AuditEvent, 403 when the caller may not.
        """
        _check_kind(current)
        if current.resource_type == "Subscription" and not current.is_whole and has_headers(current.content):
            raise forbidden("It has headers, so that only who made it may change it. Delete it, and store another.")
        if self.caller.grants is None:
            return
        if not current.deleted:
            self._check_content(current.resource_type, current.resource_id, current.tree(), "u")
        self._check_content(current.resource_type, current.resource_id, tree, "u")

    def check_delete(self, current: "Stored") -> None:
        """Nothing, if the caller may delete this.

        Raises:
            Refusal: 405 for an AuditEvent, 403 when the caller may not.
        """
        _check_kind(current)
        if not self.sees(current, "d"):
            raise forbidden("The token's scopes do not allow to delete this resource.")

    def _check_content(self, resource_type: str, resource_id: str, tree: Json, letters: str) -> None:
        if not self.caller.allows(resource_type, resource_id, tree, letters):
            raise forbidden(f"The token's scopes do not allow to write this {resource_type}.")
        if resource_type == "Subscription":
            check_subscription(self.caller, tree)


def _check_kind(current: "Stored") -> None:
    if current.resource_type == "AuditEvent":
        text = "An AuditEvent stays as it was written; it can be created, read and searched."
        raise Refusal(405, "not-supported", text, headers={"allow": "GET"})


NO_BOUNDS = Access(HOUSE)
"""Of work that no request caused."""
_CURRENT: ContextVar[Access] = ContextVar("fhir_access", default=NO_BOUNDS)


def current_access() -> Access:
    """The access of the request that this task works for."""
    return _CURRENT.get()


set_access = _CURRENT.set
reset_access = _CURRENT.reset
