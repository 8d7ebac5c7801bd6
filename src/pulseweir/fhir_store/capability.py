"""The CapabilityStatement: what this server does, and what it does not. Pure."""

from functools import cache

import msgspec

import pulseweir
from pulseweir.fhir_store.export.kickoff import BULK_DATA, DEFINITIONS
from pulseweir.fhir_store.operations import OPERATIONS
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, parameters_of
from pulseweir.fhir_store.patching import PATCH_TYPES
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.subscriptions.definition import BACKPORT
from pulseweir.fhir_store.subscriptions.topics import topic_of

_READS = ("read", "vread", "history-instance", "history-type", "create", "search-type")
_CHANGES = ("update", "patch", "delete")
_SYSTEM = ("transaction", "batch", "history-system", "search-system")
_TOPIC = f"{BACKPORT}/capabilitystatement-subscriptiontopic-canonical"
_STARTED = "2024-01-01"


def capability_statement(base_url: str, settings: FhirStoreSettings, security: Json) -> bytes:
    """The CapabilityStatement as JSON text; `security` is what it says about who may come in."""
    statement: Json = {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _STARTED,
        "kind": "instance",
        "instantiates": [BULK_DATA],
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
                    "unchanged content keeps the version."
                ),
                "security": security,
                "resource": [
                    _resource(name, several=settings.conditional_delete_resources > 1) for name in RESOURCE_TYPES
                ],
                "interaction": [{"code": code} for code in _SYSTEM],
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
        "searchInclude": [f"{resource_type}:{each.name}" for each in parameters if each.kind == "reference"],
        "searchRevInclude": _pointing_to(resource_type),
        "searchParam": [
            {"name": "_id", "type": "token"},
            {"name": "_lastUpdated", "type": "date"},
            *({"name": parameter.name, "type": parameter.kind} for parameter in parameters),
        ],
        "operation": [
            {"name": name[1:], "definition": operation.definition}
            for name, operation in OPERATIONS.items()
            if resource_type in (*operation.on_type, *operation.on_instance)
        ]
        + _exports(resource_type),
    }
    if resource_type == "Subscription":
        resource["extension"] = [{"url": _TOPIC, "valueCanonical": topic_of(name)} for name in RESOURCE_TYPES]
    return {name: value for name, value in resource.items() if value != []}


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
