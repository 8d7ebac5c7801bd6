"""What /metadata claims is what the routes do: no more, no less."""

from typing import Any

import httpx
import pytest

from pulseweir.fhir_store.operations import OPERATIONS
from pulseweir.fhir_store.parameters import RESOURCE_TYPES
from pulseweir.fhir_store.patching import MERGE_PATCH
from pulseweir.fhir_store.routes import ROUTES
from pulseweir.fhir_store.settings import FhirStoreSettings

Json = dict[str, Any]
TYPE_LEVEL = {
    ("type", "POST"): "create",
    ("type", "GET"): "search-type",
    ("type/_search", "GET"): "search-type",
    ("type/_search", "POST"): "search-type",
    ("type/_history", "GET"): "history-type",
    ("type/id", "GET"): "read",
    ("type/id", "PUT"): "update",
    ("type/id", "PATCH"): "patch",
    ("type/id", "DELETE"): "delete",
    ("type/id/_history", "GET"): "history-instance",
    ("type/id/_history/version", "GET"): "vread",
    # The conditional forms are told apart from the interactions, and a compartment by its own resource.
    ("type", "PUT"): "update",
    ("type", "PATCH"): "patch",
    ("type", "DELETE"): "delete",
    ("type/id/type", "GET"): "search-type",
}
SYSTEM_LEVEL = {
    ("", "POST"): {"transaction", "batch"},
    ("", "GET"): {"search-system"},
    ("_search", "GET"): {"search-system"},
    ("_search", "POST"): {"search-system"},
    ("_history", "GET"): {"history-system"},
    ("metadata", "GET"): set(),
}


async def statement(http: httpx.AsyncClient) -> Json:
    rest: Json = (await http.get("metadata")).json()
    return rest


def codes(part: Json) -> set[str]:
    return {each["code"] for each in part["interaction"]}


async def test_the_interactions_are_those_of_the_routes(http: httpx.AsyncClient) -> None:
    rest = (await statement(http))["rest"][0]
    routes = {(path, method) for path, methods in ROUTES.items() for method in methods}

    assert routes == set(TYPE_LEVEL) | set(SYSTEM_LEVEL)
    assert codes(rest) == set().union(*SYSTEM_LEVEL.values())
    assert [each["type"] for each in rest["resource"]] == list(RESOURCE_TYPES)
    for resource in rest["resource"]:
        unchanging = {"update", "patch", "delete"} if resource["type"] == "AuditEvent" else set()
        assert codes(resource) == set(TYPE_LEVEL.values()) - unchanging


async def test_an_audit_event_takes_no_change(http: httpx.AsyncClient) -> None:
    event = {
        "resourceType": "AuditEvent",
        "id": "a",
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
        "recorded": "2024-01-01T00:00:00Z",
        "agent": [{"requestor": True}],
        "source": {"observer": {"display": "x"}},
    }
    assert (await http.post("AuditEvent", json=event)).status_code == 201
    assert (await http.put("AuditEvent/a", json=event)).status_code == 201

    changed = await http.put("AuditEvent/a", json=event | {"outcome": "4"})
    patched = await http.patch("AuditEvent/a", json={"outcome": "4"})
    deleted = await http.delete("AuditEvent/a")

    assert [each.status_code for each in (changed, patched, deleted)] == [405, 405, 405]


async def test_every_operation_claimed_is_answered_and_no_other(http: httpx.AsyncClient) -> None:
    rest = (await statement(http))["rest"][0]

    assert {each["name"] for each in rest["operation"]} == {"export"} | {
        name[1:] for name, operation in OPERATIONS.items() if operation.on_system
    }
    for resource in rest["resource"]:
        claimed = {f"${each['name']}" for each in resource.get("operation", [])}
        for name in [*OPERATIONS, "$nonsense"]:
            paths = (f"{resource['type']}/{name}", f"{resource['type']}/x/{name}")
            # PUT is no way to ask an operation: 405 says that there is one, 404 that there is none.
            answers = {(await http.put(path, json={})).status_code for path in paths}
            assert answers <= {404, 405}
            is_there = 405 in answers
            assert is_there == (name in claimed), (resource["type"], name)


async def test_the_patch_formats_claimed_are_taken(http: httpx.AsyncClient) -> None:
    formats = (await statement(http))["patchFormat"]

    assert len(formats) == 2
    await http.put("Basic/b", json={"resourceType": "Basic", "id": "b", "code": {"text": "x"}})
    for kind in formats:
        body = "{}" if kind == MERGE_PATCH else "[]"
        assert (await http.patch("Basic/b", content=body, headers={"content-type": kind})).status_code == 200


@pytest.mark.parametrize("resource_type", ["Patient", "Observation", "Provenance"])
async def test_the_includes_claimed_are_taken(http: httpx.AsyncClient, resource_type: str) -> None:
    rest = (await statement(http))["rest"][0]
    resource = next(each for each in rest["resource"] if each["type"] == resource_type)

    for name, parameter in (("searchInclude", "_include"), ("searchRevInclude", "_revinclude")):
        for value in resource.get(name, []):
            response = await http.get(resource_type, params={parameter: value}, headers={"prefer": "handling=strict"})
            assert response.status_code == 200, (name, value)
    assert f"{resource_type}:subject" not in resource.get("searchRevInclude", []) or resource_type != "Observation"


async def test_the_statement_is_a_valid_resource_for_clients(http: httpx.AsyncClient) -> None:
    told = await statement(http)

    assert told["fhirVersion"] == "4.0.1"
    assert told["implementation"]["url"] == "http://fhir.test/fhir"
    patient = next(each for each in told["rest"][0]["resource"] if each["type"] == "Patient")
    assert "Observation:patient" in patient["searchRevInclude"]
    assert (patient["conditionalDelete"], patient["conditionalRead"]) == ("single", "full-support")


class TestSeveral:
    @pytest.fixture
    def fhir_settings(self) -> FhirStoreSettings:
        return FhirStoreSettings(conditional_delete_resources=5)

    async def test_a_setting_shows(self, http: httpx.AsyncClient) -> None:
        told = await statement(http)

        assert told["rest"][0]["resource"][0]["conditionalDelete"] == "multiple"
