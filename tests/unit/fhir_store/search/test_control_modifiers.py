"""A parameter that steers the answer has the modifiers that R4 gives it, or none: another is refused everywhere."""

from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from pulseweir.fhir_store.control_parameters import CONTROLS, FOLLOWED

Json = dict[str, Any]
LENIENT = {"prefer": "handling=lenient"}
VALUES = {
    "_sort": "date",
    "_type": "Patient",
    "_count": "1",
    "_total": "accurate",
    "_summary": "true",
    "_elements": "code",
    "_include": "Observation:subject",
    "_revinclude": "Observation:subject",
    "_since": "2024-01-01T00:00:00Z",
    "_at": "2024-01-01T00:00:00Z",
}
MODIFIERS = ("desc", "not", "exclude", "x", "missing", "", "iterate", "iterate:x", "exact")
PLACES = (
    "Observation",
    "",
    "Patient/p1/Observation",
    "Observation/h1",
    "Observation/h1/_history",
    "Observation/_history",
    "_history",
    "Patient/p1/$everything",
    "Patient/$everything",
    "Observation/$lastn",
    "Patient/$export",
    "metadata",
)


def refused(answer: httpx.Response, name: str) -> bool:
    issue = answer.json()["issue"][0]
    base, _, modifier = name.partition(":")
    assert issue["code"] == "not-supported", issue
    assert issue["expression"] == [f"http.{name}"]
    text = issue["details"]["text"]
    return f"`{modifier}`" in text and base in text


@pytest.mark.parametrize("place", PLACES)
async def test_a_modifier_that_a_control_does_not_take_is_refused_wherever_it_is_asked(
    http: httpx.AsyncClient, place: str
) -> None:
    wrong = [
        f"{name}:{modifier}" for name, taken in CONTROLS.items() for modifier in MODIFIERS if modifier not in taken
    ]
    for name in wrong:
        query = urlencode([("patient", "p1")] * ("$lastn" in place) + [(name, VALUES.get(name.split(":")[0], "x"))])
        answer = await http.get(f"{place}?{query}", headers={"prefer": "respond-async, handling=lenient"})

        assert (place, name, answer.status_code) == (place, name, 400)
        assert refused(answer, name)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Patient/p1/$everything", "start:not"),
        ("Patient/p1/$everything", "end:x"),
        ("Observation/$lastn", "max:desc"),
        ("Patient/$export", "patient:not"),
        ("Patient/p1/$validate", "mode:not"),
        ("Subscription/$status", "status:not"),
        ("Patient/p1/$everything", "_type:not"),
        ("Observation/$lastn", "_elements:exclude"),
    ],
)
async def test_a_parameter_of_an_operation_takes_none_in_query_and_body(
    http: httpx.AsyncClient, path: str, name: str
) -> None:
    parameters = {"resourceType": "Parameters", "parameter": [{"name": name, "valueString": "x"}]}
    later = LENIENT | {"prefer": "respond-async, handling=lenient"}

    for answer in (
        await http.get(f"{path}?{urlencode({name: 'x'})}", headers=later),
        await http.post(path, json=parameters, headers=later),
    ):
        assert answer.status_code == 400
        assert refused(answer, name)


async def test_a_form_an_entry_of_a_batch_and_a_condition_are_held_to_the_same(http: httpx.AsyncClient) -> None:
    form = await http.post("Observation/_search", data={"_sort:desc": "date", "_count": "1"})
    entries = [
        {"request": {"method": "GET", "url": "Observation?_sort:desc=date&_count=1"}},
        {"request": {"method": "GET", "url": "Observation/_history?_since:not=2999"}},
        {"request": {"method": "GET", "url": "Patient/p1/$everything?_type:not=Patient"}},
        {"request": {"method": "GET", "url": "Observation?_sort=-date&_count=1"}},
    ]
    batch = await http.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
    flag = {"resourceType": "Flag", "status": "active", "code": {"text": "x"}, "subject": {"reference": "Patient/p1"}}
    condition = await http.post("Flag", json=flag, headers={"if-none-exist": "status=active&_type:not=Patient"})

    assert [form.status_code, condition.status_code] == [400, 400]
    assert [entry["response"]["status"] for entry in batch.json()["entry"]] == ["400", "400", "400", "200"]


@pytest.mark.parametrize("name", ["_include", "_revinclude"])
@pytest.mark.parametrize("modifier", sorted(FOLLOWED))
async def test_includes_are_followed_again_and_again(http: httpx.AsyncClient, name: str, modifier: str) -> None:
    answer = await http.get(f"Observation?{name}:{modifier}=Observation:has-member", headers=LENIENT)

    assert answer.status_code == 200
