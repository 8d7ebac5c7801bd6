"""X-Provenance: stored with what it tells of, or nothing is stored at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_site import Site
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.fhir_store.validation import resource_issues

Json = dict[str, Any]
Make = Callable[..., Json]
PROVENANCE: Json = {
    "resourceType": "Provenance",
    "recorded": "2024-01-01T00:00:00Z",
    "agent": [{"who": {"display": "Zoë"}}],
}


def header(tree: Any = PROVENANCE, **members: Any) -> Any:
    return {"x-provenance": json.dumps(tree | members if members else tree, ensure_ascii=False).encode()}


async def held(http: httpx.AsyncClient) -> list[Json]:
    found = (await http.get("Provenance?_sort=_lastUpdated")).json()
    return [entry["resource"] for entry in found.get("entry", [])]


async def test_every_version_that_is_written_gets_its_provenance(http: httpx.AsyncClient, patient: Make) -> None:
    merge = {"content-type": "application/merge-patch+json"}
    created = await http.post("Patient", json=patient(None), headers=header())
    name = created.headers["location"].removeprefix("http://fhir.test/fhir/").partition("/_history")[0]
    await http.put("Patient/p1", json=patient(), headers=header(id="chosen", target=[{"reference": "Patient/other"}]))
    await http.put("Patient/p1", json=patient(active=True), headers=header())
    await http.patch("Patient/p1", content=b'{"active":false}', headers=header() | merge)
    await http.put("Patient?identifier=p1", json=patient(active=True), headers=header())

    provenances = await held(http)

    versions = [f"{name}/_history/1", *(f"Patient/p1/_history/{number}" for number in (1, 2, 3, 4))]
    assert [each["target"] for each in provenances] == [[{"reference": text}] for text in versions]
    assert all(each["agent"] == PROVENANCE["agent"] and each["id"] != "chosen" for each in provenances)
    found = await http.get("Provenance?target=Patient/p1")
    assert found.json()["total"] == 4


async def test_what_was_there_already_gets_none(http: httpx.AsyncClient, patient: Make) -> None:
    await http.put("Patient/p1", json=patient())

    same = await http.put("Patient/p1", json=patient(), headers=header())
    again = await http.post("Patient", json=patient(None), headers=header() | {"if-none-exist": "identifier=p1"})

    assert (same.status_code, again.status_code) == (200, 200)
    assert await held(http) == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"resourceType":"Provenance"}',
        b'{"resourceType":"Patient"}',
        json.dumps(PROVENANCE | {"recorded": "2023-02-30"}).encode(),
        json.dumps(PROVENANCE | {"nonsense": 1}).encode(),
        json.dumps(PROVENANCE).encode() + b"x",
        b'{"resourceType":"Provenance","agent":1,"agent":2}',
        b'{"resourceType":"Provenance","recorded":"\xff"}',
    ],
)
async def test_a_bad_header_is_refused_and_nothing_is_stored(
    http: httpx.AsyncClient, patient: Make, text: bytes
) -> None:
    for method, path in (("POST", "Patient"), ("PUT", "Patient/p1")):
        response = await http.request(method, path, json=patient(), headers={b"x-provenance": text})

        assert response.status_code == 400, response.text
        assert resource_issues(response.json()) == []
        assert "X-Provenance" in response.json()["issue"][0]["details"]["text"]
    assert (await http.get("?_summary=count")).json()["total"] == 0


async def test_where_it_says_nothing_it_is_refused(http: httpx.AsyncClient, patient: Make) -> None:
    await http.put("Patient/p1", json=patient())

    assert (await http.delete("Patient/p1", headers=header())).status_code == 400
    assert (await http.delete("Patient?identifier=p1", headers=header())).status_code == 400
    bundle = {"resourceType": "Bundle", "type": "batch"}
    assert (await http.post("", json=bundle, headers=header())).status_code == 400
    assert (await http.get("Patient/p1", headers=header())).status_code == 200


@pytest.mark.parametrize("fhir_settings", [FhirStoreSettings(validation="strict")])
async def test_strict_refuses_both_for_an_agent_who_is_not_stored(http: httpx.AsyncClient, patient: Make) -> None:
    unknown = header(agent=[{"who": {"reference": "Practitioner/none"}}])

    response = await http.put("Patient/p1", json=patient(), headers=unknown)

    assert response.status_code == 422
    assert (await http.get("?_summary=count")).json()["total"] == 0
    assert (await http.put("Patient/p1", json=patient(), headers=header())).status_code == 201
    assert len(await held(http)) == 1


async def test_it_needs_the_right_to_create_one_and_is_audited(tmp_path: Path, store: FhirStore, patient: Make) -> None:
    site = Site(store, tmp_path / "fhir")
    async with site.http(site.token("system/Patient.cruds")) as http:
        refused = await http.put("Patient/p1", json=patient(), headers=header())
        assert refused.status_code == 403
        assert (await http.get("Patient/p1")).status_code == 404
    async with site.http(site.token("system/*.cruds", name="other")) as http:
        assert (await http.put("Patient/p1", json=patient(), headers=header())).status_code == 201
        await site.settle()
        event = (await http.get("AuditEvent?subtype=create&_sort=-_lastUpdated")).json()["entry"][0]["resource"]
    named = [each["what"]["reference"] for each in event["entity"]]
    assert "Patient/p1/_history/1" in named
    assert any(each.startswith("Provenance/") for each in named)
