"""Conditional reads, creates, updates and deletes, and what Prefer asks for."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from pulseweir.fhir_store.settings import FhirStoreSettings

Json = dict[str, Any]
Make = Callable[..., Json]
ONE = "Patient?identifier=urn:mrn|p1"
ALL = "Patient?identifier=urn:mrn|"


async def total(http: httpx.AsyncClient, query: str) -> int:
    return int((await http.get(f"{query}&_summary=count")).json()["total"])


@pytest.fixture
async def held(http: httpx.AsyncClient, patient: Make) -> httpx.Response:
    await http.put("Patient/p1", json=patient())
    return await http.put("Patient/p1", json=patient(active=True))


@pytest.mark.parametrize(
    ("tag", "status"),
    [('W/"2"', 304), ('"2"', 304), ("*", 304), ('W/"1", W/"2"', 304), ('W/"1"', 200), ("%", 400)],
)
async def test_a_known_version_is_not_sent_again(
    http: httpx.AsyncClient, held: httpx.Response, tag: str, status: int
) -> None:
    response = await http.get("Patient/p1", headers={"if-none-match": tag})

    assert response.status_code == status
    if status == 304:
        assert (response.content, response.headers["etag"]) == (b"", held.headers["etag"])


async def test_what_has_not_changed_since_is_not_sent_again(http: httpx.AsyncClient, held: httpx.Response) -> None:
    changed = held.headers["last-modified"]

    known = await http.get("Patient/p1", headers={"if-modified-since": changed})
    older = await http.get("Patient/p1", headers={"if-modified-since": "Sat, 01 Jan 2000 00:00:00 GMT"})
    other_tag = await http.get("Patient/p1", headers={"if-modified-since": changed, "if-none-match": 'W/"1"'})
    nonsense = await http.get("Patient/p1", headers={"if-modified-since": "yesterday"})

    statuses = [response.status_code for response in (known, older, other_tag, nonsense)]
    assert statuses == [304, 200, 200, 200]


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(
    "date",
    [
        "Mon, 01 Jan 99999999999999999 00:00:00 GMT",
        "Mon, 99999999999999999999 Jan 2024 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +9999999999999999999999",
    ],
)
async def test_a_date_too_large_for_a_calendar_is_passed_over(http: httpx.AsyncClient, date: str) -> None:
    assert (await http.get("Patient/p1", headers={"if-modified-since": date})).status_code == 200


@pytest.mark.usefixtures("held")
async def test_an_update_may_insist_that_nothing_is_there(http: httpx.AsyncClient, patient: Make) -> None:
    taken = await http.put("Patient/p1", json=patient(), headers={"if-none-match": "*"})
    same = await http.put("Patient/p1", json=patient(), headers={"if-none-match": 'W/"2"'})
    free = await http.put("Patient/p9", json=patient("p9"), headers={"if-none-match": "*"})
    matching = await http.put(ONE, json=patient(), headers={"if-none-match": "*"})

    assert [each.status_code for each in (taken, same, free, matching)] == [412, 412, 201, 412]
    assert taken.json()["issue"][0]["code"] == "conflict"


@pytest.mark.usefixtures("held")
async def test_an_update_names_any_or_one_of_several_versions(http: httpx.AsyncClient, patient: Make) -> None:
    any_version = await http.put("Patient/p1", json=patient(active=False), headers={"if-match": "*"})
    listed = await http.put("Patient/p1", json=patient(active=True), headers={"if-match": 'W/"9", W/"3"'})
    absent = await http.put("Patient/p8", json=patient("p8"), headers={"if-match": "*"})

    assert [each.status_code for each in (any_version, listed, absent)] == [200, 200, 412]


async def test_a_conditional_update_takes_the_body_id_when_nothing_matches(
    http: httpx.AsyncClient, patient: Make
) -> None:
    created = await http.put(ONE, json=patient())
    again = await http.put(ONE, json=patient(active=True))
    other_id = await http.put(ONE, json=patient(None) | {"id": "other"})
    await http.put("Patient/p2", json=patient("p2"))
    taken = await http.put("Patient?identifier=urn:mrn|new", json=patient("p2"))

    assert (created.status_code, created.json()["id"]) == (201, "p1")
    assert (again.status_code, again.json()["meta"]["versionId"]) == (200, "2")
    assert other_id.status_code == 400
    assert other_id.json()["issue"][0]["expression"] == ["Patient.id"]
    assert taken.status_code == 409


@pytest.mark.usefixtures("held")
async def test_a_conditional_delete_removes_the_one_match(http: httpx.AsyncClient, patient: Make) -> None:
    await http.put("Patient/p2", json=patient("p2"))

    several = await http.delete(ALL)
    stale = await http.delete(ONE, headers={"if-match": 'W/"1"'})
    without = await http.delete("Patient")
    unknown = await http.delete("Patient?nonsense=1")
    assert [each.status_code for each in (several, stale, without, unknown)] == [412, 412, 412, 400]
    assert several.json()["issue"][0]["code"] == "multiple-matches"
    assert await total(http, ALL) == 2

    one = await http.delete(ONE)
    none = await http.delete(ONE)
    assert (one.status_code, none.status_code) == (204, 204)
    assert (await http.get("Patient/p1")).status_code == 410
    assert await total(http, ALL) == 1


class TestSeveral:
    @pytest.fixture
    def fhir_settings(self) -> FhirStoreSettings:
        return FhirStoreSettings(conditional_delete_resources=2)

    async def test_a_setting_allows_to_delete_several(self, http: httpx.AsyncClient, patient: Make) -> None:
        for name in ("a", "b", "c"):
            await http.put(f"Patient/{name}", json=patient(name))
        refused = await http.delete(ALL)
        await http.delete("Patient/c")
        deleted = await http.delete(ALL, headers={"prefer": "return=OperationOutcome"})

        assert refused.status_code == 412
        assert deleted.status_code == 200
        assert deleted.json()["issue"][0]["severity"] == "information"
        assert await total(http, ALL) == 0


async def test_a_conditional_create_returns_what_is_there(http: httpx.AsyncClient, patient: Make) -> None:
    first = await http.post(ONE, json=patient())
    second = await http.post(ONE, json=patient())
    third = await http.post("Patient", json=patient(), headers={"if-none-exist": "identifier=urn:mrn|p1"})
    whole = await http.post("Patient", json=patient(), headers={"if-none-exist": ONE})
    empty = await http.post("Patient", json=patient(), headers={"if-none-exist": ""})

    assert [each.status_code for each in (first, second, third, whole, empty)] == [201, 200, 200, 200, 412]
    assert first.json()["id"] != "p1"
    assert second.headers["location"] == first.headers["location"]
    assert await total(http, ALL) == 1


async def test_format_parameters_are_no_condition(http: httpx.AsyncClient, patient: Make) -> None:
    first = await http.post("Patient?_format=json&_pretty=true", json=patient())
    second = await http.post("Patient?_format=json", json=patient())

    assert (first.status_code, second.status_code) == (201, 201)
    assert b'\n  "resourceType"' in first.content
    assert (await http.put(f"{ONE}2&_format=json", json=patient("p1"))).status_code == 201


@pytest.mark.parametrize(
    ("prefer", "type_answered"),
    [
        ("return=minimal", None),
        ("return=representation", "Patient"),
        ("return=OperationOutcome", "OperationOutcome"),
        ("respond-async; handling=strict, return=minimal", None),
        ("RETURN=Minimal", None),
        ("return=nonsense", "Patient"),
    ],
)
async def test_prefer_decides_what_a_write_answers(
    http: httpx.AsyncClient, patient: Make, prefer: str, type_answered: str | None
) -> None:
    for response in (
        await http.put("Patient/p1", json=patient(), headers={"prefer": prefer}),
        await http.patch("Patient/p1", json={"active": True}, headers={"prefer": prefer}),
        await http.post("Patient", json=patient(None), headers={"prefer": prefer}),
    ):
        assert response.headers["etag"]
        assert response.headers["location"].startswith("http://fhir.test/fhir/Patient/")
        assert (response.json()["resourceType"] if response.content else None) == type_answered


async def test_a_nonsense_handling_is_refused(http: httpx.AsyncClient) -> None:
    assert (await http.get("Patient", headers={"prefer": "handling=nonsense"})).status_code == 400
