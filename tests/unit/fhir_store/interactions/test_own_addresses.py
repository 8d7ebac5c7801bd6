"""Addresses of this very server: in conditions of writes, and in narratives of transactions."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

Json = dict[str, Any]
Make = Callable[..., Json]
OWN = "http://fhir.test/fhir"
XHTML = "http://www.w3.org/1999/xhtml"


def flag(**members: Any) -> Json:
    subject = {"reference": "Patient/p1"}
    return {"resourceType": "Flag", "status": "active", "code": {"text": "x"}, "subject": subject} | members


async def test_conditions_know_absolute_references_to_this_server(http: httpx.AsyncClient, patient: Make) -> None:
    await http.put("Patient/p1", json=patient())
    await http.put("Flag/f", json=flag(id="f"))
    condition = f"subject={OWN}/Patient/p1"

    created = await http.post("Flag", json=flag(), headers={"if-none-exist": condition})
    updated = await http.put(f"Flag?{condition}", json=flag(status="inactive"))
    merge = {"content-type": "application/merge-patch+json"}
    patched = await http.patch(f"Flag?{condition}", content=b'{"status":"active"}', headers=merge)
    entry = {"resource": flag(), "request": {"method": "POST", "url": "Flag", "ifNoneExist": condition}}
    linked = {
        "resource": {
            "resourceType": "Basic",
            "code": {"text": "x"},
            "extension": [{"url": "u:x", "valueReference": {"reference": f"Flag?{condition}"}}],
        },
        "request": {"method": "POST", "url": "Basic"},
    }
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry, linked]}
    answer = await http.post("", json=bundle, headers={"prefer": "return=representation"})
    deleted = await http.delete(f"Flag?{condition}")

    assert [each.status_code for each in (created, updated, patched, deleted)] == [200, 200, 200, 204]
    entries = answer.json()["entry"]
    assert [each["response"]["status"] for each in entries] == ["200", "201"]
    assert entries[1]["resource"]["extension"][0]["valueReference"]["reference"] == "Flag/f"
    assert (await http.get("Flag/f")).status_code == 410
    assert (await http.post("Flag", json=flag(), headers={"if-none-exist": condition})).status_code == 201


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_addresses_in_a_narrative_follow_their_entries(http: httpx.AsyncClient, patient: Make, kind: str) -> None:
    name = "urn:uuid:6e5f0c5e-8f3c-4a5e-9a39-1f2bb6b3f6a1"
    div = (
        f'<div xmlns="{XHTML}"><a href="{name}">a</a><a href=\'{name}#x\'>b</a><img src="{name}" alt="{name}"/>'
        f'<a href="{name}0">c</a><p>{name} href={name}</p></div>'
    )
    shown = patient(None, text={"status": "generated", "div": div})
    told = {"resourceType": "Basic", "code": {"text": f'<a href="{name}">'}}
    entries = [
        {"fullUrl": name, "resource": patient(None), "request": {"method": "POST", "url": "Patient"}},
        {"resource": shown, "request": {"method": "POST", "url": "Patient"}},
        {"resource": told, "request": {"method": "POST", "url": "Basic"}},
    ]

    answer = await http.post(
        "",
        json={"resourceType": "Bundle", "type": kind, "entry": entries},
        headers={"prefer": "return=representation"},
    )

    first, second, third = (each["resource"] for each in answer.json()["entry"])
    own = f"Patient/{first['id']}" if kind == "transaction" else name
    assert second["text"]["div"] == (
        f'<div xmlns="{XHTML}"><a href="{own}">a</a><a href=\'{own}#x\'>b</a><img src="{own}" alt="{name}"/>'
        f'<a href="{name}0">c</a><p>{name} href={name}</p></div>'
    )
    assert third["code"] == told["code"]
