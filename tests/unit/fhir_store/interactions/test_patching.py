"""Patches: JSON Patch and merge patch, by id and by criteria, alone and in bundles."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.patching import JSON_PATCH, MERGE_PATCH, patch_text, read_patch
from pulseweir.fhir_store.settings import FhirStoreSettings

Json = dict[str, Any]
Make = Callable[..., Json]
OBSERVATION = (
    b'{"resourceType":"Observation","id":"o1","status":"final","code":{"text":"x"},'
    b'"valueQuantity":{"value":72.50,"unit":"kg"},"component":[{"code":{"text":"a"},"valueQuantity":{"value":1e2}}]}'
)


async def patch(
    http: httpx.AsyncClient, path: str, body: Any, kind: str = JSON_PATCH, **headers: str
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return await http.patch(path, content=content, headers={"content-type": kind} | named)


@pytest.fixture
async def observed(http: httpx.AsyncClient) -> None:
    response = await http.put("Observation/o1", content=OBSERVATION, headers={"content-type": "application/fhir+json"})
    assert response.status_code == 201, response.text


@pytest.mark.usefixtures("observed")
async def test_a_json_patch_changes_what_it_names_and_keeps_all_digits(http: httpx.AsyncClient) -> None:
    operations = [
        {"op": "replace", "path": "/status", "value": "amended"},
        {"op": "replace", "path": "/valueQuantity/unit", "value": "kilogram"},
    ]

    response = await patch(http, "Observation/o1", operations)

    assert response.status_code == 200
    assert response.headers["etag"] == 'W/"2"'
    assert response.json()["status"] == "amended"
    assert b'"value":72.50' in response.content
    assert b'"value":1e2' in response.content
    assert (await http.get("Observation?status=amended")).json()["total"] == 1


@pytest.mark.usefixtures("observed")
@pytest.mark.parametrize("kind", [MERGE_PATCH, "application/json", "application/json; charset=utf-8"])
async def test_a_merge_patch_sets_and_removes(http: httpx.AsyncClient, kind: str) -> None:
    body = b'{"status":"amended","component":null,"valueQuantity":{"value":7.0}}'

    response = await patch(http, "Observation/o1", body, kind)

    assert response.status_code == 200, response.text
    assert "component" not in response.json()
    assert b'"value":7.0' in response.content
    assert response.json()["valueQuantity"]["unit"] == "kg"


@pytest.mark.usefixtures("observed")
async def test_a_patch_that_changes_nothing_keeps_the_version(http: httpx.AsyncClient) -> None:
    response = await patch(http, "Observation/o1", {"status": "final"}, MERGE_PATCH)

    assert (response.status_code, response.headers["etag"]) == (200, 'W/"1"')


@pytest.mark.usefixtures("observed")
@pytest.mark.parametrize(
    ("operations", "status", "expression"),
    [
        ([{"op": "test", "path": "/status", "value": "amended"}], 422, "Observation.status"),
        ([{"op": "remove", "path": "/nothing"}], 422, "Observation.nothing"),
        ([{"op": "add", "path": "/component/7", "value": {}}], 422, "Observation.component[7]"),
        ([{"op": "replace", "path": "/id", "value": "other"}], 422, "Observation.id"),
        ([{"op": "remove", "path": "/id"}], 422, "Observation.id"),
        ([{"op": "replace", "path": "/resourceType", "value": "Patient"}], 422, "Observation.resourceType"),
        ([{"op": "replace", "path": "/status", "value": "nonsense"}], 422, "Observation.status"),
        ([{"op": "remove", "path": "/code"}], 422, "Observation.code"),
        ([{"op": "replace", "path": "", "value": []}], 422, "Observation"),
        ([{"op": "explode", "path": "/status"}], 400, None),
        ([{"op": "add", "path": "/status"}], 400, None),
        ([{"op": "add", "path": 5, "value": 1}], 400, None),
        ([{"op": "add", "path": "status", "value": 1}], 422, "Observation"),
        ([{"path": "/status"}], 400, None),
        ([5], 400, None),
        ({"op": "test"}, 400, None),
        (b'[],"x":[]', 400, None),
        (b'[{"op":"test","op":"add","path":"/x","value":1}]', 400, None),
        (b"[", 400, None),
        (b"", 400, None),
    ],
)
async def test_a_patch_that_cannot_be_done_stores_nothing(
    http: httpx.AsyncClient, operations: Any, status: int, expression: str | None
) -> None:
    response = await patch(http, "Observation/o1", operations)

    assert response.status_code == status
    if expression is not None:
        assert response.json()["issue"][0]["expression"] == [expression]
    assert (await http.get("Observation/o1")).headers["etag"] == 'W/"1"'


@pytest.mark.usefixtures("observed")
async def test_copies_cannot_grow_without_end(http: httpx.AsyncClient) -> None:
    doubling = [{"op": "copy", "from": "", "path": f"/x{number}"} for number in range(40)]

    response = await patch(http, "Observation/o1", doubling)

    assert response.status_code == 400
    assert response.json()["issue"][0]["code"] == "too-costly"


@pytest.mark.usefixtures("observed")
async def test_a_patch_with_another_content_type_is_refused(http: httpx.AsyncClient) -> None:
    response = await patch(http, "Observation/o1", b"{}", "application/fhir+json")

    assert response.status_code == 415
    assert JSON_PATCH in response.headers["accept-patch"]


@pytest.mark.usefixtures("observed")
async def test_a_patch_asks_for_the_version_it_was_made_for(http: httpx.AsyncClient) -> None:
    stale = await patch(http, "Observation/o1", {"status": "amended"}, MERGE_PATCH, if_match='W/"7"')
    right = await patch(http, "Observation/o1", {"status": "amended"}, MERGE_PATCH, if_match='W/"1"')

    assert (stale.status_code, right.status_code) == (412, 200)


async def test_a_patch_of_nothing_or_of_something_deleted_is_refused(http: httpx.AsyncClient, patient: Make) -> None:
    assert (await patch(http, "Patient/p1", {}, MERGE_PATCH)).status_code == 404
    await http.put("Patient/p1", json=patient())
    await http.delete("Patient/p1")

    assert (await patch(http, "Patient/p1", {}, MERGE_PATCH)).status_code == 410


async def test_a_conditional_patch_needs_exactly_one_match(http: httpx.AsyncClient, patient: Make) -> None:
    assert (await patch(http, "Patient?identifier=urn:mrn|p1", {"active": True}, MERGE_PATCH)).status_code == 404
    await http.put("Patient/p1", json=patient())
    await http.put("Patient/p2", json=patient("p2"))

    one = await patch(http, "Patient?identifier=urn:mrn|p1", {"active": True}, MERGE_PATCH)
    several = await patch(http, "Patient?identifier=urn:mrn|", {"active": True}, MERGE_PATCH)
    without = await patch(http, "Patient", {"active": True}, MERGE_PATCH)

    assert (one.status_code, several.status_code, without.status_code) == (200, 412, 412)
    assert one.json()["active"] is True


def entry(url: str, kind: str, body: Any, **request: str) -> Json:
    data = base64.b64encode(json.dumps(body).encode()).decode()
    resource = {"resourceType": "Binary", "contentType": kind, "data": data}
    return {"request": {"method": "PATCH", "url": url, **request}, "resource": resource}


@pytest.mark.parametrize("bundle_type", ["batch", "transaction"])
async def test_bundles_patch_by_a_binary(http: httpx.AsyncClient, patient: Make, bundle_type: str) -> None:
    await http.put("Patient/p1", json=patient())
    await http.put("Patient/p2", json=patient("p2"))
    operations = [{"op": "add", "path": "/active", "value": True}]
    entries = [
        entry("Patient/p1", JSON_PATCH, operations, ifMatch='W/"1"'),
        entry("Patient?identifier=urn:mrn|p2", MERGE_PATCH, {"active": True}),
    ]

    response = await http.post("", json={"resourceType": "Bundle", "type": bundle_type, "entry": entries})

    assert [each["response"]["status"] for each in response.json()["entry"]] == ["200", "200"]
    assert (await http.get("Patient?active=true&_summary=count")).json()["total"] == 2


async def test_a_bundle_refuses_a_patch_that_is_none(http: httpx.AsyncClient, patient: Make) -> None:
    await http.put("Patient/p1", json=patient())
    bare = {"request": {"method": "PATCH", "url": "Patient/p1"}, "resource": patient()}
    broken = entry("Patient/p1", JSON_PATCH, [])
    broken["resource"]["data"] = "%"

    response = await http.post("", json={"resourceType": "Bundle", "type": "batch", "entry": [bare, broken]})

    assert [each["response"]["status"] for each in response.json()["entry"]] == ["400", "400"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "/", "~0", "-"]), inner),
    max_leaves=6,
)
pointers = st.lists(st.sampled_from(["a", "b", "0", "1", "-", "~1", "~0", "~2", "id", ""]), max_size=4).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
operation_lists = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])},
        optional={"path": pointers | json_values, "from": pointers | json_values, "value": json_values},
    ),
    max_size=5,
)


@given(operation_lists, st.dictionaries(st.sampled_from(["a", "b", "id"]), json_values))
def test_whatever_a_patch_says_it_is_applied_or_refused(operations: list[Any], tree: Json) -> None:
    settings = FhirStoreSettings()
    try:
        change = read_patch(JSON_PATCH, json.dumps(operations).encode(), settings)
        document = patch_text(json.dumps(tree).encode(), "Basic", change)
    except Refusal as refusal:
        status = refusal.status
    else:
        status = 200
        assert json.loads(document.text) == document.tree

    assert status in {200, 400, 422}


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_its_standard_shows(before: Json, change: Json, after: Json) -> None:
    read = read_patch(MERGE_PATCH, json.dumps(change).encode(), FhirStoreSettings())

    assert patch_text(json.dumps(before).encode(), "Basic", read).tree == after
