"""The CapabilityStatement: what this server does, and what it does not. Pure."""

import msgspec

import pulseweir
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, parameters_of
from pulseweir.fhir_store.settings import FhirStoreSettings

_INTERACTIONS = ("read", "vread", "update", "delete", "history-instance", "create", "search-type")
_STARTED = "2024-01-01"


def capability_statement(base_url: str, settings: FhirStoreSettings, security: Json) -> bytes:
    """The CapabilityStatement as JSON text; `security` is what it says about who may come in."""
    statement: Json = {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _STARTED,
        "kind": "instance",
        "software": {"name": "pulseweir", "version": pulseweir.__version__},
        "implementation": {"description": "pulseweir embedded FHIR store", "url": base_url},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "documentation": (
                    f"A batch or transaction has {settings.maximum_bundle_entries} entries at most. An update with "
                    "unchanged content keeps the version."
                ),
                "security": security,
                "resource": [_resource(name) for name in RESOURCE_TYPES],
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
            }
        ],
    }
    return msgspec.json.encode(statement)


def _resource(resource_type: str) -> Json:
    parameters = [each for each in parameters_of(resource_type).values() if each.kind != "special"]
    references = [f"{resource_type}:{parameter.name}" for parameter in parameters if parameter.kind == "reference"]
    resource: Json = {
        "type": resource_type,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{resource_type}",
        "interaction": [{"code": code} for code in _INTERACTIONS],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "not-match",
        "conditionalUpdate": True,
        "conditionalDelete": "not-supported",
        "referencePolicy": ["literal", "logical"],
        "searchParam": [
            {"name": "_id", "type": "token"},
            {"name": "_lastUpdated", "type": "date"},
            *({"name": parameter.name, "type": parameter.kind} for parameter in parameters),
        ],
    }
    if references:
        resource["searchInclude"] = references
        resource["searchRevInclude"] = references
    return resource
