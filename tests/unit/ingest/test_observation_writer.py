"""The Observation writer against the embedded store and against scripted answers."""

from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from observed_rows import MINUTE, MONITOR, NOON, SITE, Time, marked, rows, written
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.errors import RetryLater
from pulseweir.ingest.catalog import MappingPair
from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.ingest.observation_writer import ObservationStage
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM


def stage_on(fhir: FhirClient, **settings: Any) -> ObservationStage:
    return Time().stage(fhir, **settings)


async def test_rows_become_observations_with_the_ids_the_connector_gave_them(fhir: FhirClient) -> None:
    table = rows(
        ("heart-rate", 0, {"heart_rate": "84"}),
        ("cuff-pressure", 0, {"systolic": "120", "diastolic": "70", "mean": "87.0"}),
        ("consciousness-voice", 0, {"consciousness": "V"}),
    )

    handled = await stage_on(fhir, bundle_size=2).handle({0: table})

    assert handled.outcome.tallies == {"written": 5}
    stored = await fhir.search("Observation", [("patient", "patient-1")])
    assert {one["id"] for one in stored} == set(table["observation_id"].to_pylist())
    assert {one["effectiveDateTime"] for one in stored} == {"2030-05-01T12:00:00Z"}
    panel = next(one for one in stored if "component" in one)
    assert [part["valueQuantity"]["value"] for part in panel["component"]] == [120, 70, 87.0]
    assert {one["device"]["reference"] for one in stored} == {"Device/monitor-1"}


async def test_writing_the_same_rows_again_changes_nothing(fhir: FhirClient) -> None:
    stage = stage_on(fhir)
    table = rows(("spo2", 0, {"spo2": "96"}), ("cuff-pressure", 0, {"systolic": "120"}))

    await stage.handle({0: table})
    first = await fhir.search("Observation", [("patient", "patient-1")])
    again = await stage.handle({0: table})

    assert again.outcome.tallies == {"written": 2}
    assert [
        {name: part for name, part in one.items() if name != "meta"}
        for one in await fhir.search("Observation", [("patient", "patient-1")])
    ] == [{name: part for name, part in one.items() if name != "meta"} for one in first]


async def test_a_panel_that_arrives_in_pieces_is_merged(fhir: FhirClient) -> None:
    stage = stage_on(fhir)

    await stage.handle({0: rows(("cuff-pressure", 0, {"systolic": "120"}))})
    await stage.handle({0: rows(("cuff-pressure", 0, {"diastolic": "70"}))})

    (stored,) = await fhir.search("Observation", [("patient", "patient-1")])
    assert [part["code"]["text"] for part in stored["component"]] == ["systolic", "diastolic"]
    assert stored["status"] == "amended"


async def test_an_hour_fills_over_several_batches(fhir: FhirClient) -> None:
    stage = stage_on(fhir)

    await stage.handle({0: rows(("pulse-wave", 0, {"pulse": "60"}), ("pulse-wave", 120, {"pulse": "62"}), pair=SITE)})
    await stage.handle({0: rows(("pulse-wave", 60, {"pulse": "61"}), pair=SITE)})

    (stored,) = await fhir.search("Observation", [("patient", "patient-1")])
    assert stored["valueSampledData"]["data"].startswith("60 61 62 E")
    assert stored["effectivePeriod"]["start"] == "2030-05-01T12:00:00Z"


async def test_the_value_that_came_last_counts_and_the_other_is_counted(fhir: FhirClient) -> None:
    table = rows(("spo2", 0, {"spo2": "90"}), ("spo2", 0, {"spo2": "91"}))

    handled = await stage_on(fhir).handle({0: table})

    (stored,) = await fhir.search("Observation", [("patient", "patient-1")])
    assert stored["valueQuantity"]["value"] == 91
    assert handled.outcome.tallies == {"written": 1, "filtered:superseded": 1}


