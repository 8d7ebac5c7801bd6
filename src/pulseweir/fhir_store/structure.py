"""What each resource type must look like, as JSON Schema made from short tables. Pure.

A first layer: required elements, required code bindings, data types of the elements the house writes. Elements
that a table does not name are accepted. Source: HL7 FHIR R4 resource definitions, http://hl7.org/fhir/R4.
"""

from functools import cache
from typing import Any

Schema = dict[str, Any]

ID_FORM = r"^[A-Za-z0-9\-.]{1,64}$"
_DATE = r"[1-9][0-9]{3}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_PRIMITIVES: dict[str, Schema] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "decimal": {"type": "number"},
    "string": {"type": "string", "minLength": 1},
    "code": {"type": "string", "pattern": r"^[^\s]+(\s[^\s]+)*$"},
    "uri": {"type": "string", "pattern": r"^\S+$"},
    "date": {"type": "string", "pattern": f"^{_DATE})?)?$"},
    "dateTime": {"type": "string", "pattern": f"^{_DATE}({_TIME})?)?)?$"},
    "instant": {"type": "string", "pattern": f"^[1-9][0-9]{{3}}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01]){_TIME}$"},
    "element": {"type": "object", "minProperties": 1},
}
_REFERENCE_FORM = (
    r"^(#.*|urn:(uuid|oid):\S+|[A-Za-z][A-Za-z0-9+.\-]*://\S+|[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?"
    r"|[A-Z][A-Za-z]+\?\S+)$"
)
_DATA_TYPES = {
    "Period": """
        start dateTime; end dateTime;
    """,
    "Coding": """
        system uri; version string; code code; display string; userSelected boolean;
    """,
    "CodeableConcept": """
        coding Coding*; text string;
    """,
    "Quantity": """
        value decimal; comparator code=<|<=|>=|>; unit string; system uri; code code;
    """,
    "Identifier": """
        use code=usual|official|temp|secondary|old; type CodeableConcept; system uri; value string;
        period Period; assigner Reference;
    """,
    "Reference": """
        reference reference; type uri; identifier Identifier; display string;
    """,
    "HumanName": """
        use code=usual|official|temp|nickname|anonymous|old|maiden; text string; family string; given string*;
        prefix string*; suffix string*; period Period;
    """,
    "Annotation": """
        authorReference Reference; authorString string; time dateTime; text! string;
    """,
    "Meta": """
        versionId string; lastUpdated instant; source uri; profile uri*; security Coding*; tag Coding*;
    """,
    "Range": """
        low Quantity; high Quantity;
    """,
}
_RESOURCES = {
    "Observation": """
        identifier Identifier*; basedOn Reference*; partOf Reference*;
        status! code=registered|preliminary|final|amended|corrected|cancelled|entered-in-error|unknown;
        category CodeableConcept*; code! CodeableConcept; subject Reference; focus Reference*;
        encounter Reference; effectiveDateTime dateTime; effectivePeriod Period; effectiveInstant instant;
        issued instant; performer Reference*; valueQuantity Quantity; valueCodeableConcept CodeableConcept;
        valueString string; valueBoolean boolean; valueInteger integer; valueDateTime dateTime;
        valuePeriod Period; dataAbsentReason CodeableConcept; interpretation CodeableConcept*; note Annotation*;
        bodySite CodeableConcept; method CodeableConcept; specimen Reference; device Reference;
        referenceRange element*; hasMember Reference*; derivedFrom Reference*; component ObservationComponent*;
    """,
    "RiskAssessment": """
        identifier Identifier*; basedOn Reference; parent Reference;
        status! code=registered|preliminary|final|amended|corrected|cancelled|entered-in-error|unknown;
        method CodeableConcept; code CodeableConcept; subject! Reference; encounter Reference;
        occurrenceDateTime dateTime; occurrencePeriod Period; condition Reference; performer Reference;
        reasonCode CodeableConcept*; reasonReference Reference*; basis Reference*;
        prediction RiskAssessmentPrediction*; mitigation string; note Annotation*;
    """,
    "Flag": """
        identifier Identifier*; status! code=active|inactive|entered-in-error; category CodeableConcept*;
        code! CodeableConcept; subject! Reference; period Period; encounter Reference; author Reference;
    """,
    "Patient": """
        identifier Identifier*; active boolean; name HumanName*; telecom element*;
        gender code=male|female|other|unknown; birthDate date; deceasedBoolean boolean;
        deceasedDateTime dateTime; address element*; generalPractitioner Reference*;
        managingOrganization Reference; link element*;
    """,
    "Device": """
        identifier Identifier*; definition Reference; status code=active|inactive|entered-in-error|unknown;
        manufacturer string; serialNumber string; modelNumber string; deviceName DeviceName*;
        type CodeableConcept; version element*; patient Reference; owner Reference; location Reference;
        parent Reference;
    """,
    "DeviceUseStatement": """
        identifier Identifier*; basedOn Reference*;
        status! code=active|completed|entered-in-error|intended|stopped|on-hold; subject! Reference;
        derivedFrom Reference*; timingPeriod Period; timingDateTime dateTime; recordedOn dateTime;
        source Reference; device! Reference;
    """,
    "Encounter": """
        identifier Identifier*;
        status! code=planned|arrived|triaged|in-progress|onleave|finished|cancelled|entered-in-error|unknown;
        class! Coding; type CodeableConcept*; subject Reference; period Period; location EncounterLocation*;
        partOf Reference;
    """,
    "Location": """
        identifier Identifier*; status code=active|suspended|inactive; name string; alias string*;
        mode code=instance|kind; type CodeableConcept*; physicalType CodeableConcept; partOf Reference;
        managingOrganization Reference;
    """,
    "CareTeam": """
        identifier Identifier*; status code=proposed|active|suspended|inactive|entered-in-error;
        category CodeableConcept*; name string; subject Reference; encounter Reference; period Period;
        participant element*; managingOrganization Reference*;
    """,
    "Task": """
        identifier Identifier*; basedOn Reference*; partOf Reference*;
        status! code=draft|requested|received|accepted|rejected|ready|cancelled|in-progress|on-hold|failed|
        completed|entered-in-error;
        intent! code=unknown|proposal|plan|order|original-order|reflex-order|filler-order|instance-order|option;
        statusReason CodeableConcept; businessStatus CodeableConcept; priority code=routine|urgent|asap|stat;
        code CodeableConcept; description string; focus Reference; for Reference; encounter Reference;
        executionPeriod Period; authoredOn dateTime; lastModified dateTime; requester Reference;
        owner Reference; note Annotation*;
    """,
    "Communication": """
        identifier Identifier*; basedOn Reference*; partOf Reference*;
        status! code=preparation|in-progress|not-done|on-hold|stopped|completed|entered-in-error|unknown;
        category CodeableConcept*; priority code=routine|urgent|asap|stat; medium CodeableConcept*;
        subject Reference; about Reference*; encounter Reference; sent dateTime; received dateTime;
        recipient Reference*; sender Reference; payload element*; note Annotation*;
    """,
    "Provenance": """
        target! Reference*; occurredPeriod Period; occurredDateTime dateTime; recorded! instant; policy uri*;
        location Reference; activity CodeableConcept; agent! ProvenanceAgent*; entity ProvenanceEntity*;
    """,
    "AuditEvent": """
        type! Coding; subtype Coding*; action code=C|R|U|D|E; period Period; recorded! instant;
        outcome code=0|4|8|12; outcomeDesc string; agent! AuditEventAgent*; source! AuditEventSource;
        entity element*;
    """,
}
_PARTS = {
    "ObservationComponent": """
        code! CodeableConcept; valueQuantity Quantity; valueCodeableConcept CodeableConcept; valueString string;
        dataAbsentReason CodeableConcept; interpretation CodeableConcept*;
    """,
    "RiskAssessmentPrediction": """
        outcome CodeableConcept; probabilityDecimal decimal; probabilityRange Range;
        qualitativeRisk CodeableConcept; relativeRisk decimal; whenPeriod Period; rationale string;
    """,
    "DeviceName": """
        name! string;
        type! code=udi-label-name|user-friendly-name|patient-reported-name|manufacturer-name|model-name|other;
    """,
    "EncounterLocation": """
        location! Reference; status code=planned|active|reserved|completed; period Period;
    """,
    "ProvenanceAgent": """
        type CodeableConcept; role CodeableConcept*; who! Reference; onBehalfOf Reference;
    """,
    "ProvenanceEntity": """
        role! code=derivation|revision|quotation|source|removal; what! Reference;
    """,
    "AuditEventAgent": """
        who Reference; requestor! boolean; name string; altId string;
    """,
    "AuditEventSource": """
        observer! Reference; site string;
    """,
}


