"""History of a resource, a type and everything: order, pages, deletions, times."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
Make = Callable[..., Json]


def versions(bundle: Json) -> list[str]:
    return [f"{entry['request']['url']}/{entry['response']['etag'][3:-1]}" for entry in bundle.get("entry", [])]


async def get(http: httpx.AsyncClient, path: str) -> Json:
    response = await http.get(path)
    assert response.status_code == 200, response.text
    bundle: Json = response.json()
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "history")
    return bundle


def next_link(bundle: Json) -> str | None:
    return next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)


@pytest.fixture
async def changed(http: httpx.AsyncClient, patient: Make) -> None:
    """Patient/a twice and deleted, Patient/b twice, Device/d once, in that order."""
    await http.put("Patient/a", json=patient("a"))
    await http.put("Patient/a", json=patient("a", active=True))
    await http.put("Patient/b", json=patient("b"))
    await http.delete("Patient/a")
    await http.put("Device/d", json={"resourceType": "Device", "id": "d"})
    await http.put("Patient/b", json=patient("b", active=True))


@pytest.mark.usefixtures("changed")
async def test_each_level_shows_its_versions_newest_first(http: httpx.AsyncClient) -> None:
    assert versions(await get(http, "Patient/a/_history")) == ["Patient/a/3", "Patient/a/2", "Patient/a/1"]
    of_type = ["Patient/b/2", "Patient/a/3", "Patient/b/1", "Patient/a/2", "Patient/a/1"]
    assert versions(await get(http, "Patient/_history")) == of_type
    everything = await get(http, "_history")
    assert versions(everything) == [of_type[0], "Device/d/1", *of_type[1:]]
    assert everything["total"] == 6


@pytest.mark.usefixtures("changed")
async def test_a_deletion_is_an_entry_without_a_resource(http: httpx.AsyncClient) -> None:
    newest, middle, oldest = (await get(http, "Patient/a/_history"))["entry"]

    assert newest["request"] == {"method": "DELETE", "url": "Patient/a"}
    assert newest["response"]["status"] == "204"
    assert "resource" not in newest
    assert newest["fullUrl"] == "http://fhir.test/fhir/Patient/a"
    assert (middle["response"]["status"], oldest["response"]["status"]) == ("200", "201")
    assert middle["resource"]["active"] is True


@pytest.mark.usefixtures("changed")
async def test_a_version_is_read_and_a_deleted_one_is_gone(http: httpx.AsyncClient) -> None:
    first = await http.get("Patient/a/_history/1")
    gone = await http.get("Patient/a/_history/3")
    never = await http.get("Patient/a/_history/9")

    assert (first.status_code, first.headers["etag"]) == (200, 'W/"1"')
    assert "active" not in first.json()
    assert (gone.status_code, never.status_code) == (410, 404)


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize("path", ["Patient/a/_history", "Patient/_history", "_history"])
async def test_pages_show_every_version_once_while_new_ones_arrive(
    http: httpx.AsyncClient, patient: Make, path: str
) -> None:
    expected = versions(await get(http, path))
    page = await get(http, f"{path}?_count=2")
    seen = versions(page)
    await http.put("Patient/c", json=patient("c"))
    await http.put("Patient/a", json=patient("a"))

    while (url := next_link(page)) is not None:
        assert url.startswith("http://fhir.test/fhir/")
        page = await get(http, url)
        assert page["total"] == len(expected)
        seen += versions(page)

    assert seen == expected


@pytest.mark.usefixtures("changed")
async def test_since_leaves_out_what_is_older(http: httpx.AsyncClient) -> None:
    everything = (await get(http, "_history"))["entry"]
    instant = everything[2]["response"]["lastModified"]

    page = await get(http, f"_history?_since={instant}")

    assert versions(page) == versions({"entry": everything[:3]})
    assert page["total"] == 3
    assert (await get(http, "_history?_since=2099-01-01"))["total"] == 0
    # HAPI's client sends the zone's plus sign as it is, which a query decodes to a blank.
    assert (await get(http, "_history?_since=2099-01-01T00:00:00.000+00:00"))["total"] == 0


@pytest.mark.usefixtures("changed")
async def test_at_shows_what_held_at_that_time(http: httpx.AsyncClient) -> None:
    entries = (await get(http, "_history"))["entry"]
    times = {
        version: entry["response"]["lastModified"]
        for version, entry in zip(versions({"entry": entries}), entries, strict=True)
    }

    assert versions(await get(http, f"_history?_at={times['Patient/b/1']}")) == ["Patient/b/1", "Patient/a/2"]
    assert versions(await get(http, f"Patient/a/_history?_at={times['Patient/a/1']}")) == ["Patient/a/1"]
    assert versions(await get(http, "Patient/a/_history?_at=2001")) == []


@pytest.mark.usefixtures("changed")
async def test_a_history_of_some_types_is_asked_for(http: httpx.AsyncClient) -> None:
    assert versions(await get(http, "_history?_type=Device,Flag")) == ["Device/d/1"]


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("Patient/a/_history?_count=many", 400),
        ("_history?_since=yesterday", 400),
        ("_history?_since=2023-02-30", 400),
        ("_history?_at=x", 400),
        ("_history?_page=x", 400),
        ("_history?_type=Nonsense", 404),
        ("Nonsense/_history", 404),
        ("Patient/never/_history", 404),
        ("Patient/a_b/_history", 400),
        ("Patient/a/_history/1/2", 404),
        ("Patient/_history/1", 404),
    ],
)
async def test_a_history_that_makes_no_sense_is_refused(http: httpx.AsyncClient, path: str, status: int) -> None:
    response = await http.get(path)

    assert response.status_code == status
    assert response.json()["resourceType"] == "OperationOutcome"


@pytest.mark.usefixtures("changed")
async def test_a_page_belongs_to_its_history(http: httpx.AsyncClient) -> None:
    url = next_link(await get(http, "Patient/_history?_count=1"))
    assert url is not None

    assert (await http.get(url.replace("Patient/_history", "Device/_history"))).status_code == 400


async def test_an_unknown_parameter_is_refused_only_when_strict(http: httpx.AsyncClient) -> None:
    assert (await http.get("_history?nonsense=1")).status_code == 200
    strict = await http.get("_history?nonsense=1", headers={"prefer": "handling=strict"})
    assert strict.status_code == 400


async def test_a_huge_count_is_capped(http: httpx.AsyncClient, store: FhirStore) -> None:
    def fill(session: WriteSession) -> None:
        for number in range(1_100):
            session.insert("Basic", f"b{number}", {"resourceType": "Basic"}, (b"", b'"code":{"text":"x"}'))

    await store.write(fill)

    page = await get(http, "Basic/_history?_count=1000000000")

    assert len(page["entry"]) == 1_000
    assert page["total"] == 1_100
    rest = await get(http, next_link(page) or "")
    assert len(rest["entry"]) == 100
    assert next_link(rest) is None


async def test_each_version_shows_the_method_and_status_it_came_with(http: httpx.AsyncClient, patient: Make) -> None:
    await http.put("Patient/p1", json=patient())
    await http.delete("Patient/p1")
    await http.put("Patient/p1", json=patient())
    await http.put("Patient/p1", json=patient(active=True))
    posted = (await http.post("Patient", json=patient(None))).json()["id"]
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": patient("p2"), "request": {"method": "PUT", "url": "Patient/p2"}},
            {"resource": patient(None), "request": {"method": "POST", "url": "Patient"}},
        ],
    }
    await http.post("", json=bundle)

    shown = [
        (each["request"]["method"], each["request"]["url"], each["response"]["status"])
        for each in (await get(http, "Patient/_history"))["entry"]
    ]

    p1 = "Patient/p1"
    assert sorted(shown[:2]) == [("POST", "Patient", "201"), ("PUT", "Patient/p2", "201")]
    assert shown[2:] == [
        ("POST", "Patient", "201"),
        ("PUT", p1, "200"),
        ("PUT", p1, "201"),
        ("DELETE", p1, "204"),
        ("PUT", p1, "201"),
    ]
    assert (await get(http, f"Patient/{posted}/_history"))["entry"][0]["request"]["method"] == "POST"
