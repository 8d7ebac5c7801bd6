"""Which changes concern which Subscription: the store's own search, over nothing but the changed versions.

The versions are indexed in a scratch database in memory, as they would be in the store, and searched there. So the
answer is that of a search at the moment of the change, whatever was written since, and the store is not asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pulseweir.fhir_store.indexing import index_resource
from pulseweir.fhir_store.json_text import split_members
from pulseweir.fhir_store.schema import MIGRATIONS
from pulseweir.fhir_store.searching import run_search
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.subscriptions.definition import Definition
from pulseweir.fhir_store.subscriptions.ledger import Change
from pulseweir.sqlite import connect, migrate


@dataclass(frozen=True, slots=True)
class Matches:
    """What a look at changes found.

    Attributes:
        found: The changes that concern each Subscription, in order.
        failed: Subscriptions that some change could not be held against, with the kind of the error.
    """

    found: dict[int, list[Change]]
    failed: dict[int, str]


class Matcher:
    """Searches changed versions. Used by one thread at a time."""

    def __init__(self, base_url: str, zone: str = "UTC") -> None:
        self._zone = zone
        self._base_url = base_url
        self._connection = connect(Path(":memory:"))
        migrate(self._connection, MIGRATIONS)
        # Several versions of a resource may lie side by side here.
        self._connection.execute("DROP INDEX resource_identity; CREATE INDEX resource_identity ON resource (type, id)")

    def close(self) -> None:
        """Let go of the memory."""
        self._connection.close()

    def check(self, definition: Definition) -> None:
        """Nothing, if the criteria can be searched.

        Raises:
            Refusal: A value in them makes no sense.
        """
        self._match([], {0: definition})

    def match(self, changes: Sequence[Change], asked: Mapping[int, Definition]) -> Matches:
        """The changes that concern each Subscription, in order.

        Deletions concern Subscriptions with a topic only. What cannot be judged is told apart, so that a fault in one
        Subscription or one resource holds up no others.
        """
        try:
            return Matches(self._match(changes, asked), {})
        except Exception:  # noqa: BLE001 - whose fault it is, the smaller searches tell
            return self._match_singly(changes, asked)

    def _match_singly(self, changes: Sequence[Change], asked: Mapping[int, Definition]) -> Matches:
        found: dict[int, list[Change]] = {pk: [] for pk in asked}
        failed: dict[int, str] = {}
        for pk, definition in asked.items():
            for change in changes:
                if change.subject.resource_type != definition.resource_type:
                    continue
                try:
                    found[pk] += self._match([change], {pk: definition})[pk]
                except Exception as error:  # noqa: BLE001 - told by the Subscription's status and the log
                    failed[pk] = type(error).__name__
        return Matches(found, failed)

    def _match(self, changes: Sequence[Change], asked: Mapping[int, Definition]) -> dict[int, list[Change]]:
        self._connection.execute("BEGIN")
        session = WriteSession(self._connection, self._zone)
        session.search_ends = float("inf")
        types = {definition.resource_type for definition in asked.values()}
        held: dict[int, Change] = {}
        try:
            for change in changes:
                subject = change.subject
                if subject.resource_type in types:
                    session.now_microseconds = subject.updated
                    parts = subject.meta, subject.content
                    name, tree, text = subject.resource_type, subject.tree(), subject.text()
                    # What the store has indexed lately is remembered by its text.
                    rows = index_resource(name, tree, [*map(bytes, split_members(text).values())], self._zone)
                    copy = session.insert(name, subject.resource_id, tree, parts, rows)
                    held[copy.pk] = change
            return {pk: self._matches(session, definition, held) for pk, definition in asked.items()}
        finally:
            self._connection.execute("ROLLBACK")

    def _matches(self, session: WriteSession, definition: Definition, held: Mapping[int, Change]) -> list[Change]:
        page = run_search(session, definition.search(len(held) + 1, self._base_url))
        found = [held[stored.pk] for stored in page.matches]
        return sorted(
            (change for change in found if definition.topic or change.interaction != "delete"),
            key=lambda change: change.position,
        )
