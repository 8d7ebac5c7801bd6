"""Resources that ``_include`` and ``_revinclude`` add to a page, round by round until nothing new is found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pulseweir.fhir_store.extraction import points_to, reference_text, reference_version, values_at
from pulseweir.fhir_store.json_text import decode_object
from pulseweir.fhir_store.outcomes import Issue, Json
from pulseweir.fhir_store.query_conditions import targets_of
from pulseweir.fhir_store.search_request import Criterion, Include, SearchRequest
from pulseweir.fhir_store.session import Stored, WriteSession, find_current, find_versions
from pulseweir.fhir_store.storage import ReadSession

INCLUDED_LIMIT = 10_000
"""Most resources that are added to one page."""
_ROUNDS = 16
Key = tuple[str, str, int]
"""(type, id, version) of what is shown."""


@dataclass(slots=True)
class Including:
    """The resources added to one page.

    Attributes:
        session: Where they are found.
        request: The search, with what is to be followed.
        search: Finds the matches of a search within the caller's rights.
        found: What was added.
    """

    session: ReadSession | WriteSession
    request: SearchRequest
    search: Callable[[SearchRequest], list[Stored]]
    found: dict[Key, Stored] = field(default_factory=dict)
    _known: set[Key] = field(default_factory=set)
    _followed: set[tuple[str, str, str]] = field(default_factory=set)
    _is_cut: bool = False

    def run(self, matches: list[Stored]) -> list[Stored]:
        """All that belongs to the matches, without them."""
        self._known = {_key(match) for match in matches}
        fresh, is_first = matches, True
        for _ in range(_ROUNDS):
            added = [*self._forwards(fresh, is_first=is_first), *self._backwards(fresh, is_first=is_first)]
            fresh, is_first = added, False
            if not added:
                break
        if self._is_cut:
            text = f"More than {INCLUDED_LIMIT} resources are to be included; some are missing. Ask for fewer matches."
            self.request.notes.append(Issue("incomplete", text, severity="warning"))
        return list(self.found.values())

    def _forwards(self, sources: list[Stored], *, is_first: bool) -> list[Stored]:
        added = []
        for key in self._targets(sources, is_first=is_first):
            if key in self._followed:
                continue
            self._followed.add(key)
            stored = self._find(*key)
            if stored is None or _key(stored) in self._known or stored.pk in self.request.sent:
                continue
            self._known.add(_key(stored))
            added.extend(self.session.access.show([stored], "rs"))
        return self._keep(added)

    def _find(self, resource_type: str, resource_id: str, version: str) -> Stored | None:
        """The version that a reference names; the current one where it names none, or one that is not held."""
        current = find_current(self.session.connection, self.session.terms, resource_type, resource_id)
        if current is None or current.deleted:
            return None
        is_other = version.isascii() and version.isdigit() and len(version) < 10 and int(version) != current.version
        versions = find_versions(self.session.connection, current, int(version)) if is_other else iter(())
        return next((each for each in versions if not each.deleted), current)

    def _targets(self, sources: list[Stored], *, is_first: bool) -> Iterator[tuple[str, str, str]]:
        for stored in sources:
            followed = [
                each
                for each in self.request.includes
                if each.source == stored.resource_type and (is_first or each.iterates)
            ]
            tree = decode_object(b"{" + stored.content + b"}") if followed else {}
            for include in followed:
                yield from self._references(include, tree)

    def _references(self, include: Include, tree: Json) -> Iterator[tuple[str, str, str]]:
        for path in include.parameter.paths:
            for value in values_at(path, tree):
                reference = (reference_text(value) or "").removeprefix(f"{self.request.base_url}/")
                resource_type, slash, resource_id = reference.partition("/")
                if slash and points_to(reference, include.target) and points_to(reference, path.target):
                    yield resource_type, resource_id, reference_version(value)

    def _backwards(self, targets: list[Stored], *, is_first: bool) -> list[Stored]:
        added: list[Stored] = []
        for include in self.request.reverse_includes:
            if not (is_first or include.iterates):
                continue
            possible = (include.target,) if include.target else targets_of(include.parameter)
            references = tuple(
                f"{each.resource_type}/{each.resource_id}" for each in targets if each.resource_type in possible
            )
            if not references:
                continue
            criterion = Criterion(include.parameter, "", references)
            room = INCLUDED_LIMIT - len(self.found)
            asked = SearchRequest(include.source, base_url=self.request.base_url, criteria=[criterion], count=room)
            found = self.search(asked) if room > 0 else []
            fresh = [each for each in found if _key(each) not in self._known and each.pk not in self.request.sent]
            self._is_cut |= len(fresh) >= room
            self._known.update(map(_key, fresh))
            added += self._keep(fresh)
        return added

    def _keep(self, added: list[Stored]) -> list[Stored]:
        room = max(0, INCLUDED_LIMIT - len(self.found))
        self._is_cut |= len(added) > room
        kept = added[:room]
        self.found.update((_key(each), each) for each in kept)
        return kept


def _key(stored: Stored) -> Key:
    return stored.resource_type, stored.resource_id, stored.version
