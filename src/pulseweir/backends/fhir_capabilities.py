"""Steps 5, 7, 13: what a FHIR server says it can do, and what this house would miss. Pure.

Servers say too little rather than too much: what a CapabilityStatement leaves out is tried, and only what it denies
is taken as missing.
Source: HL7 FHIR R4, CapabilityStatement, http://hl7.org/fhir/R4/capabilitystatement.html; HL7 SMART App Launch 2.2,
conformance, https://hl7.org/fhir/smart-app-launch/STU2.2/conformance.html.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
R4 = "4.0."
_OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"

NEEDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Patient": ("r", ("_id", "identifier")),
    "Device": ("cru", ("identifier",)),
    "DeviceUseStatement": ("cru", ("device",)),
    "Encounter": ("r", ("identifier", "patient", "status")),
    "Condition": ("r", ("patient", "clinical-status")),
    "Location": ("r", ("_id",)),
    "CareTeam": ("r", ()),
    "Observation": ("cru", ("identifier", "patient", "date", "code", "status", "device")),
    "RiskAssessment": ("cu", ()),
    "Flag": ("cu", ()),
    "Task": ("cu", ()),
    "Communication": ("cu", ()),
    "AuditEvent": ("c", ()),
    "Provenance": ("cu", ()),
}
"""What the steps do with each type (c create, r read, u update) and the search parameters they use."""

SCOPES = tuple(f"system/{name}.{rights}{'u' if rights == 'c' else ''}s" for name, (rights, _) in NEEDS.items())
"""The same as SMART scopes, version 2; a create under an id of our own is an update."""

_INTERACTIONS = {"c": "create", "r": "read", "u": "update"}


@dataclass(frozen=True, slots=True)
class TypeCapabilities:
    """What a server says about one resource type; None where it does not say.

    Attributes:
        interactions: Such as ``read``, ``search-type``.
        parameters: Search parameters.
        update_create: Whether a PUT on an id that is not there makes the resource.
        conditional_create: Whether If-None-Exist is heeded.
        has_versions: Whether If-Match has something to match.
    """

    interactions: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    update_create: bool | None = None
    conditional_create: bool | None = None
    has_versions: bool | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server says it can do.

    Attributes:
        fhir_version: Such as ``4.0.1``; "" when it does not say.
        software: Name and version; "" when it does not say.
        transaction: Whether a Bundle is taken all or none; None when it does not say.
        batch: Whether a Bundle is taken entry by entry; None when it does not say.
        types: By resource type.
    """

    fhir_version: str = ""
    software: str = ""
    transaction: bool | None = None
    batch: bool | None = None
    types: Mapping[str, TypeCapabilities] = field(default_factory=dict)

    @property
    def is_r4(self) -> bool:
        """Whether it speaks FHIR R4."""
        return self.fhir_version.startswith(R4)

    def takes_client_ids(self, resource_type: str) -> bool:
        """Whether a resource may be stored under an id that this house chose."""
        about = self.types.get(resource_type)
        return about is None or about.update_create is not False

    def heeds_if_none_exist(self, resource_type: str) -> bool:
        """Whether a create may be made to depend on a search."""
        about = self.types.get(resource_type)
        return about is not None and about.conditional_create is True


def capabilities_of(statement: Json) -> Capabilities:
    """What a CapabilityStatement says.

    >>> capabilities_of({"fhirVersion": "4.0.1", "rest": [{"interaction": [{"code": "batch"}]}]}).transaction
    False
    """
    rest = _server_rest(statement)
    system = {str(each.get("code")) for each in _objects(rest.get("interaction"))}
    # Some list `transaction` and mean both, as they take both at one address.
    says = bool(system & {"batch", "transaction"})
    software = statement.get("software")
    words = [software.get("name"), software.get("version")] if isinstance(software, dict) else []
    return Capabilities(
        fhir_version=str(statement.get("fhirVersion", "")),
        software=" ".join(str(word) for word in words if word),
        transaction="transaction" in system if says else None,
        batch=True if says else None,
        types={str(each.get("type")): _type_of(each) for each in _objects(rest.get("resource"))},
    )


def missing(found: Capabilities) -> Iterator[str]:
    """What the steps use and the server does not list, a phrase each."""
    for name, (rights, parameters) in NEEDS.items():
        about = found.types.get(name)
        if about is None:
            yield name
            continue
        lacking = [_INTERACTIONS[right] for right in rights if _INTERACTIONS[right] not in about.interactions]
        if parameters and "search-type" not in about.interactions:
            lacking.append("search")
        lacking += [f"?{each}" for each in parameters if each not in about.parameters | {"_id"}]
        if lacking:
            yield f"{name} ({', '.join(lacking)})"


def worked_around(found: Capabilities) -> Iterator[str]:
    """What the server denies and this house does in another way, a phrase each."""
    if found.transaction is False:
        yield "no transactions: written in order instead"
    written = [name for name, (rights, _) in NEEDS.items() if "c" in rights]
    foreign = [name for name in written if not found.takes_client_ids(name)]
    if foreign:
        yield f"no ids of ours ({', '.join(foreign)}): found by identifier instead"
    if any(found.types[name].has_versions is False for name in written if name in found.types):
        yield "no versions: of two writers at once the later one wins"


def token_url_of(document: Json) -> str | None:
    """The token endpoint that a SMART configuration or a CapabilityStatement names, None when it names none."""
    named = document.get("token_endpoint")
    if isinstance(named, str) and named:
        return named
    security = _server_rest(document).get("security")
    for extension in _objects(security.get("extension") if isinstance(security, dict) else None):
        if extension.get("url") == _OAUTH_URIS:
            for place in _objects(extension.get("extension")):
                if place.get("url") == "token" and place.get("valueUri"):
                    return str(place["valueUri"])
    return None


def _server_rest(statement: Json) -> Json:
    found = _objects(statement.get("rest"))
    return next((each for each in found if each.get("mode", "server") == "server"), {})


def _type_of(described: Json) -> TypeCapabilities:
    versioning = described.get("versioning")
    return TypeCapabilities(
        frozenset(str(each.get("code")) for each in _objects(described.get("interaction"))),
        frozenset(str(each.get("name")) for each in _objects(described.get("searchParam"))),
        _flag(described.get("updateCreate")),
        _flag(described.get("conditionalCreate")),
        None if versioning is None else versioning != "no-version",
    )


def _flag(said: object) -> bool | None:
    return said if isinstance(said, bool) else None


def _objects(listed: object) -> list[Json]:
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
