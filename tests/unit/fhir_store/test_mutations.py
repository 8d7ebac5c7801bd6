"""Whatever stands where in a resource: it is judged, never a failure of the judge."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pulseweir.fhir_store.indexing import index_resource
from pulseweir.fhir_store.json_text import decode_object, split_members
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.validation import check_resource, resource_issues

Json = dict[str, Any]
CODE = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}], "text": "x"}
PERIOD = {"start": "2024-01-01", "end": "2024-02-01"}
VITAL = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}
RESOURCES: list[Json] = [
    {
        "resourceType": "Observation",
        "id": "o",
        "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/bp"], "tag": [{"code": "t"}]},
        "text": {"status": "generated", "div": "<div>x</div>"},
        "contained": [{"resourceType": "Device", "id": "d"}],
        "identifier": [{"system": "s", "value": "v", "period": PERIOD}],
        "status": "final",
        "category": [VITAL],
        "code": CODE,
        "subject": {"reference": "Patient/1", "identifier": {"value": "v"}},
        "device": {"reference": "#d"},
        "effectivePeriod": PERIOD,
        "valueQuantity": {"value": 1, "comparator": "<", "system": "http://unitsofmeasure.org", "code": "/min"},
        "referenceRange": [{"low": {"value": 1}, "high": {"value": 2}}],
        "component": [{"code": CODE, "valueRange": {"low": {"value": 1}, "high": {"value": 2}}}],
    },
    {
        "resourceType": "Patient",
        "extension": [{"url": "u", "extension": [{"url": "v", "valuePeriod": PERIOD}]}],
        "name": [{"given": ["a", None], "_given": [None, {"id": "x", "extension": [{"url": "u", "valueCode": "c"}]}]}],
        "telecom": [{"system": "email", "value": "x"}],
        "_birthDate": {"extension": [{"url": "u", "valueDate": "2024"}]},
        "deceasedDateTime": "2024-01-01T00:00:00Z",
        "contact": [{"name": {"family": "x"}}],
    },
    {
        "resourceType": "Bundle",
        "type": "document",
        "identifier": {"system": "s", "value": "v"},
        "timestamp": "2024-01-01T00:00:00Z",
        "entry": [{"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Composition", "status": "final"}}],
    },
    {
        "resourceType": "RiskAssessment",
        "status": "final",
        "subject": {"reference": "Patient/1"},
        "prediction": [{"probabilityRange": {"low": {"value": 1}}, "whenPeriod": PERIOD, "rationale": "x"}],
    },
    {
        "resourceType": "Group",
        "type": "person",
        "actual": True,
        "characteristic": [{"code": CODE, "valueBoolean": True, "exclude": False}],
        "member": [{"entity": {"reference": "Patient/1"}}],
    },
    {
        "resourceType": "AuditEvent",
        "agent": [{"who": {"reference": "Patient/1"}, "requestor": True}],
        "recorded": "2024",
    },
]
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["", "x", "2024", "#d"])
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["code", "coding", "value", "id", "start", "extension", "_value"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, value in steps:
        yield (*path, step)
        yield from places(value, (*path, step))


def mutated(data: st.DataObject) -> Json:
    tree = copy.deepcopy(data.draw(st.sampled_from(RESOURCES)))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(set(places(tree)) - {("resourceType",)}, key=str)))
        node: Any = tree
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = data.draw(values)
    return tree


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_mutated_resource_is_judged(data: st.DataObject) -> None:
    tree = mutated(data)

    issues = [*resource_issues(tree), *resource_issues(tree, level="strict")]
    assert all(issue.expression for issue in issues)
    for judge in (check_resource, lambda each: index_resource(each["resourceType"], each)):
        with contextlib.suppress(Refusal):
            judge(tree)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_remembered_of_texts_changes_no_judgement(data: st.DataObject) -> None:
    text = msgspec.json.encode(mutated(data))
    tree = decode_object(text)
    texts = [*map(bytes, split_members(text).values())]

    for _ in range(2):
        assert resource_issues(tree, texts=texts) == resource_issues(tree)
        assert _indexed(tree, texts) == _indexed(tree, [])


def _indexed(tree: Json, texts: list[bytes]) -> object:
    try:
        return index_resource(tree["resourceType"], tree, texts)
    except Refusal as refusal:
        return refusal.status
