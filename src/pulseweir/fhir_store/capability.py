"""The CapabilityStatement: what this server does, and what it does not. Pure."""

from functools import cache

import msgspec

import pulseweir
from pulseweir.fhir_store.export.kickoff import BULK_DATA, DEFINITIONS
from pulseweir.fhir_store.operations import OPERATIONS
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, Parameter, parameters_of
from pulseweir.fhir_store.patching import PATCH_TYPES
from pulseweir.fhir_store.query_conditions import targets_of
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.subscriptions.definition import BACKPORT, SUBSCRIPTION_SERVER
from pulseweir.fhir_store.subscriptions.topics import topic_of

_READS = ("read", "vread", "history-instance", "history-type", "create", "search-type")
_CHANGES = ("update", "patch", "delete")
_SYSTEM = ("transaction", "batch", "history-system", "search-system")
_TOPIC = f"{BACKPORT}/capabilitystatement-subscriptiontopic-canonical"
_STARTED = "2024-01-01"
_SEARCHES = (
    "Tokens compare with their case; :in and :not-in know the value sets of R4's required bindings. Refused are :above "
    "and :below of tokens and references, _contained, _content, _filter, _list, _query and _text."
)
_OF_ALL = ({"name": "_id", "type": "token"}, {"name": "_lastUpdated", "type": "date"})
_PERIODS_TOO = {"documentation": "Finds periods too, where R4 names the dateTime alone."}
_OURS: dict[tuple[str, str], Json] = {
    ("Flag", "status"): {
        "definition": "http://hl7.org/fhir/SearchParameter/Flag-status",
        "documentation": "As in R5; R4 has no such parameter.",
    },
    ("Flag", "category"): {
        "definition": "http://hl7.org/fhir/SearchParameter/Flag-category",
        "documentation": "As in R5; R4 has no such parameter.",
    },
    ("RiskAssessment", "date"): _PERIODS_TOO,
    ("Provenance", "when"): _PERIODS_TOO,
    ("CommunicationRequest", "occurrence"): _PERIODS_TOO,
}
"""What there is to say of parameters that are not R4's, or find more than R4 says."""


def capability_statement(base_url: str, settings: FhirStoreSettings, security: Json) -> bytes:
    """The CapabilityStatement as JSON text; `security` is what it says about who may come in."""
    statement: Json = {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _STARTED,
        "kind": "instance",
        "instantiates": [BULK_DATA, SUBSCRIPTION_SERVER],
        "software": {"name": "pulseweir", "version": pulseweir.__version__},
        "implementation": {"description": "pulseweir embedded FHIR store", "url": base_url},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "patchFormat": list(PATCH_TYPES),
        "rest": [
            {
                "mode": "server",
                "documentation": (
                    f"A batch or transaction has {settings.maximum_bundle_entries} entries at most. An update with "
                    f"unchanged content keeps the version. {_SEARCHES}"
                ),
                "security": security,
                "resource": [
                    _resource(name, several=settings.conditional_delete_resources > 1) for name in RESOURCE_TYPES
                ],
                "interaction": [{"code": code} for code in _SYSTEM],
                "searchParam": [*_OF_ALL, *_described("Resource", _common())],
                "operation": [
                    {"name": name[1:], "definition": operation.definition}
                    for name, operation in OPERATIONS.items()
                    if operation.on_system
                ]
                + _exports(""),
            }
        ],
    }
    return msgspec.json.encode(statement)


@cache
def _resource(resource_type: str, *, several: bool) -> Json:
    parameters = [each for each in parameters_of(resource_type).values() if each.kind != "special"]
    # An AuditEvent stays as it was written.
    is_changed = resource_type != "AuditEvent"
    resource: Json = {
        "type": resource_type,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{resource_type}",
        "interaction": [{"code": code} for code in (*_READS, *(_CHANGES if is_changed else ()))],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": is_changed,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": is_changed,
        "conditionalDelete": ("multiple" if several else "single") if is_changed else "not-supported",
        "referencePolicy": ["literal", "logical"],
        "searchInclude": [
            f"{resource_type}:{each.name}" for each in parameters if each.kind == "reference" and targets_of(each)
        ],
        "searchRevInclude": _pointing_to(resource_type),
        "searchParam": [*_OF_ALL, *_described(resource_type, parameters)],
        "operation": [
            {"name": name[1:], "definition": operation.definition}
            for name, operation in OPERATIONS.items()
            if resource_type in (*operation.on_type, *operation.on_instance)
        ]
        + _exports(resource_type),
    }
    if resource_type == "Subscription":
        resource["supportedProfile"] = [f"{BACKPORT}/backport-subscription"]
        resource["extension"] = [{"url": _TOPIC, "valueCanonical": topic_of(name)} for name in RESOURCE_TYPES]
    return {name: value for name, value in resource.items() if value != []}


def _common() -> list[Parameter]:
    """The parameters that every type has."""
    return [each for each in parameters_of(RESOURCE_TYPES[0]).values() if each.name.startswith("_")]


def _described(resource_type: str, parameters: list[Parameter]) -> list[Json]:
    return [
        {"name": each.name, "type": each.kind} | _OURS.get((resource_type, each.name), {})  # nothing for R4's own
        for each in parameters
    ]


def _exports(resource_type: str) -> list[Json]:
    found = DEFINITIONS.get(resource_type)
    return [{"name": "export", "definition": found}] if found else []


def _pointing_to(resource_type: str) -> list[str]:
    return [
        f"{source}:{parameter.name}"
        for source in RESOURCE_TYPES
        for parameter in parameters_of(source).values()
        if parameter.kind == "reference" and (resource_type in parameter.targets or resource_type == parameter.target)
    ]
