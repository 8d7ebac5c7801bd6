"""Steps 5, 7, 13: bundle entries for a server that gives every resource an id of its own. Pure.

The id that this house chose goes along as an identifier (as a tag, where a type has no identifier), and what it refers
to is rewritten to the server's ids. A reference to something of ours that is not there yet becomes a logical one.
Source: HL7 FHIR R4, http://hl7.org/fhir/R4/http.html#upsert, http://hl7.org/fhir/R4/references.html#logical.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pulseweir.records.codes import PULSEWEIR
from pulseweir.records.identifiers import digest

Json = dict[str, Any]
Address = tuple[str, str]
"""Resource type and logical id."""
Names = Mapping[Address, str | None]
"""What to write in place of a reference to an address; None for a logical one, as nothing is there yet."""

HOUSE_ID_SYSTEM = f"{PULSEWEIR}/NamingSystem/logical-id"
"""System of the identifier (or tag) whose value is the id that this house would have stored a resource under."""

_TAGGED = frozenset({"AuditEvent", "Provenance"})
MADE_HERE = frozenset({"Observation", "RiskAssessment", "Flag", "Task", "Communication"})
"""Types that this house refers to by ids of its own only."""
_LOCAL = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_PLACE = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/|$)")
_DECODER = msgspec.json.Decoder(float_hook=Decimal)


def body_of(entry: Json) -> Json | None:
    """The resource of an entry, decimals with their digits."""
    resource = entry.get("resource")
    if isinstance(resource, msgspec.Raw):
        decoded: Json = _DECODER.decode(resource)
        return decoded
    return resource if isinstance(resource, dict) else None


def target_of(entry: Json) -> Address | None:
    """What an entry reads or writes by id."""
    found = _LOCAL.fullmatch(str(entry["request"]["url"]))
    return None if found is None else (found[1], found[2])


def references_in(node: object) -> Iterator[Address]:
    """Everything on the same server that a resource refers to."""
    if isinstance(node, list):
        for item in node:
            yield from references_in(item)
    elif isinstance(node, dict):
        found = _LOCAL.fullmatch(node["reference"]) if isinstance(node.get("reference"), str) else None
        if found is not None:
            yield found[1], found[2]
        for member in node.values():
            if isinstance(member, dict | list):
                yield from references_in(member)


def place_of(location: str | None) -> Address | None:
    """The address in a Location header, absolute or relative.

    >>> place_of("https://fhir.example.org/r4/Observation/17/_history/1")
    ('Observation', '17')
    """
    found = _PLACE.findall(location or "")
    return found[-1] if found else None


def house_ids_of(resource: Json) -> set[str]:
    """The ids of this house that a stored resource goes by."""
    tags = (resource.get("meta") or {}).get("tag") or ()
    named = {str(each.get("value")) for each in resource.get("identifier") or () if _is_ours(each)}
    return named | {str(each.get("code")) for each in tags if _is_ours(each)}


def search_for(resource_type: str, ids: list[str]) -> list[tuple[str, str]]:
    """Search parameters that find resources by ids of this house."""
    name = "_tag" if resource_type in _TAGGED else "identifier"
    values = ",".join(f"{HOUSE_ID_SYSTEM}|{each}" for each in ids)
    return [(name, values), ("_elements", "identifier,meta"), ("_count", str(2 * len(ids)))]


def temporary_name(address: Address) -> str:
    """The fullUrl of a resource that its transaction makes."""
    name = digest(*address)
    # Version 8 of RFC 9562: what is in it is the maker's business.
    return f"urn:uuid:{name[:8]}-{name[8:12]}-8{name[13:16]}-8{name[17:20]}-{name[20:32]}"


def read_entry(server_id: str, address: Address) -> Json:
    """The GET of a resource under the server's id."""
    return {"request": {"method": "GET", "url": f"{address[0]}/{server_id}"}}


def update_entry(entry: Json, body: Json, server_id: str, address: Address, renamed: Names) -> Json:
    """The PUT of a resource under the server's id."""
    request = entry["request"] | {"url": f"{address[0]}/{server_id}"}
    request.pop("ifNoneMatch", None)
    known_as = body if server_id == address[1] else _marked(body, address)
    return {"request": request, "resource": _renamed(known_as | {"id": server_id}, renamed)}


def with_references(entry: Json, body: Json, renamed: Names) -> Json:
    """An entry as it is, but for the names of what it refers to."""
    return entry | {"resource": _renamed(body, renamed)}


def create_entry(body: Json, address: Address, renamed: Names, *, only_once: bool) -> Json:
    """The POST of a resource that is not there; with If-None-Exist where the server heeds it."""
    made = _marked(body, address)
    made.pop("id", None)
    request = {"method": "POST", "url": address[0]}
    if only_once:
        name, value = search_for(address[0], [address[1]])[0]
        request["ifNoneExist"] = f"{name}={value}"
    return {"fullUrl": temporary_name(address), "request": request, "resource": _renamed(made, renamed)}


def _is_ours(named: object) -> bool:
    return isinstance(named, dict) and named.get("system") == HOUSE_ID_SYSTEM


def _marked(body: Json, address: Address) -> Json:
    """The resource with the id it would have had."""
    if address[1] in house_ids_of(body):
        return dict(body)
    if address[0] in _TAGGED:
        meta = dict(body.get("meta") or {})
        meta["tag"] = [*(meta.get("tag") or ()), {"system": HOUSE_ID_SYSTEM, "code": address[1]}]
        return body | {"meta": meta}
    identifiers = body.get("identifier") or ()
    return body | {"identifier": [*identifiers, {"system": HOUSE_ID_SYSTEM, "value": address[1]}]}


def _renamed(node: Any, renamed: Names) -> Any:
    """The same with every local reference as the server knows it."""
    if isinstance(node, list):
        return [_renamed(item, renamed) for item in node]
    if not isinstance(node, dict):
        return node
    made = {name: _renamed(member, renamed) for name, member in node.items()}
    found = _LOCAL.fullmatch(made["reference"]) if isinstance(made.get("reference"), str) else None
    if found is None:
        return made
    address = (found[1], found[2])
    if address not in renamed:
        return made
    known_as = renamed[address]
    if known_as is not None:
        return made | {"reference": known_as}
    del made["reference"]
    return made | {"type": address[0], "identifier": {"system": HOUSE_ID_SYSTEM, "value": address[1]}}
