"""The operation $validate: bare and in Parameters, on a type, a resource and the base; it never stores."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

Json = dict[str, Any]
Make = Callable[..., Json]
WRONG = {"resourceType": "Patient", "active": "yes", "name": [{"family": 5}]}


def parameters(resource: Json | None = None, **values: str) -> Json:
    parts: list[Json] = [{"name": name, "valueCode": text} for name, text in values.items()]
    if resource is not None:
        parts.append({"name": "resource", "resource": resource})
    return {"resourceType": "Parameters", "parameter": parts}


async def issues(http: httpx.AsyncClient, path: str, body: Json | None = None) -> list[tuple[str, str, str | None]]:
    response = await (http.get(path) if body is None else http.post(path, json=body))
    assert response.status_code == 200, response.text
    assert response.json()["resourceType"] == "OperationOutcome"
    found = response.json()["issue"]
    return [(each["severity"], each["code"], (each.get("expression") or [None])[0]) for each in found]


PASSED = [("information", "informational", None)]


@pytest.mark.parametrize("path", ["Patient/$validate", "$validate", "Patient/p1/$validate"])
async def test_a_right_resource_passes_bare_or_as_a_parameter(
    http: httpx.AsyncClient, patient: Make, path: str
) -> None:
    assert await issues(http, path, patient()) == PASSED
    assert await issues(http, path, parameters(patient())) == PASSED
    assert (await http.get("Patient?_summary=count")).json()["total"] == 0


async def test_all_faults_are_told_with_their_places(http: httpx.AsyncClient) -> None:
    found = await issues(http, "Patient/$validate", WRONG)

    assert {place for _, _, place in found} == {"Patient.active", "Patient.name[0].family"}
    assert {severity for severity, _, _ in found} == {"error"}


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("Patient/$validate", {"resourceType": "Flag"}, "invalid"),
        ("Patient/$validate", {"resourceType": "Nonsense"}, "structure"),
        ("Patient/p1/$validate", {"resourceType": "Patient", "id": "p2"}, "invalid"),
        ("Patient/$validate?mode=update", {"resourceType": "Patient"}, "required"),
        ("Patient/$validate", parameters({"resourceType": "Patient"}, mode="update"), "required"),
        ("Patient/p1/$validate", parameters(mode="delete"), "not-found"),
    ],
)
async def test_what_could_not_be_stored_fails(http: httpx.AsyncClient, path: str, body: Json, code: str) -> None:
    found = await issues(http, path, body)

    assert found[0][:2] == ("error", code)


async def test_a_stored_resource_is_validated_and_may_be_deleted(http: httpx.AsyncClient, patient: Make) -> None:
    await http.put("Patient/p1", json=patient())

    assert await issues(http, "Patient/p1/$validate") == PASSED
    assert await issues(http, "Patient/p1/$validate?mode=delete") == PASSED
    assert (await http.get("Patient/p1")).status_code == 200


async def test_an_unknown_profile_is_warned_of(http: httpx.AsyncClient, patient: Make) -> None:
    found = await issues(http, "Patient/$validate?profile=http://example.org/p", patient())

    assert [each[:2] for each in found] == [("warning", "not-supported"), ("information", "informational")]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "Patient/$validate", parameters(), 400),
        ("POST", "Patient/$validate", parameters(mode="delete"), 400),
        ("POST", "Patient/$validate?mode=explode", {"resourceType": "Patient"}, 400),
        ("POST", "Patient/$validate", {"resourceType": "Parameters", "parameter": {}}, 400),
        ("POST", "Patient/$validate", {"resourceType": "Parameters", "parameter": [5]}, 400),
        ("POST", "Nonsense/$validate", {"resourceType": "Patient"}, 404),
        ("POST", "Patient/a_b/$validate", {"resourceType": "Patient"}, 400),
        ("POST", "Patient/a/b/$validate", {"resourceType": "Patient"}, 404),
        ("GET", "Patient/$validate", None, 405),
        ("GET", "Patient/never/$validate", None, 404),
        ("PUT", "Patient/$validate", {}, 405),
    ],
)
async def test_what_cannot_be_validated_is_refused(
    http: httpx.AsyncClient, method: str, path: str, body: Json | None, status: int
) -> None:
    response = await http.request(method, path, json=body)

    assert response.status_code == status
    assert response.json()["resourceType"] == "OperationOutcome"
