"""What is written down about accesses: by whom, of whom, in what form, and that nobody can change it unseen."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_site import Json, Site, audited_reads, flag, observation, patient
from pulseweir.clock import Clock
from pulseweir.fhir_store.security import audit_trail
from pulseweir.fhir_store.security.audit_chain import verify_directory
from pulseweir.fhir_store.security.clients import house_token
from pulseweir.fhir_store.security.settings import FhirSecuritySettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.fhir_store.validation import check_resource

EVERYTHING = "system/*.cruds"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"


async def events(site: Site) -> list[Json]:
    """The AuditEvents so far, in order, as the house sees them."""
    await site.settle()
    async with site.http(house_token(site.directory)) as house:
        bundle = (await house.get("AuditEvent?_count=1000")).json()
    found = [entry["resource"] for entry in bundle.get("entry", [])]
    return sorted(found, key=lambda event: int(event["id"].removeprefix("audit-")))


def entity(event: Json, kind: str, role: str) -> list[str]:
    chosen = [each for each in event["entity"] if each["type"]["code"] == kind and each["role"]["code"] == role]
    return [each["what"]["reference"] if "what" in each else each["query"] for each in chosen]


def patients(event: Json) -> list[str]:
    return entity(event, "1", "1")


def query(event: Json) -> str:
    return base64.b64decode(entity(event, "2", "24")[0]).decode()


def roles(event: Json) -> dict[str, str]:
    return {each["type"]["coding"][0]["code"]: each["who"]["identifier"]["value"] for each in event["agent"]}


@pytest.fixture
async def http(site: Site) -> Any:
    await site.fill(patient("p1"), patient("p2"), observation("o1"), observation("o2", "p2"))
    async with site.http(site.token(EVERYTHING, name="dashboard")) as client:
        yield client


async def test_a_read_names_client_server_patient_and_version(site: Site, http: httpx.AsyncClient) -> None:
    await http.get("Observation/o1", headers={"x-request-id": "req-1"})

    [event] = await events(site)
    assert event["meta"]["profile"] == [
        "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"
    ]
    assert (event["type"]["code"], event["subtype"][0]["code"], event["action"]) == ("rest", "read", "R")
    assert event["outcome"] == "0"
    assert patients(event) == ["Patient/p1"]
    assert entity(event, "2", "4") == ["Observation/o1/_history/1"]
    # Of a read the server is the source.
    assert roles(event) == {"110152": "dashboard", "110153": "pulseweir-fhir-store"}
    assert [each["requestor"] for each in event["agent"]] == [True, False]
    assert all("network" in each for each in event["agent"])
    assert [each["what"]["identifier"]["value"] for each in event["entity"] if "role" not in each] == ["req-1"]


async def test_each_interaction_has_its_code_and_action(site: Site, http: httpx.AsyncClient) -> None:
    new = {name: value for name, value in observation("x").items() if name != "id"}
    created = (await http.post("Observation", json=new)).json()["id"]
    await http.put(f"Observation/{created}", json=observation(created, status="amended"))
    await http.put("Observation/put", json=observation("put"))
    await http.get(f"Observation/{created}/_history/1")
    await http.get(f"Observation/{created}/_history")
    await http.delete(f"Observation/{created}")
    await http.get("Observation?code=8867-4")
    await http.post("Observation/_search", data={"code": "8867-4"})

    found = [(event["subtype"][0]["code"], event["action"], patients(event)) for event in await events(site)]
    one, both = ["Patient/p1"], ["Patient/p1", "Patient/p2"]
    assert found == [
        ("create", "C", one),
        ("update", "U", one),
        ("create", "C", one),
        ("vread", "R", one),
        ("history-instance", "R", one),
        ("delete", "D", one),
        ("search-type", "E", both),
        ("search-type", "E", both),
    ]


async def test_a_transaction_is_one_event_with_all_it_wrote(site: Site, http: httpx.AsyncClient) -> None:
    entries = [
        {"request": {"method": "PUT", "url": f"Flag/{name}"}, "resource": flag(name, who)}
        for name, who in (("f1", "p1"), ("f2", "p2"))
    ]
    await http.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})

    [event] = await events(site)
    assert (event["subtype"][0]["code"], event["action"]) == ("transaction", "E")
    assert patients(event) == ["Patient/p1", "Patient/p2"]
    assert entity(event, "2", "4") == ["Flag/f1/_history/1", "Flag/f2/_history/1"]


async def test_what_is_refused_is_written_down_too(site: Site, http: httpx.AsyncClient) -> None:
    async with site.http(site.token("system/Flag.rs", name="curious")) as curious:
        assert (await curious.get("Observation/o1")).status_code == 403
    await http.get("Observation/none")
    refused, missing = await events(site)

    assert (refused["outcome"], roles(refused)["110152"]) == ("4", "curious")
    assert entity(refused, "2", "4") == ["Observation/o1"]
    assert missing["outcome"] == "4"
    assert "meta" not in refused or "profile" not in refused["meta"]


async def test_a_refused_write_leaves_its_event_and_nothing_else(site: Site, http: httpx.AsyncClient) -> None:
    answer = await http.put("Observation/o1", json=observation("o1", status="amended"), headers={"if-match": 'W/"9"'})

    assert answer.status_code == 412
    [event] = await events(site)
    assert (event["outcome"], event["subtype"][0]["code"]) == ("4", "update")
    assert (await http.get("Observation/o1")).json()["meta"]["versionId"] == "1"


async def test_every_event_is_a_valid_resource(site: Site, http: httpx.AsyncClient) -> None:
    await http.get("Observation/o1")
    await http.get("Patient?name=x")
    await http.post("", json={"resourceType": "Bundle", "type": "batch", "entry": []})
    await http.put("Flag/f1", json=flag("f1"))
    await http.get("Flag/none")
    async with site.http(site.token("patient/*.rs", patient="p1", name="bound")) as bound:
        await bound.get("Observation")

    found = await events(site)
    assert len(found) == 6
    for event in found:
        check_resource(event, wanted_type="AuditEvent", level="strict")
    assert patients(found[-1]) == ["Patient/p1"]


async def test_a_search_is_kept_without_what_names_a_person(site: Site, http: httpx.AsyncClient) -> None:
    names = "name=Canary&family=Canary&given:exact=Canary&address-city=Canary&phone=Canary&email=Canary"
    await http.get(f"Patient?{names}&identifier=urn:x|7&_count=5")
    await http.get("Observation?subject:Patient.name=Canary&code=8867-4")
    await http.get("Patient?_has:Observation:subject:performer.name=Canary&invented=Canary")
    await http.post("Patient/_search", data={"family": "Canary"})

    found = await events(site)
    queries = [query(event) for event in found]
    assert "Canary" not in str(queries)
    assert "Canary" not in str(found)
    assert "identifier=urn%3Ax%7C7" in queries[0]
    assert "_count=5" in queries[0]
    assert "code=8867-4" in queries[1]


async def test_the_house_and_an_open_server_leave_no_event(make_site: Callable[..., Site]) -> None:
    site = make_site()
    await site.fill(patient("p1"))
    async with site.http() as anybody:
        await anybody.get("Patient/p1")
    async with site.http(house_token(site.directory)) as house:
        await house.get("Patient/p1")

    assert await events(site) == []


async def test_an_open_server_tells_of_anybody_when_told_to(make_site: Callable[..., Site]) -> None:
    site = make_site(security=FhirSecuritySettings(audit="always"))
    await site.fill(patient("p1"))
    async with site.http() as anybody:
        await anybody.get("Patient/p1")

    [event] = await events(site)
    assert roles(event)["110152"] == "anybody"


async def test_metadata_leaves_no_event(site: Site, http: httpx.AsyncClient) -> None:
    assert (await http.get("metadata")).status_code == 200

    assert await events(site) == []


async def test_nobody_changes_or_deletes_an_event(site: Site, http: httpx.AsyncClient) -> None:
    await http.get("Observation/o1")
    [event] = await events(site)
    changed = event | {"outcome": "8"}
    for token in (None, house_token(site.directory)):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        put = await http.put(f"AuditEvent/{event['id']}", json=changed, headers=headers)
        gone = await http.delete(f"AuditEvent/{event['id']}", headers=headers)
        bundle = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [{"request": {"method": "DELETE", "url": f"AuditEvent/{event['id']}"}}],
        }
        inside = await http.post("", json=bundle, headers=headers)
        invented = await http.put("AuditEvent/audit-999", json=event | {"id": "audit-999"}, headers=headers)
        assert (put.status_code, gone.status_code, inside.status_code, invented.status_code) == (405, 405, 405, 403)
    assert verify_directory(site.directory).broken is None


async def test_others_may_hand_in_events_of_their_own(site: Site, http: httpx.AsyncClient) -> None:
    await http.get("Observation/o1")
    [event] = await events(site)
    own = {name: value for name, value in event.items() if name != "id"}

    assert (await http.post("AuditEvent", json=own)).status_code == 201
    found = verify_directory(site.directory)
    assert (found.events, found.broken) == (2, None)


async def test_the_chain_goes_on_after_a_restart(site: Site, tmp_path: Path) -> None:
    await audited_reads(site, 3)
    before = verify_directory(site.directory)
    site.store.close()
    again = Site(FhirStore.open(site.directory, Clock()), site.directory)
    async with again.http(again.token(EVERYTHING, name="second")) as http:
        await http.get("Observation/o1")
    again.store.close()

    after = verify_directory(site.directory)
    assert (before.events, after.events, after.broken) == (3, 4, None)


async def test_what_was_read_is_written_down_before_the_store_closes(site: Site) -> None:
    await site.fill(observation("o1"), observation("o2"))
    async with site.http(site.token(EVERYTHING)) as http:
        for _ in range(50):
            await http.get("Observation/o1")
        site.store.close()

    assert verify_directory(site.directory).events == 50


async def test_nothing_is_shown_while_the_audit_cannot_be_written(
    site: Site, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Json:
        raise OSError("disk")

    await http.get("Observation/o1")
    with monkeypatch.context() as patch:
        patch.setattr(audit_trail, "audit_event", fail)
        await http.get("Observation/o1")
        await site.settle()
        assert (await http.get("Observation/o1")).status_code == 503
    await http.get("Observation/o1")
    assert (await http.get("Observation/o1")).status_code == 200
    assert verify_directory(site.directory).broken is None


async def test_a_write_and_its_event_are_stored_together_or_not_at_all(
    site: Site, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Json:
        raise OSError("disk")

    with monkeypatch.context() as patch:
        patch.setattr(audit_trail, "audit_event", fail)
        assert (await http.put("Flag/f1", json=flag("f1"))).status_code == 500
    assert (await http.get("Flag/f1")).status_code == 404


def bundle(kind: str, *entries: Json) -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def getting(url: str) -> Json:
    return {"request": {"method": "GET", "url": url}}


def parts(event: Json) -> list[tuple[str, str]]:
    """(reference or query, status) of the entries of a bundle that are told by themselves."""
    return [
        (each["what"]["reference"] if "what" in each else base64.b64decode(each["query"]).decode(), status)
        for each in event.get("entity", [])
        for status in [detail["valueString"] for detail in each.get("detail", [])]
    ]


async def test_a_batch_tells_what_each_entry_read_asked_and_was_refused(site: Site, http: httpx.AsyncClient) -> None:
    other_id = {"request": {"method": "PUT", "url": "Flag/f9"}, "resource": flag("f8")}
    await http.post(
        "",
        json=bundle(
            "batch",
            getting("Observation/o1"),
            getting("Observation?code=8867-4&subject:Patient.name=Canary"),
            getting("Observation/none"),
            getting("Patient?name:strange=Canary"),
            {"request": {"method": "PUT", "url": "Flag/f1"}, "resource": flag("f1")},
            other_id,
        ),
    )

    [event] = await events(site)
    assert (event["subtype"][0]["code"], event["action"], event["outcome"]) == ("batch", "E", "4")
    assert patients(event) == ["Patient/p1", "Patient/p2"]
    assert parts(event) == [
        ("Flag/f9", "400"),
        ("GET Observation?code=8867-4&subject%3APatient.name=hidden", "200"),
        ("Observation/none", "404"),
        ("GET Patient?name%3Astrange=hidden", "400"),
    ]
    assert {"Observation/o1/_history/1", "Flag/f1/_history/1"} <= set(entity(event, "2", "4"))
    assert "Canary" not in str(event)
    check_resource(event, wanted_type="AuditEvent", level="strict")


async def test_a_batch_that_went_well_says_so(site: Site, http: httpx.AsyncClient) -> None:
    await http.post("", json=bundle("batch", getting("Observation/o1"), getting("Patient/p2")))

    [event] = await events(site)
    assert (event["subtype"][0]["code"], event["outcome"], parts(event)) == ("batch", "0", [])
    assert patients(event) == ["Patient/p1", "Patient/p2"]


async def test_a_transaction_that_is_refused_tells_what_it_tried(site: Site, http: httpx.AsyncClient) -> None:
    async with site.http(site.token("system/Flag.cruds", name="curious")) as curious:
        entries = [
            {"request": {"method": "PUT", "url": "Flag/f1"}, "resource": flag("f1")},
            {"request": {"method": "PUT", "url": "Observation/o1"}, "resource": observation("o1")},
        ]
        assert (await curious.post("", json=bundle("transaction", *entries))).status_code == 403
        looking = bundle("transaction", {"request": {"method": "DELETE", "url": "Observation?code=8867-4"}})
        assert (await curious.post("", json=looking)).status_code == 403

    first, second = await events(site)
    assert [(each["subtype"][0]["code"], each["outcome"]) for each in (first, second)] == [("transaction", "4")] * 2
    assert parts(first) == [("Observation/o1", "403")]
    assert parts(second) == [("DELETE Observation?code=8867-4", "403")]
    assert patients(first) == []


async def test_parameters_in_a_body_are_kept_as_those_of_a_query(site: Site, http: httpx.AsyncClient) -> None:
    values = {"patient": "p1", "code:text": "Canary", "max": "2"}
    body = {
        "resourceType": "Parameters",
        "parameter": [{"name": name, "valueString": value} for name, value in values.items()],
    }
    await http.post("Observation/$lastn", json=body)
    criteria = "Patient?name=Canary&gender=male"
    body = {"resourceType": "Parameters", "parameter": [{"name": "_typeFilter", "valueString": criteria}]}
    await http.post("$export", json=body, headers={"prefer": "respond-async"})

    last, export = await events(site)
    assert query(last) == "Observation/$lastn?patient=p1&code%3Atext=hidden&max=2"
    assert query(export) == "$export?_typeFilter=Patient%3Fname%3Dhidden%26gender%3Dmale"


async def test_conditions_are_kept_as_searches_are(site: Site, http: httpx.AsyncClient) -> None:
    new = {name: value for name, value in patient("x").items() if name != "id"}
    await http.post("Patient", json=new, headers={"if-none-exist": "identifier=urn:x|7&name=Canary-z"})
    await http.put("Patient?identifier=urn:x|7", json=new)
    await http.delete("Patient?identifier=urn:x|8&_format=json")
    await http.get("Patient/p1?_format=json")

    found = await events(site)
    assert [event["subtype"][0]["code"] for event in found] == ["create", "create", "delete", "read"]
    assert [query(event) for event in found[:3]] == [
        "Patient?identifier=urn%3Ax%7C7&name=hidden",
        "Patient?identifier=urn%3Ax%7C7",
        "Patient?identifier=urn%3Ax%7C8&_format=json",
    ]
    assert entity(found[3], "2", "24") == []
    for event in found:
        check_resource(event, wanted_type="AuditEvent", level="strict")


async def test_the_token_of_a_page_is_not_kept(site: Site, http: httpx.AsyncClient) -> None:
    first = (await http.get("Patient?_sort=family&_count=1")).json()
    await http.get(next(link["url"] for link in first["link"] if link["relation"] == "next"))

    assert query((await events(site))[1]) == "Patient?_sort=family&_count=1&_page=hidden"


async def test_a_fault_of_the_server_is_written_down(
    site: Site, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise KeyError("Canary")

    with monkeypatch.context() as patch:
        patch.setattr("pulseweir.fhir_store.reading.run_search", fail)
        assert (await http.get("Observation?code=x")).status_code == 500

    [event] = await events(site)
    assert (event["outcome"], event["subtype"][0]["code"]) == ("8", "search-type")
