"""The resource types the store serves and the search parameters it indexes. Pure.

One line a parameter: name, kind, then where its values stand. A path may be bound to a target type
(``target:Patient``). ``name = other`` is the same index, restricted to the type of that name (patient).
Source: HL7 FHIR R4 search parameter registry; Flag's status and category are of R5, declared here for R4.
"""

from dataclasses import dataclass
from functools import cache

_TABLE = {
    "AllergyIntolerance": """
        identifier token identifier; clinical-status token clinicalStatus; code token code reaction.substance;
        verification-status token verificationStatus; patient reference patient; category token category;
        criticality token criticality; type token type; date date recordedDate; onset date reaction.onset;
        last-date date lastOccurrence; recorder reference recorder; asserter reference asserter;
    """,
    "AuditEvent": """
        action token action; agent reference agent.who; agent-name string agent.name;
        agent-role token agent.role; altid token agent.altId; date date recorded; entity reference entity.what;
        entity-name string entity.name; entity-role token entity.role; entity-type token entity.type;
        outcome token outcome; patient reference agent.who:Patient entity.what:Patient; policy uri agent.policy;
        site token source.site; source reference source.observer; subtype token subtype; type token type;
        address string agent.network.address;
    """,
    "Basic": """
        author reference author; code token code; created date created; identifier token identifier;
        subject reference subject; patient = subject;
    """,
    "Binary": "",
    "Bundle": """
        identifier token identifier; type token type; timestamp date timestamp;
    """,
    "CarePlan": """
        identifier token identifier; status token status; intent token intent; category token category;
        subject reference subject; patient = subject; encounter reference encounter; date date period;
        care-team reference careTeam; condition reference addresses; goal reference goal;
        based-on reference basedOn; part-of reference partOf; replaces reference replaces;
    """,
    "CareTeam": """
        category token category; date date period; encounter reference encounter; identifier token identifier;
        participant reference participant.member; subject reference subject; patient = subject;
        status token status;
    """,
    "Communication": """
        based-on reference basedOn; category token category; encounter reference encounter;
        identifier token identifier; instantiates-canonical reference instantiatesCanonical;
        instantiates-uri uri instantiatesUri; medium token medium; part-of reference partOf;
        subject reference subject; patient = subject; received date received; recipient reference recipient;
        sender reference sender; sent date sent; status token status;
    """,
    "CommunicationRequest": """
        authored date authoredOn; based-on reference basedOn; category token category;
        encounter reference encounter; group-identifier token groupIdentifier; identifier token identifier;
        medium token medium; occurrence date occurrenceDateTime occurrencePeriod; subject reference subject;
        patient = subject; priority token priority; recipient reference recipient; replaces reference replaces;
        requester reference requester; sender reference sender; status token status;
    """,
    "Condition": """
        identifier token identifier; clinical-status token clinicalStatus;
        verification-status token verificationStatus; category token category; severity token severity;
        code token code; subject reference subject; patient = subject; encounter reference encounter;
        onset-date date onsetDateTime onsetPeriod; recorded-date date recordedDate;
        abatement-date date abatementDateTime abatementPeriod; asserter reference asserter;
        body-site token bodySite;
    """,
    "Consent": """
        identifier token identifier; status token status; category token category; scope token scope;
        patient reference patient; date date dateTime; organization reference organization;
        consentor reference performer; period date provision.period; action token provision.action;
        actor reference provision.actor.reference;
    """,
    "DetectedIssue": """
        author reference author; code token code; identified date identifiedDateTime identifiedPeriod;
        identifier token identifier; implicated reference implicated; patient reference patient;
    """,
    "Device": """
        device-name string deviceName.name type.text type.coding.display; identifier token identifier;
        location reference location; manufacturer string manufacturer; model string modelNumber;
        organization reference owner; patient reference patient; status token status; type token type;
        udi-carrier string udiCarrier.carrierHRF; udi-di string udiCarrier.deviceIdentifier; url uri url;
    """,
    "DeviceMetric": """
        identifier token identifier; type token type; category token category; parent reference parent;
        source reference source;
    """,
    "DeviceUseStatement": """
        device reference device; identifier token identifier; subject reference subject; patient = subject;
    """,
    "DiagnosticReport": """
        identifier token identifier; status token status; category token category; code token code;
        subject reference subject; patient = subject; encounter reference encounter;
        date date effectiveDateTime effectivePeriod; issued date issued; performer reference performer;
        result reference result; based-on reference basedOn; conclusion token conclusionCode;
        results-interpreter reference resultsInterpreter; specimen reference specimen;
    """,
    "Encounter": """
        identifier token identifier; status token status; class token class; type token type;
        subject reference subject; patient = subject; date date period; location reference location.location;
        location-period date location.period; participant reference participant.individual;
        participant-type token participant.type; service-provider reference serviceProvider;
        episode-of-care reference episodeOfCare; part-of reference partOf; based-on reference basedOn;
        reason-code token reasonCode; appointment reference appointment; account reference account;
        diagnosis reference diagnosis.condition;
    """,
    "EpisodeOfCare": """
        identifier token identifier; status token status; patient reference patient; date date period;
        type token type; organization reference managingOrganization; care-manager reference careManager;
        condition reference diagnosis.condition;
    """,
    "Flag": """
        author reference author; date date period; encounter reference encounter; identifier token identifier;
        subject reference subject; patient = subject; status token status; category token category;
    """,
    "Goal": """
        identifier token identifier; lifecycle-status token lifecycleStatus;
        achievement-status token achievementStatus; category token category; subject reference subject;
        patient = subject; start-date date startDate; target-date date target.dueDate;
    """,
    "Group": """
        identifier token identifier; actual token actual; type token type; code token code;
        member reference member.entity; managing-entity reference managingEntity;
        characteristic token characteristic.code;
    """,
    "Location": """
        identifier token identifier; name string name alias; status token status; partof reference partOf;
        type token type; organization reference managingOrganization;
        operational-status token operationalStatus; endpoint reference endpoint; address string address;
    """,
    "MedicationStatement": """
        identifier token identifier; status token status; code token medicationCodeableConcept;
        medication reference medicationReference; subject reference subject; patient = subject;
        effective date effectiveDateTime effectivePeriod; context reference context; category token category;
        part-of reference partOf; source reference informationSource;
    """,
    "Observation": """
        identifier token identifier; subject reference subject; patient = subject; code token code;
        date date effectiveDateTime effectivePeriod effectiveInstant; status token status;
        category token category; device reference device; encounter reference encounter;
        performer reference performer; specimen reference specimen; focus reference focus;
        has-member reference hasMember; part-of reference partOf; based-on reference basedOn;
        method token method; data-absent-reason token dataAbsentReason;
    """,
    "OperationOutcome": "",
    "Organization": """
        identifier token identifier; active token active; name string name alias; partof reference partOf;
        type token type; address string address; endpoint reference endpoint;
    """,
    "Patient": """
        identifier token identifier; active token active; name string name; family string name.family;
        given string name.given; birthdate date birthDate; gender token gender;
        death-date date deceasedDateTime; general-practitioner reference generalPractitioner;
        organization reference managingOrganization; telecom token telecom; address string address;
        address-city string address.city; address-postalcode string address.postalCode;
        language token communication.language; link reference link.other;
    """,
    "Practitioner": """
        identifier token identifier; active token active; name string name; family string name.family;
        given string name.given; gender token gender; telecom token telecom; address string address;
    """,
    "PractitionerRole": """
        identifier token identifier; active token active; practitioner reference practitioner;
        organization reference organization; role token code; specialty token specialty;
        location reference location; date date period;
    """,
    "Provenance": """
        agent reference agent.who; agent-role token agent.role; agent-type token agent.type;
        entity reference entity.what; location reference location; recorded date recorded;
        signature-type token signature.type; target reference target; patient = target;
        when date occurredDateTime occurredPeriod;
    """,
    "RiskAssessment": """
        condition reference condition; date date occurrenceDateTime occurrencePeriod;
        encounter reference encounter; identifier token identifier; method token method;
        subject reference subject; patient = subject; performer reference performer;
        probability number prediction.probabilityDecimal; risk token prediction.qualitativeRisk;
    """,
    "ServiceRequest": """
        authored date authoredOn; based-on reference basedOn; body-site token bodySite; category token category;
        code token code; encounter reference encounter; identifier token identifier; intent token intent;
        occurrence date occurrenceDateTime occurrencePeriod; subject reference subject; patient = subject;
        performer reference performer; performer-type token performerType; priority token priority;
        replaces reference replaces; requester reference requester; requisition token requisition;
        specimen reference specimen; status token status;
    """,
    "Subscription": """
        contact token contact; criteria string criteria; payload token channel.payload; status token status;
        type token channel.type; url uri channel.endpoint;
    """,
    "Task": """
        authored-on date authoredOn; based-on reference basedOn; business-status token businessStatus;
        code token code; encounter reference encounter; focus reference focus;
        group-identifier token groupIdentifier; identifier token identifier; intent token intent;
        modified date lastModified; owner reference owner; part-of reference partOf; subject reference for;
        patient = subject; performer token performerType; period date executionPeriod; priority token priority;
        requester reference requester; status token status;
    """,
}
RESOURCE_TYPES = tuple(_TABLE)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter of one type.

    Attributes:
        name: As the client writes it.
        kind: token, reference, date, string, uri or number.
        key: Name of the index its values are in; an alias has the key of the parameter it narrows.
        paths: (element names, target type or None) from which values come; empty for an alias.
        target: Only references to this type count; None for all.
    """

    name: str
    kind: str
    key: str
    paths: tuple[tuple[tuple[str, ...], str | None], ...]
    target: str | None = None


@cache
def parameters_of(resource_type: str) -> dict[str, Parameter]:
    """The search parameters of a type by name, those of every resource not included."""
    lines = [line.split() for line in _TABLE[resource_type].split(";") if line.strip()]
    own = [_parameter(resource_type, words) for words in lines if words[1] != "="]
    found = {parameter.name: parameter for parameter in own}
    for name, _, other in (words for words in lines if words[1] == "="):
        found[name] = Parameter(name, found[other].kind, found[other].key, (), name.capitalize())
    return found


def _parameter(resource_type: str, words: list[str]) -> Parameter:
    name, kind, *paths = words
    split = (path.partition(":") for path in paths)
    return Parameter(
        name,
        kind,
        f"{resource_type}.{name}",
        tuple((tuple(path.split(".")), target or None) for path, _, target in split),
    )