async def test_an_impossible_value_is_written_and_marked(fhir: FhirClient) -> None:
    found = rows(("heart-rate", 0, {"heart_rate": "0"}), ("cuff-pressure", 0, {"systolic": "11647", "diastolic": "70"}))
    table = marked(found, [True, True, False])

    await stage_on(fhir).handle({0: table})

    stored = {one["code"]["text"]: one for one in await fhir.search("Observation", [("patient", "patient-1")])}
    assert stored["heart-rate"]["interpretation"][0]["coding"][0]["code"] == "implausible"
    marks = [part.get("interpretation", [{}])[0] for part in stored["cuff-pressure"]["component"]]
    assert [bool(mark) for mark in marks] == [True, False]


async def test_rows_without_a_fhir_mapping_are_filtered(fhir: FhirClient) -> None:
    table = rows(
        ("unheard-of", 0, {"x": "1"}), ("heart-rate", 0, {"other": "1"}), ("heart-rate", 0, {"heart_rate": "60"})
    )

    handled = await stage_on(fhir).handle({0: table})

    assert handled.outcome.tallies == {"filtered:no-fhir-mapping": 2, "written": 1}


async def test_a_quantity_that_is_no_number_spoils_nothing_else_of_its_panel(fhir: FhirClient) -> None:
    table = rows(("cuff-pressure", 0, {"systolic": "120", "diastolic": "high", "mean": "90"}))

    handled = await stage_on(fhir).handle({0: table})

    assert [item.reason for item in handled.outcome.quarantined] == ["not-a-quantity"]
    assert handled.outcome.tallies == {"written": 2}
    assert "high" not in handled.outcome.quarantined[0].message


async def test_a_device_whose_fhir_id_differs_is_looked_up(fhir: FhirClient) -> None:
    await fhir.update(
        {
            "resourceType": "Device",
            "id": "d-77",
            "identifier": [{"system": DEVICE_IDENTIFIER_SYSTEM, "value": "monitor-1"}],
        }
    )

    await stage_on(fhir).handle({0: rows(("spo2", 0, {"spo2": "96"}), device="d-77")})

    (stored,) = await fhir.search("Observation", [("patient", "patient-1")])
    assert stored["device"]["reference"] == "Device/d-77"
    assert stored["identifier"][0]["value"].startswith("patient-1.d-77.spo2.")


class Script:
    """A FHIR server that answers bundles as told; each bundle takes the next answer of the script."""

    def __init__(self, *answers: Callable[[dict[str, Any]], list[dict[str, Any]]] | httpx.Response) -> None:
        self.answers = list(answers)
        self.bundles: list[dict[str, Any]] = []
        self.client = FhirClient("http://script/fhir", transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        bundle = msgspec.json.decode(request.content) if request.content else {}
        self.bundles.append(bundle)
        answer = self.answers.pop(0)
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "batch-response", "entry": answer(bundle)})

    @property
    def sent(self) -> list[list[tuple[str, str | None]]]:
        return [
            [(entry["request"]["method"], entry["request"].get("ifMatch")) for entry in bundle["entry"]]
            for bundle in self.bundles
        ]


def each(
    status: str, resource: dict[str, Any] | None = None, text: str = "", expression: str = ""
) -> Callable[..., list[dict[str, Any]]]:
    issue = {"severity": "error", "code": "x", "diagnostics": text, "expression": [expression]}
    outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
    response: dict[str, Any] = {"status": status, "outcome": outcome} if text else {"status": status}
    answer: dict[str, Any] = {"response": response} | ({"resource": resource} if resource else {})
    return lambda bundle: [answer for _ in bundle["entry"]]


TYPE_OF_YESTERDAY: dict[str, object] = {
    "templateType": "CollectionFhir",
    "template": [
        {
            "templateType": "CodeValueFhir",
            "template": {
                "typeName": "yesterday",
                "codes": [],
                "value": {"valueType": "String", "valueName": "v"},
            },
        }
    ],
}
STORED = {
    "resourceType": "Observation",
    "id": "x",
    "meta": {"versionId": "3"},
    "status": "final",
    "effectiveDateTime": "2030-05-01T12:00:00Z",
    "valueQuantity": {"value": 90},
}
SPO2 = ("spo2", 0, {"spo2": "96"})


FOUND = each("200", STORED | {"valueQuantity": {"value": 96.0}})
HEEDS = (each("404"), each("201"), FOUND, each("412"))
"""How a first writing goes: nothing there, created, read, and not created over."""


