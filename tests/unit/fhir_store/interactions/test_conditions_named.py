"""Conditions as clients write them down: searches below a type, and instants in entries of Bundles."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

Json = dict[str, Any]
Make = Callable[..., Json]
CRITERIA = "identifier=urn:mrn|p1"


def creating(condition: str, patient: Json) -> Json:
    request = {"method": "POST", "url": "Patient", "ifNoneExist": condition}
    return {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": patient, "request": request}]}


@pytest.mark.parametrize("prefix", ["", "?", "Patient?", "http://fhir.test/fhir/Patient?"])
async def test_a_condition_may_be_written_below_its_type(http: httpx.AsyncClient, patient: Make, prefix: str) -> None:
    await http.put("Patient/p1", json=patient())
    body = patient() | {"id": "other"}

    alone = await http.post("Patient", json=body, headers={"if-none-exist": prefix + CRITERIA})
    bundled = await http.post("", json=creating(prefix + CRITERIA, body))

    assert (alone.status_code, alone.json()["id"]) == (200, "p1")
    assert bundled.json()["entry"][0]["response"]["status"] == "200"


@pytest.mark.parametrize("prefix", ["Practitioner?", "http://fhir.test/fhir/Group?"])
async def test_a_condition_on_another_type_is_refused(http: httpx.AsyncClient, patient: Make, prefix: str) -> None:
    alone = await http.post("Patient", json=patient(), headers={"if-none-exist": prefix + CRITERIA})
    bundled = await http.post("", json=creating(prefix + CRITERIA, patient()))

    assert (alone.status_code, bundled.status_code) == (400, 400)
    assert alone.json()["issue"][0]["expression"] == ["http.If-None-Exist"]
    assert (await http.get("Patient?_summary=count")).json()["total"] == 0


async def test_an_entry_reads_what_changed_since_an_instant(http: httpx.AsyncClient, patient: Make) -> None:
    updated = (await http.put("Patient/p1", json=patient())).json()["meta"]["lastUpdated"]
    instants = [updated, "2099-01-01T00:00:00Z", "2000-01-01T00:00:00.000+02:00", "2023-02-30T00:00:00Z", "soon"]
    entries = [{"request": {"method": "GET", "url": "Patient/p1", "ifModifiedSince": each}} for each in instants]

    response = await http.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})

    found = [each["response"]["status"] for each in response.json()["entry"]]
    assert found == ["304", "304", "200", "200", "200"]
