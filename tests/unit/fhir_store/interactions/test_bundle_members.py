"""What a Bundle may hold around its resources: what R4 has, and nothing else."""

from typing import Any

import httpx
import pytest

Json = dict[str, Any]
PATIENT = {"resourceType": "Patient"}


def bundle(entry: Json, request: Json, around: Json) -> Json:
    asked = {"method": "POST", "url": "Patient", **request}
    entries = [{"resource": PATIENT, "request": asked, **entry}]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries, **around}


async def total(http: httpx.AsyncClient) -> int:
    return int((await http.get("Patient?_summary=count")).json()["total"])


@pytest.mark.parametrize(
    ("entry", "request_members", "around"),
    [
        ({}, {"ifNoneExists": "identifier=1"}, {}),
        ({}, {"if-none-exist": "identifier=1"}, {}),
        ({"fullurl": "urn:uuid:8f2f1d2e-0000-4000-8000-000000000001"}, {}, {}),
        ({}, {}, {"entries": []}),
        ({}, {}, {"text": {"status": "generated"}}),
    ],
)
async def test_members_that_r4_does_not_have_are_refused(
    http: httpx.AsyncClient, entry: Json, request_members: Json, around: Json
) -> None:
    response = await http.post("", json=bundle(entry, request_members, around))

    assert response.status_code == 400
    assert response.json()["issue"][0]["expression"] == ["Bundle.entry[0]" if entry or request_members else "Bundle"]
    assert await total(http) == 0


async def test_members_that_r4_has_are_taken(http: httpx.AsyncClient) -> None:
    extension: Json = {"extension": [{"url": "urn:x", "valueCode": "y"}]}
    entry: Json = {"id": "1", **extension, "link": [{"relation": "self", "url": "urn:x"}], "_fullUrl": extension}
    request: Json = {**extension, "_url": extension, "_method": extension, "_ifNoneExist": extension}
    around: Json = {"id": "b", "meta": {}, "language": "de", "implicitRules": "urn:r", "identifier": {"value": "1"}}
    around |= {"timestamp": "2024-01-01T00:00:00Z", "link": [{"relation": "self", "url": "urn:x"}], "_type": extension}

    response = await http.post("", json=bundle(entry, request, around))

    assert response.status_code == 200, response.text
    assert await total(http) == 1