async def test_a_conflict_is_read_merged_and_sent_with_if_match() -> None:
    script = Script(each("404"), each("409"), each("200", STORED), each("412"), each("200", STORED), each("200"))
    script.answers += [FOUND, each("412")]

    handled = await stage_on(script.client).handle({0: rows(SPO2)})

    assert handled.outcome.tallies == {"written": 1}
    assert script.sent[:6] == [
        [("GET", None)],
        [("PUT", None)],
        [("GET", None)],
        [("PUT", 'W/"3"')],
        [("GET", None)],
        [("PUT", 'W/"3"')],
    ]


async def test_an_observation_deleted_meanwhile_is_created_again() -> None:
    script = Script(FOUND, each("409"), each("410"), each("201"), each("410"))
    script.answers[0] = each("200", STORED)

    handled = await stage_on(script.client).handle({0: rows(SPO2)})

    assert handled.outcome.tallies == {"written": 1}
    assert script.bundles[3]["entry"][0]["request"] == {
        "method": "PUT",
        "url": script.bundles[0]["entry"][0]["request"]["url"],
    }


async def test_what_is_new_is_created_without_reading_once_the_service_is_known() -> None:
    script = Script(*HEEDS, each("201"), each("201"))
    stage = stage_on(script.client)

    await stage.handle({0: rows(SPO2, ("spo2", 1, {"spo2": "95"}))})
    handled = await stage.handle({0: rows(("spo2", 2, {"spo2": "94"}), ("spo2", 3, {"spo2": "93"}))})

    assert handled.outcome.tallies == {"written": 2}
    assert [entry["request"]["ifNoneMatch"] for entry in script.bundles[-1]["entry"]] == ["*", "*"]
    assert len(script.bundles) == 6


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(503), httpx.Response(429), each("503"), each("500"), httpx.Response(200, text="{")],
)
async def test_a_service_that_cannot_answer_now_is_asked_again(answer: Any) -> None:
    script = Script(*[answer] * 10)

    with pytest.raises(RetryLater):
        await stage_on(script.client).handle({0: rows(SPO2)})

    assert 2 <= len(script.bundles) <= 6


@pytest.mark.parametrize("answer", [httpx.Response(401), httpx.Response(403), each("401"), each("403")])
async def test_a_service_that_does_not_let_this_house_in_loses_nothing(answer: Any) -> None:
    with pytest.raises(RetryLater, match="give this house access"):
        await stage_on(Script(answer).client).handle({0: rows(SPO2)})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_service_that_sends_this_house_elsewhere_loses_nothing(status: int) -> None:
    elsewhere = httpx.Response(status, headers={"location": "https://maintenance.test/"})
    with pytest.raises(RetryLater, match=r"fhir\.base_url"):
        await stage_on(Script(*[elsewhere] * 9).client).handle({0: rows(SPO2)})


async def test_a_refused_observation_goes_to_quarantine_with_what_the_service_said() -> None:
    said = "value 96 of patient-1 at 2030-05-01T12:00:00Z is not allowed here, 196 neither"
    script = Script(each("404"), each("422", text=said, expression="Observation.value"), each("404"))

    handled = await stage_on(script.client).handle({0: rows(SPO2)})

    (item,) = handled.outcome.quarantined
    assert (item.reason, item.expression) == ("fhir-refused", "Observation.value")
    assert "value … of … at … is not allowed here, 196 neither" in item.message


async def test_a_wrong_base_url_quarantines_nothing() -> None:
    script = Script(*[httpx.Response(404)] * 9)

    with pytest.raises(RetryLater, match=r"fhir\.base_url"):
        await stage_on(script.client).handle({0: rows(SPO2, ("heart-rate", 0, {"heart_rate": "60"}))})


