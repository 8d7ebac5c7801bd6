"""Step 7: where a patient is now: which Encounter counts, and which of its places. Pure.

Of several Encounters in progress the newest decides; of its places the newest whose time has come and not ended.
Source: HL7 FHIR R4 Encounter (`location.status`, `location.period`), Location (`physicalType`, `partOf`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pulseweir.scoring.fhir_dates import first_instant, last_instant

Json = dict[str, Any]

IN_PROGRESS = "in-progress"
PARENTS_FOLLOWED = 3
"""How far a ward is looked for above a bed: bed, room, wing, ward."""

_PHYSICAL_TYPE = "http://terminology.hl7.org/CodeSystem/location-physical-type"
_WARD, _BED = "wa", "bd"
_NEVER = -(2**62)


@dataclass(frozen=True, slots=True)
class Place:
    """Names of where a patient is; None where nothing says it."""

    ward: str | None = None
    bed: str | None = None


def newest_encounter(encounters: Iterable[Json], now: int) -> Json | None:
    """The Encounter that says where its patient is: in progress, begun, not ended, begun last, changed last.

    One whose period contradicts its status counts only where there is no other.
    """

    def rank(encounter: Json) -> tuple[bool, int, int]:
        start, end = _period(encounter)
        return (start <= now <= end, start, changed_at(encounter))

    return max((one for one in encounters if one.get("status") == IN_PROGRESS), key=rank, default=None)


def location_of(encounter: Json, now: int) -> str | None:
    """Id of the Location where an Encounter's patient is now; None where it names none.

    Among places entered at the same time a bed counts before a room or a ward, then the first named.
    """

    def rank(entry: Json) -> tuple[int, bool]:
        return (_period(entry)[0], has_physical_type(entry, _BED))

    here = [one for one in encounter.get("location", ()) if reference_id(one.get("location")) and _is_now(one, now)]
    return reference_id(max(here, key=rank)["location"]) if here else None


def _is_now(entry: Json, now: int) -> bool:
    start, end = _period(entry)
    return entry.get("status", "active") == "active" and start <= now <= end


def place_in(locations: Mapping[str, Json], location_id: str | None) -> Place:
    """Ward and bed by the Location where a patient is and those above it.

    The ward is the nearest one above the bed that calls itself a ward, else the one directly above. A patient whose
    place is a ward has no bed.
    """
    own = locations.get(location_id or "")
    if own is None:
        return Place()
    if has_physical_type(own, _WARD):
        return Place(own.get("name"), None)
    above = parents(locations, own)
    ward = next((one for one in above if has_physical_type(one, _WARD)), above[0] if above else {})
    return Place(ward.get("name"), own.get("name"))


def parents(locations: Mapping[str, Json], location: Json) -> Sequence[Json]:
    """The Locations above one, nearest first, as far as they are known."""
    found: list[Json] = []
    while len(found) < PARENTS_FOLLOWED:
        above = locations.get(reference_id(location.get("partOf")) or "")
        if above is None or above in found:
            break
        found.append(above)
        location = above
    return found


def unread_parent(locations: Mapping[str, Json], location_id: str) -> str | None:
    """Id of the next Location to read on the way up to a ward; None when the ward is found or there is none."""
    own = locations.get(location_id)
    if own is None:
        return None
    chain = [own, *parents(locations, own)]
    if any(has_physical_type(one, _WARD) for one in chain):
        return None
    above = reference_id(chain[-1].get("partOf"))
    return above if above not in locations and len(chain) <= PARENTS_FOLLOWED else None


def has_physical_type(resource: Json, code: str) -> bool:
    """Whether a Location, or an Encounter's entry about one, is of a physical type."""
    codings = (resource.get("physicalType") or {}).get("coding", ())
    return any(one.get("code") == code and one.get("system", _PHYSICAL_TYPE) == _PHYSICAL_TYPE for one in codings)


def reference_id(reference: object) -> str | None:
    """The logical id in a Reference; None where it names no resource of the server.

    >>> reference_id({"reference": "http://fhir.example/Location/bed-3/_history/2"})
    'bed-3'
    """
    text = reference.get("reference") if isinstance(reference, dict) else None
    if not isinstance(text, str) or text.startswith("#"):
        return None
    return text.partition("/_history/")[0].rpartition("/")[2] or None


def changed_at(resource: Json) -> int:
    """When a resource was last changed, microseconds; 0 where it does not say."""
    return first_instant(resource.get("meta", {}).get("lastUpdated")) or 0


def _period(element: Json) -> tuple[int, int]:
    period = element.get("period") or {}
    start, end = first_instant(period.get("start")), last_instant(period.get("end"))
    return (_NEVER if start is None else start, -_NEVER if end is None else end)