def resource_schema(resource_type: str) -> Schema:
    """The JSON Schema of one resource type."""
    table = _RESOURCES.get(resource_type, "")
    schema = _object_schema(f"meta Meta; language code; implicitRules uri; text element; contained element*; {table}")
    schema["properties"]["id"] = {"type": "string", "pattern": ID_FORM}
    definitions = {name: _object_schema(text) for name, text in (_DATA_TYPES | _PARTS).items()}
    definitions["reference"] = {"type": "string", "pattern": _REFERENCE_FORM}
    return schema | {"$defs": definitions | _PRIMITIVES}


@cache
def date_elements(resource_type: str) -> tuple[tuple[str, str], ...]:
    """(name, data type) of a type's own elements that hold dates, times or periods."""
    lines = (line.split(maxsplit=1) for line in _RESOURCES.get(resource_type, "").split(";") if line.strip())
    found = ((name.rstrip("!"), kind.strip()) for name, kind in lines)
    return tuple(pair for pair in found if pair[1] in {"date", "dateTime", "instant", "Period"})


def _object_schema(table: str) -> Schema:
    properties: Schema = {"extension": _list_of({"$ref": "#/$defs/element"})}
    required = []
    for line in (part for part in table.replace("|\n", "|").split(";") if part.strip()):
        name, kind = line.split(maxsplit=1)
        kind = kind.replace(" ", "")
        if name.endswith("!"):
            name = name[:-1]
            required.append(name)
        one = _kind_schema(kind.removesuffix("*"))
        properties[name] = _list_of(one) if kind.endswith("*") else one
    schema: Schema = {"type": "object", "minProperties": 1, "properties": properties}
    return schema | ({"required": required} if required else {})


def _kind_schema(kind: str) -> Schema:
    base, _, codes = kind.partition("=")
    return {"enum": codes.split("|")} if codes else {"$ref": f"#/$defs/{base}"}


def _list_of(schema: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": schema}