async def test_rows_of_a_mapping_that_is_gone_are_written_by_todays_or_set_aside() -> None:
    script = Script(*HEEDS)
    stage = stage_on(script.client)
    gone = MappingPair("bedside-monitor", MONITOR.device, MONITOR.fhir, "0ldversion")
    lost = MappingPair("site", SITE.device, FhirMapping.load(TYPE_OF_YESTERDAY), "0lderversion")

    kept = await stage.handle({0: rows(SPO2, pair=gone)})
    aside = await stage.handle({0: rows(("yesterday", 0, {"v": "1"}), pair=lost)})

    assert kept.outcome.tallies == {"written": 1}
    assert [item.reason for item in aside.outcome.quarantined] == ["no-fhir-template"]


async def test_a_missing_reference_waits_and_then_goes_to_quarantine() -> None:
    missing = each("400", text="Resource Device/monitor-1 not found, specified in path: Observation.device")
    script = Script(*[each("404"), missing, each("404")] * 3)
    time = Time()
    stage = time.stage(script.client, reference_wait_seconds=10)

    first = await stage.handle({0: rows(SPO2)})
    again = await stage.handle_parked(first.outcome.parked[0].row, [0])
    time.seconds = 11
    last = await stage.handle_parked(first.outcome.parked[0].row, [0])

    assert [item.reason for item in again.outcome.parked] == ["reference-missing"]
    assert [item.reason for item in last.outcome.quarantined] == ["reference-missing"]
    assert last.outcome.parked == []


# What time and repetition do


async def test_delivering_an_overtaken_value_again_changes_neither_value_nor_status(fhir: FhirClient) -> None:
    old, new = rows(SPO2, received=1), rows(("spo2", 0, {"spo2": "90"}), received=2)

    before = await written(fhir, old, new)
    after = await written(fhir, old, new, old)

    assert (before["valueQuantity"]["value"], before["status"]) == (90, "amended")
    assert after == before


async def test_an_overtaken_sample_fills_a_gap_and_nothing_else(fhir: FhirClient) -> None:
    newest = rows(("pulse-wave", 60, {"pulse": "61"}), pair=SITE, received=100)
    older = rows(("pulse-wave", 0, {"pulse": "50"}), ("pulse-wave", 90, {"pulse": "51"}), pair=SITE, received=99)

    found = await written(fhir, newest, older)

    assert found["valueSampledData"]["data"].startswith("50 61 E")


async def test_what_a_person_withdrew_stays_withdrawn(fhir: FhirClient) -> None:
    found = await written(fhir, rows(SPO2))
    await fhir.update(found | {"status": "entered-in-error"})

    again = await written(fhir, rows(SPO2))
    changed = await written(fhir, rows(("spo2", 0, {"spo2": "90"}), received=9))

    assert (again["status"], again["valueQuantity"]["value"]) == ("entered-in-error", 96)
    assert (changed["status"], changed["valueQuantity"]["value"]) == ("entered-in-error", 90)


async def test_a_plausible_correction_takes_the_mark_away(fhir: FhirClient) -> None:
    wrong = marked(rows(("heart-rate", 0, {"heart_rate": "0"}), received=1), [True])
    right = rows(("heart-rate", 0, {"heart_rate": "60"}), received=2)

    assert "interpretation" in await written(fhir, wrong)
    assert "interpretation" not in await written(fhir, right)


async def test_an_hour_marks_any_impossible_sample_in_it(fhir: FhirClient) -> None:
    table = rows(("pulse-wave", 0, {"pulse": "0"}), ("pulse-wave", 60, {"pulse": "60"}), pair=SITE)

    assert "interpretation" in await written(fhir, marked(table, [True, False]))


async def test_an_hour_first_seen_after_it_closed_is_final_at_once(fhir: FhirClient) -> None:
    table = rows(("pulse-wave", 0, {"pulse": "60"}), pair=SITE)

    found = await written(fhir, table, time=Time(house=NOON + 66 * MINUTE))

    assert found["status"] == "final"


async def test_an_hour_that_is_still_filled_after_its_end_stays_preliminary(fhir: FhirClient) -> None:
    """A recording played back: the hour is long over, its values are coming in now."""
    table = rows(("pulse-wave", 0, {"pulse": "60"}), pair=SITE, received=7_200)

    found = await written(fhir, table, time=Time(house=NOON + 121 * MINUTE))

    assert found["status"] == "preliminary"
