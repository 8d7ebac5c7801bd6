"""The tables of the definitions: current, complete, and no official example contradicts them."""

from pathlib import Path

import msgspec
import pytest

from pulseweir.fhir_store.definitions.make_definitions import HERE, make_tables, read_package
from pulseweir.fhir_store.definitions.search_expressions import NotUnderstoodError, branches, paths
from pulseweir.fhir_store.definitions.tables import codes_of, elements_of, known_types, served_types
from pulseweir.fhir_store.definitions.value_sets import ValueSets
from pulseweir.fhir_store.json_text import parse_object
from pulseweir.fhir_store.parameters import compartment_parameters, parameters_of
from pulseweir.fhir_store.validation import resource_issues

DEFECTS = {
    # What is really wrong in the package: R4's own rules, broken by R4's own examples.
    ("Bundle", "dataelements"): "bdl-7",
    ("DeviceMetric", "example"): "DeviceMetric.parent.reference points to a type that is not allowed here.",
    ("DeviceUseStatement", "example"): "DeviceUseStatement.reasonReference[0].reference points to a type",
    ("Observation", "clinical-gender"): "Observation.performer[0].reference points to a type",
}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_tables_are_those_of_the_package(r4_package: Path) -> None:
    made = make_tables(r4_package)

    for name, text in made.items():
        assert (HERE / name).read_text(encoding="utf-8") == text, f"run make_definitions and commit {name}"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_no_official_example_is_refused(r4_package: Path) -> None:
    prefixes = tuple(f"{name}-" for name in served_types())
    checked, found = 0, {}

    for example in read_package(r4_package, prefixes):
        if example["resourceType"] not in served_types():
            continue
        checked += 1
        tree = parse_object(msgspec.json.encode(example)).tree
        issues = resource_issues(tree)
        if issues:
            found[example["resourceType"], example["id"]] = issues

    assert checked > 300
    assert found.keys() == DEFECTS.keys()
    for name, words in DEFECTS.items():
        assert all(words in issue.text for issue in found[name])


def test_codes_are_expanded_through_whole_systems_filters_and_exclusions() -> None:
    system = {
        "url": "s",
        "content": "complete",
        "concept": [
            {"code": "a", "concept": [{"code": "b"}, {"code": "c"}]},
            {"code": "d", "property": [{"code": "subsumedBy", "valueCode": "b"}]},
        ],
    }
    below = {"system": "s", "filter": [{"property": "concept", "op": "is-a", "value": "b"}]}
    sets = ValueSets(
        {
            "all": {"compose": {"include": [{"system": "s"}]}},
            "below": {"compose": {"include": [below]}},
            "without": {"compose": {"include": [{"valueSet": ["all"]}], "exclude": [below]}},
            "loop": {"compose": {"include": [{"valueSet": ["loop"]}]}},
            "outside": {"compose": {"include": [{"system": "elsewhere"}]}},
        },
        {"s": system},
    )

    assert sets.codes("all") == {"s": ["a", "b", "c", "d"]}
    assert sets.codes("below") == {"s": ["b", "d"]}
    assert sets.codes("without") == {"s": ["a", "c"]}
    assert sets.codes("loop") is None
    assert sets.codes("outside") is None


TYPES = {
    name: {each: {"types": list(element.types)} for each, element in elements_of(name).items()}
    for name in (
        "Observation",
        "Patient",
        "Encounter",
        "Encounter.participant",
        "Bundle",
        "CodeableConcept",
        "Extension",
    )
}


@pytest.mark.parametrize(
    ("owner", "expression", "members", "kind"),
    [
        ("Observation", "Observation.subject", ["subject"], "Reference"),
        ("Observation", "(Observation.value as Quantity)", ["valueQuantity"], "Quantity"),
        ("Observation", "(Observation.value as CodeableConcept).text", ["valueCodeableConcept", "text"], "string"),
        ("Observation", "value.as(DateTime)", ["valueDateTime"], "dateTime"),
        ("Encounter", "Encounter.participant.individual", ["participant", "individual"], "Reference"),
        ("Patient", "Patient.telecom.where(system='email')", ["telecom[system=email]"], "ContactPoint"),
        ("Bundle", "Bundle.entry[0].resource", ["entry[0]", "resource"], "Resource"),
    ],
)
def test_expressions_become_paths(owner: str, expression: str, members: list[str], kind: str) -> None:
    types = TYPES | {"Bundle.entry": {"resource": {"types": ["Resource"]}}}

    found = paths(expression, owner, types)

    assert [(each["path"], each["type"]) for each in found] == [(members, kind)]


def test_an_expression_of_another_form_is_not_guessed() -> None:
    with pytest.raises(NotUnderstoodError):
        paths("Patient.name.select(given & family)", "Patient", TYPES)
    assert branches("A.b | (C.d | E.f)") == ["A.b", "(C.d | E.f)"]


@pytest.mark.parametrize("resource_type", served_types())
def test_every_type_has_elements_and_parameters(resource_type: str) -> None:
    assert "meta" in elements_of(resource_type)
    for parameter in parameters_of(resource_type).values():
        assert parameter.key.startswith(f"{resource_type}.") or parameter.parts or parameter.kind == "special"


def test_every_required_code_list_is_there() -> None:
    for type_name in known_types():
        for element in elements_of(type_name).values():
            assert element.codes is None or codes_of(element.codes)


def test_parameters_that_say_the_same_share_an_index() -> None:
    observation, patient = parameters_of("Observation"), parameters_of("Patient")

    assert (observation["patient"].key, observation["patient"].target) == ("Observation.subject", "Patient")
    assert [part.name for part in observation["combo-code"].parts] == ["code", "component-code"]
    assert patient["phonetic"].key == "Patient.name"
    assert observation["status"].code_systems == {"http://hl7.org/fhir/observation-status"}


def test_all_search_parameters_of_r4_are_there() -> None:
    counts = {
        name: len(parameters_of(name)) - 4 for name in ("RiskAssessment", "Flag", "Task", "Encounter", "Provenance")
    }

    assert counts == {"RiskAssessment": 10, "Flag": 8, "Task": 19, "Encounter": 23, "Provenance": 10}
    assert {"probability", "risk", "method"} <= parameters_of("RiskAssessment").keys()


def test_compartments_name_their_parameters() -> None:
    assert compartment_parameters("Patient", "Observation") == ("subject", "performer")
    assert compartment_parameters("Patient", "Basic") == ("patient", "author")
    assert compartment_parameters("Patient", "Location") == ()
