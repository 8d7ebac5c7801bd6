"""Who wore what when: asked once, remembered while it must be true, never guessed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from identity_house import IdentityHouse, at
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.errors import RetryLater
from pulseweir.ingest.identity import REJECTED, REMEDIES, Identity, Question
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[IdentityHouse]:
    made = IdentityHouse(tmp_path)
    yield made
    await made.close()


def refusing(status: int, path: str = "") -> FhirClient:
    def answer(request: httpx.Request) -> httpx.Response:
        if path in request.url.path:
            return httpx.Response(status)
        device: dict[str, Any] = {"resourceType": "Device", "id": "d1", "patient": {"reference": "Patient/long-gone"}}
        device["identifier"] = [{"system": DEVICE_IDENTIFIER_SYSTEM, "value": "d"}]
        return httpx.Response(200, json={"resourceType": "Bundle", "entry": [{"resource": device}]})

    return FhirClient("http://fhir/r4", transport=httpx.MockTransport(answer))


async def test_the_patient_of_the_time_measured_is_found(house: IdentityHouse) -> None:
    await house.add_device("d")
    await house.add_use("u1", "d", "anna", "08:00", "10:00")
    await house.add_use("u2", "d", "bert", "10:00")
    identity = house.identity()

    found = [(await identity.resolve("d", at(time))) for time in ("07:59", "08:00", "09:59", "10:00", "23:00")]

    assert [one.patient_id for one in found] == [None, "anna", "anna", "bert", "bert"]
    assert [one.missing for one in found] == ["patient-unknown", None, None, None, None]
    assert {one.device_resource_id for one in found} == {"fhir-d"}


async def test_two_patients_at_one_instant_are_nobody(house: IdentityHouse) -> None:
    await house.add_device("d")
    await house.add_use("u1", "d", "anna", "08:00")
    await house.add_use("u2", "d", "bert", "08:00")

    assert (await house.identity().resolve("d", at("09:00"))).missing == "patient-unknown"


async def test_the_devices_own_patient_counts_only_without_statements(house: IdentityHouse) -> None:
    await house.add_device("plain", patient="carla")
    await house.add_device("used", patient="carla")
    await house.add_use("u1", "used", "anna", "10:00")
    identity = house.identity()

    assert (await identity.resolve("plain", at("09:00"))).patient_id == "carla"
    assert (await identity.resolve("used", at("09:00"))).patient_id is None


async def test_a_batch_asks_once_for_all_unknown_devices(house: IdentityHouse) -> None:
    await house.add_device("d")
    await house.add_device("e")
    await house.add_use("u1", "d", "anna", "08:00")
    identity = house.identity()
    house.requests.clear()

    questions = [Question(name, at(time)) for name in "dex" for time in ("09:00", "09:01")]
    await identity.resolve_many(questions)
    await identity.resolve("d", at("10:00"))

    system = DEVICE_IDENTIFIER_SYSTEM
    assert house.requests == [
        f"GET Device?identifier={system}|d,{system}|e,{system}|x",
        "GET DeviceUseStatement?device=Device/fhir-d,Device/fhir-e",
    ]


async def test_more_devices_than_memory_holds_are_answered_all_the_same(house: IdentityHouse) -> None:
    questions = [Question(f"d{number}", at("09:00")) for number in range(120)]
    for number in range(120):
        await house.add_device(f"d{number}", patient=f"p{number}")

    found = await house.identity(cache_devices=3).resolve_many(questions)

    assert [found[question].patient_id for question in questions] == [f"p{number}" for number in range(120)]


async def test_an_unknown_device_is_asked_for_again_soon_and_a_known_one_later(house: IdentityHouse) -> None:
    await house.add_device("d", patient="anna")
    identity = house.identity(told=False, cache_seconds=15, unknown_cache_seconds=2)
    await identity.resolve("d", at("09:00"))
    assert (await identity.resolve("new", at("09:00"))).missing == "device-unknown"

    await house.add_device("new", patient="bert")
    house.seconds = 1.0
    assert (await identity.resolve("new", at("09:00"))).missing == "device-unknown"
    house.seconds = 2.5
    assert (await identity.resolve("new", at("09:00"))).patient_id == "bert"

    house.requests.clear()
    await identity.resolve("d", at("09:00"))
    assert house.requests == []
    identity.forget("d")
    await identity.resolve("d", at("09:00"))
    assert len(house.requests) == 2
    house.seconds = 20.0
    await identity.resolve("d", at("09:00"))
    assert len(house.requests) == 4


async def test_an_encounter_is_found_by_its_identifier_or_missed_aloud(house: IdentityHouse) -> None:
    await house.add_device("d", patient="anna")
    await house.add_encounter("e-9", "visit-1", "anna")
    await house.add_encounter("e-8", "visit-3", "bert")
    identity = house.identity()

    assert (await identity.resolve("d", at("09:00"), "visit-1")).encounter_id == "e-9"
    assert (await identity.resolve("d", at("09:00"), "visit-2")).missing == "encounter-unknown"
    of_another = await identity.resolve("d", at("09:00"), "visit-3")
    assert (of_another.missing, of_another.encounter_id) == ("encounter-mismatch", None)
    strict = await house.identity(compatibility="strict").resolve("d", at("09:00"), "visit-3")
    assert (strict.missing, strict.encounter_id) == (None, "e-8")


async def test_a_message_that_names_no_encounter_is_hopeless_where_one_is_wanted(house: IdentityHouse) -> None:
    await house.add_device("d", patient="anna")
    identity = house.identity(mode="LookupWithEncounter")

    found = await identity.resolve("d", at("09:00"))

    assert (found.missing, found.patient_id, found.device_resource_id) == ("encounter-not-named", None, "fhir-d")
    assert (await identity.resolve("unknown", at("09:00"))).missing in REJECTED


@pytest.mark.parametrize(
    ("named", "missing"),
    [
        ("anna", None),
        ("Patient/anna", None),
        ("MRN-1", None),
        ("MRN-2", "patient-mismatch"),
        ("bert", "patient-mismatch"),
        ("MRN-of-nobody-known", "patient-mismatch"),
        ("", None),
    ],
)
async def test_a_message_that_names_another_patient_is_not_filed_under_the_devices(
    house: IdentityHouse, named: str, missing: str | None
) -> None:
    await house.put("Patient", "anna", identifier=[{"system": "urn:mrn", "value": "MRN-1"}])
    await house.put("Patient", "bert", identifier=[{"system": "urn:mrn", "value": "MRN-2"}])
    await house.add_device("d", patient="anna")

    found = await house.identity().resolve("d", at("09:00"), patient=named)

    assert (found.missing, found.patient_id) == (missing, None if missing else "anna")
    assert (await house.identity(compatibility="strict").resolve("d", 0, patient=named)).patient_id == "anna"


@pytest.mark.parametrize(
    ("named", "missing"),
    [("carla", None), ("MRN-2", "patient-mismatch"), ("bert", "patient-mismatch"), ("bed 12", None), ("a,b|c", None)],
)
async def test_a_patient_without_identifiers_is_somebody_else_only_when_the_text_is_somebody_elses(
    house: IdentityHouse, named: str, missing: str | None
) -> None:
    await house.put("Patient", "carla")
    await house.put("Patient", "bert", identifier=[{"value": "MRN-2"}])
    await house.add_device("d", patient="carla")

    assert (await house.identity().resolve("d", at("09:00"), patient=named)).missing == missing


async def test_one_message_of_another_patient_leaves_its_neighbours_alone(house: IdentityHouse) -> None:
    await house.put("Patient", "anna", identifier=[{"value": "A"}])
    await house.add_device("d", patient="anna")
    right, wrong, silent = (Question("d", at("09:00"), None, named) for named in ("A", "B", None))

    found = await house.identity().resolve_many([wrong, right, silent])

    assert [found[one].patient_id for one in (right, wrong, silent)] == ["anna", None, "anna"]


@pytest.mark.parametrize("device_id", ["with,comma", "with|bar", "a$b", "back\\slash", "süß", "with space"])
async def test_odd_device_ids_are_found_beside_others(house: IdentityHouse, device_id: str) -> None:
    await house.add_device(device_id, "odd", patient="anna")
    await house.add_device("plain", patient="bert")
    questions = [Question(device_id, at("09:00")), Question("plain", at("09:00"))]

    found = await house.identity().resolve_many(questions)

    assert [found[question].patient_id for question in questions] == ["anna", "bert"]


async def test_a_device_of_another_case_or_system_is_another_device(house: IdentityHouse) -> None:
    await house.add_device("Monitor-1", patient="anna")
    other = [{"system": "urn:other", "value": "monitor-2"}]
    await house.put("Device", "x", identifier=other, patient={"reference": "Patient/anna"})
    identity = house.identity()

    assert (await identity.resolve("monitor-1", at("09:00"))).missing == "device-unknown"
    assert (await identity.resolve("monitor-2", at("09:00"))).missing == "device-unknown"


def answers_any_case(request: httpx.Request) -> httpx.Response:
    identifier = {"system": DEVICE_IDENTIFIER_SYSTEM, "value": "Monitor-1"}
    device = {"resourceType": "Device", "id": "d1", "identifier": [identifier]}
    return httpx.Response(200, json={"resourceType": "Bundle", "entry": [{"resource": device}]})


async def test_a_server_that_compares_without_case_does_not_mix_devices_up() -> None:
    fhir = FhirClient("http://fhir/r4", transport=httpx.MockTransport(answers_any_case))

    assert (await Identity(fhir).resolve("monitor-1", 0)).missing == "device-unknown"


async def test_two_devices_with_one_id_are_none(house: IdentityHouse) -> None:
    await house.add_device("d", "one", patient="anna")
    await house.add_device("d", "two", patient="bert")

    assert (await house.identity().resolve("d", at("09:00"))).missing == "device-unknown"


@pytest.mark.parametrize("status", [503, 429, 401, 403, 404])
async def test_a_service_that_does_not_answer_is_an_error_to_retry_not_an_unknown_device(status: int) -> None:
    identity = Identity(refusing(status))

    with pytest.raises(RetryLater):
        await identity.resolve_many([Question("a", 0), Question("b", 0)])


@pytest.mark.parametrize("status", [400, 404, 422, 500])
async def test_uses_that_cannot_be_asked_for_are_not_taken_for_none(status: int) -> None:
    with pytest.raises(RetryLater):
        await Identity(refusing(status, "DeviceUseStatement")).resolve("d", 0)


async def test_a_device_id_the_service_will_not_search_for_is_unknown_alone() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        asked = request.url.params.get("identifier", "")
        if "odd" in asked:
            return httpx.Response(400)
        values = [token.rpartition("|")[2] for token in asked.split(",")]
        system = DEVICE_IDENTIFIER_SYSTEM
        found = [
            {
                "resourceType": "Device",
                "id": value,
                "identifier": [{"system": system, "value": value}],
                "patient": {"reference": "Patient/anna"},
            }
            for value in values
            if asked
        ]
        return httpx.Response(200, json={"resourceType": "Bundle", "entry": [{"resource": one} for one in found]})

    identity = Identity(FhirClient("http://fhir/r4", transport=httpx.MockTransport(answer)))
    questions = [Question(name, 0) for name in ("a", "b", "odd", "c", "e")]

    found = await identity.resolve_many(questions)

    assert [found[one].missing for one in questions] == [None, None, "device-unknown", None, None]


def test_every_word_has_a_remedy() -> None:
    assert REMEDIES.keys() >= REJECTED
    assert all("redrive" in text for text in REMEDIES.values())
