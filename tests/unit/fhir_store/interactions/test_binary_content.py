"""Binaries written from raw bodies and read as what they are."""

import base64
from pathlib import Path

import httpx
import pytest

from fhir_site import Site
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.fhir_store.validation import resource_issues

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"


async def test_a_raw_body_comes_back_as_it_was(http: httpx.AsyncClient) -> None:
    raw = {"content-type": "image/png", "x-security-context": "Patient/p1"}
    created = await http.post("Binary", content=PNG, headers=raw)
    updated = await http.put("Binary/b", content=PNG, headers={"content-type": "text/plain; charset=utf-8"})

    assert (created.status_code, updated.status_code) == (201, 201)
    resource = created.json()
    assert resource["contentType"] == "image/png"
    assert base64.b64decode(resource["data"]) == PNG
    assert resource["securityContext"] == {"reference": "Patient/p1"}
    name = f"Binary/{resource['id']}"
    for path in (name, f"{name}/_history/1"):
        shown = await http.get(path, headers={"accept": "image/png"})
        assert (shown.status_code, shown.content) == (200, PNG)
        assert shown.headers["content-type"] == "image/png"
        assert shown.headers["etag"] == 'W/"1"'
        assert shown.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in shown.headers["content-security-policy"]
    text = await http.get("Binary/b", headers={"accept": "text/plain"})
    assert (text.content, text.headers["content-type"]) == (PNG, "text/plain; charset=utf-8")
    head = await http.head(name, headers={"accept": "image/png"})
    assert (head.content, head.headers["content-length"]) == (b"", str(len(PNG)))
    known = await http.get(name, headers={"accept": "image/png", "if-none-match": 'W/"1"'})
    assert known.status_code == 304


@pytest.mark.parametrize(
    ("accept", "status", "kind"),
    [
        ("image/png, */*;q=0.1", 200, "image/png"),
        ("application/fhir+json, image/png;q=0.5", 200, "application/fhir+json;charset=utf-8"),
        ("image/jpeg, */*;q=0.1", 200, "application/fhir+json;charset=utf-8"),
        ("*/*", 200, "application/fhir+json;charset=utf-8"),
        ("image/jpeg", 406, "application/fhir+json;charset=utf-8"),
        ("image/png;q=0", 406, "application/fhir+json;charset=utf-8"),
    ],
)
async def test_what_is_accepted_decides(http: httpx.AsyncClient, accept: str, status: int, kind: str) -> None:
    await http.put("Binary/b", content=PNG, headers={"content-type": "image/png"})

    response = await http.get("Binary/b", headers={"accept": accept})

    assert (response.status_code, response.headers["content-type"]) == (status, kind)
    missing = await http.get("Binary/none", headers={"accept": accept})
    assert missing.status_code in {404, 406}
    assert resource_issues(missing.json()) == []


@pytest.mark.parametrize("kind", ["png", "image/", "image/p\u00ffg", "image/png, text/html", "a b/c"])
async def test_a_body_that_names_no_type_is_refused(http: httpx.AsyncClient, kind: str) -> None:
    response = await http.post("Binary", content=PNG, headers={b"content-type": kind.encode("latin-1")})

    assert response.status_code == 415, response.text
    assert (await http.get("?_summary=count")).json()["total"] == 0


async def test_an_empty_body_is_an_empty_binary(http: httpx.AsyncClient) -> None:
    assert (await http.put("Binary/b", content=b"", headers={"content-type": "text/csv"})).status_code == 201

    shown = await http.get("Binary/b", headers={"accept": "text/csv"})

    assert (shown.status_code, shown.content, shown.headers["content-type"]) == (200, b"", "text/csv")


@pytest.mark.parametrize("fhir_settings", [FhirStoreSettings(validation="off")])
@pytest.mark.parametrize("kind", ["text/pl\u00e9in", "text/plain\r\nx: y", "text/plain; \u4e00", 5, None])
async def test_a_type_that_no_header_can_carry_is_shown_as_json(http: httpx.AsyncClient, kind: object) -> None:
    binary = {"resourceType": "Binary", "id": "b", "contentType": kind, "data": "eHg=" if kind else 5}
    await http.put("Binary/b", json=binary)

    response = await http.get("Binary/b", headers={"accept": "text/plain, */*;q=0.1"})

    assert response.status_code in {200, 404}
    assert response.headers["content-type"].startswith("application/fhir+json")


@pytest.mark.parametrize("gap", ["\r\n\r\n", "\n", "\u2003", "\x1f"])
async def test_a_type_with_more_than_blanks_before_its_parameters_is_shown_as_json(
    http: httpx.AsyncClient, gap: str
) -> None:
    binary = {"resourceType": "Binary", "id": "b", "contentType": f"text/plain{gap};x: y", "data": "eHg="}
    await http.put("Binary/b", json=binary)

    response = await http.get("Binary/b", headers={"accept": "text/plain, */*;q=0.1"})

    assert response.status_code in {200, 404}
    assert response.headers["content-type"].startswith("application/fhir+json")


async def test_raw_reads_keep_to_the_rights(tmp_path: Path, store: FhirStore) -> None:
    site = Site(store, tmp_path / "fhir")
    await site.fill({"resourceType": "Binary", "id": "b", "contentType": "image/png", "data": "eHg="})
    async with site.http(site.token("system/Patient.cruds")) as http:
        assert (await http.get("Binary/b", headers={"accept": "image/png"})).status_code == 403
        answer = await http.post("Binary", content=PNG, headers={"content-type": "image/png"})
        assert answer.status_code == 403
