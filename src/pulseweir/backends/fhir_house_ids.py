"""Steps 5, 7, 13: this house's ids on a server that gives every resource an id of its own.

Every write of this house is a PUT on an id that it makes itself, so that repeating one changes nothing. A server that
denies that (`updateCreate` false) gets the same by searching first: what carries the id as an identifier is updated,
what is nowhere is created, conditionally where the server can. Ids once seen are remembered, so that a search which
lags behind the writes makes nothing twice.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from pulseweir.backends.fhir_answers import BundleAnswer, Json
from pulseweir.backends.fhir_capabilities import Capabilities
from pulseweir.backends.fhir_foreign import (
    MADE_HERE,
    Address,
    Names,
    body_of,
    create_entry,
    house_ids_of,
    place_of,
    read_entry,
    references_in,
    search_for,
    target_of,
    temporary_name,
    update_entry,
    with_references,
)
from pulseweir.errors import FhirRefused, FhirUnavailable

Search = Callable[[str, Sequence[tuple[str, str]]], Awaitable[list[Json]]]
Post = Callable[[Sequence[Json]], Awaitable[list[BundleAnswer]]]
_TOGETHER = 25
_REMEMBERED = 100_000
_ABSENT_SECONDS = 30.0
_CREATED, _PRESENT = 201, 412
_GONE = frozenset({404, 405, 410})


class HouseIds:
    """Finds, remembers and translates.

    Args:
        search: Asks the server.
        capabilities: Which types it gives ids of its own.
        now: Seconds that only grow.
    """

    def __init__(self, search: Search, capabilities: Capabilities, now: Callable[[], float] = monotonic) -> None:
        self._search = search
        self._capabilities = capabilities
        self._now = now
        self._known: dict[Address, str] = {}
        self._absent_until: dict[Address, float] = {}

    async def server_id(self, resource_type: str, resource_id: str) -> str:
        """What the server calls a resource: by this house's id, or the same where it knows no such.

        Raises:
            FhirUnavailable: The server does not answer, or cannot search for it.
        """
        address = (resource_type, resource_id)
        await self._look_up({address})
        return self._known.get(address, resource_id)

    async def send(self, entries: Sequence[Json], post: Post, *, together: bool = False) -> list[BundleAnswer]:
        """Do entries that name this house's ids; one answer an entry, in order.

        Args:
            entries: As `FhirClient.send_bundle` takes them.
            post: Sends entries as the server knows them.
            together: All or none: entries may refer to each other.

        Raises:
            FhirUnavailable: No usable answer; nothing is known about any entry.
        """
        items = [_Item(entry, body_of(entry), target_of(entry)) for entry in entries]
        referred = {address for item in items for address in references_in(item.body)}
        await self._look_up(referred | {item.target for item in items if item.target})
        await self._mark_new(items)
        renamed = self._names_of(referred)
        if together:
            renamed |= {item.target: temporary_name(item.target) for item in items if item.is_new and item.target}
        asked = [item for item in items if not self._is_present(item)]
        given = await post([self._translated(item, renamed) for item in asked]) if asked else []
        if given and given[0].is_whole and not given[0].is_done:
            return [given[0]] * len(items)
        for item, answer in zip(asked, given, strict=True):
            self._take(item, answer)
        late = [item for item in items if item.is_late]
        # Somebody made them meanwhile: this time they are known and updated.
        again = await self.send([item.entry for item in late], post, together=together) if late else []
        for item, answer in zip(late, again, strict=True):
            item.answer = answer
        return [item.answer for item in items]

    def _names_of(self, referred: Iterable[Address]) -> dict[Address, str | None]:
        """What the server calls what is referred to; None for what it will make under an id of its own."""
        named: dict[Address, str | None] = {}
        for address in referred:
            if address in self._known:
                named[address] = f"{address[0]}/{self._known[address]}"
            elif address[0] in MADE_HERE and not self._capabilities.takes_client_ids(address[0]):
                named[address] = None
        return named

    async def _mark_new(self, items: "Sequence[_Item]") -> None:
        """Tell creations from updates of what really has the id it is named by."""
        unsure: dict[str, list[_Item]] = defaultdict(list)
        for item in items:
            request = item.entry["request"]
            if request["method"] != "PUT" or item.target is None or "ifMatch" in request:
                continue
            if not self._capabilities.takes_client_ids(item.target[0]) and item.target not in self._known:
                item.is_new = True
                if not request.get("ifNoneMatch"):
                    unsure[item.target[0]].append(item)
        for kind, group in unsure.items():
            for chunk in _chunks([item.target[1] for item in group if item.target]):
                found = await self._ask(kind, [("_id", ",".join(chunk)), ("_elements", "id")])
                there = {str(each.get("id")) for each in found}
                for item in group:
                    item.is_new = item.is_new and item.target is not None and item.target[1] not in there

    def _is_present(self, item: "_Item") -> bool:
        """Whether an entry that asks for nothing to be there is answered without the server."""
        return bool(item.target in self._known and item.entry["request"].get("ifNoneMatch"))

    def _translated(self, item: "_Item", renamed: Names) -> Json:
        target, method = item.target, item.entry["request"]["method"]
        if target is None:
            return item.entry
        if method == "GET":
            return read_entry(self._known.get(target, target[1]), target)
        if method != "PUT" or item.body is None or self._capabilities.takes_client_ids(target[0]):
            return item.entry if item.body is None else with_references(item.entry, item.body, renamed)
        if item.is_new:
            only_once = self._capabilities.heeds_if_none_exist(target[0])
            return create_entry(item.body, target, renamed, only_once=only_once)
        return update_entry(item.entry, item.body, self._known.get(target, target[1]), target, renamed)

    def _take(self, item: "_Item", answer: BundleAnswer) -> None:
        """Keep an answer, and under which id a resource was made.

        Raises:
            FhirUnavailable: The server found the resource already there and does not say where.
        """
        item.answer = answer
        if answer.status in _GONE and item.target is not None:
            # Somebody removed it: the next try looks for it again.
            self._known.pop(item.target, None)
        if not item.is_new or not answer.is_done or item.target is None:
            return
        found = place_of(answer.location) or _place_in(answer.resource)
        if found is not None:
            self._remember(item.target, found[1])
        else:
            self._absent_until.pop(item.target, None)
        if answer.status == _CREATED:
            return
        if item.entry["request"].get("ifNoneMatch"):
            item.answer = BundleAnswer(_PRESENT)
        elif found is None:
            raise FhirUnavailable("has a resource already and does not say where")
        else:
            item.is_late = True

    async def _look_up(self, addresses: Iterable[Address]) -> None:
        """Ask for what is not known, many at once."""
        now = self._now()
        wanted: dict[str, list[str]] = defaultdict(list)
        for kind, name in addresses:
            is_asked = (kind, name) in self._known or self._absent_until.get((kind, name), now) > now
            if kind in self._capabilities.types and not self._capabilities.takes_client_ids(kind) and not is_asked:
                wanted[kind].append(name)
        for kind, names in wanted.items():
            for chunk in _chunks(sorted(names)):
                found = await self._ask(kind, search_for(kind, chunk))
                for resource in sorted(found, key=lambda each: str(each.get("id")), reverse=True):
                    for name in house_ids_of(resource) & set(chunk):
                        self._remember((kind, name), str(resource["id"]))
                for name in chunk:
                    if (kind, name) not in self._known:
                        _bound(self._absent_until)
                        self._absent_until[kind, name] = now + _ABSENT_SECONDS

    async def _ask(self, kind: str, params: Sequence[tuple[str, str]]) -> list[Json]:
        try:
            found = await self._search(kind, params)
        except FhirRefused as refused:
            raise FhirUnavailable(
                f"chooses ids itself and answered {refused.status} to a search for ours", status=refused.status
            ) from None
        return [each for each in found if each.get("resourceType") == kind]

    def _remember(self, address: Address, server_id: str) -> None:
        _bound(self._known)
        self._known[address] = server_id
        self._absent_until.pop(address, None)


@dataclass(slots=True)
class _Item:
    """One entry on its way."""

    entry: Json
    body: Json | None
    target: Address | None
    is_new: bool = False
    is_late: bool = False
    answer: BundleAnswer = BundleAnswer(_PRESENT)


def _place_in(resource: Json | None) -> Address | None:
    return place_of(f"{resource.get('resourceType')}/{resource.get('id')}") if resource else None


def _chunks(names: list[str]) -> Iterable[list[str]]:
    return (names[first : first + _TOGETHER] for first in range(0, len(names), _TOGETHER))


def _bound(memory: dict[Address, Any]) -> None:
    """Forget the oldest when there are too many."""
    if len(memory) >= _REMEMBERED:
        del memory[next(iter(memory))]
