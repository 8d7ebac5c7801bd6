"""Mode Create: what is missing is made once, and nobody loses a device to a message."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from identity_house import IdentityHouse, at
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.errors import RetryLater
from pulseweir.ingest.grouping import resource_id
from pulseweir.ingest.identity import REJECTED, Identity, Question
from pulseweir.ingest.settings import IdentitySettings
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM

NOON = at("12:00")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[IdentityHouse]:
    made = IdentityHouse(tmp_path)
    yield made
    await made.close()


def writes(house: IdentityHouse) -> list[str]:
    return [request for request in house.requests if request.startswith("PUT")]


@pytest.mark.parametrize("told", [True, False])
async def test_patient_and_device_are_made_once_under_the_predecessors_ids(house: IdentityHouse, told: bool) -> None:
    identity = house.identity(told=told, mode="Create")
    patient, device = resource_id("MRN-1", None), resource_id("d", DEVICE_IDENTIFIER_SYSTEM)

    first = await identity.resolve_many([Question("d", NOON + number, None, "MRN-1") for number in range(5)])
    house.now += 1
    again = await identity.resolve("d", NOON, None, "MRN-1")

    assert {(one.device_resource_id, one.patient_id, one.missing) for one in [*first.values(), again]} == {
        (device, patient, None)
    }
    assert writes(house) == [f"PUT Patient/{patient}", f"PUT Device/{device}"]
    assert (await house.fhir.read("Patient", patient) or {})["identifier"] == [{"value": "MRN-1"}]
    stored = await house.fhir.read("Device", device) or {}
    assert stored["patient"] == {"reference": f"Patient/{patient}"}


async def test_the_encounter_is_linked_when_the_device_has_just_been_made(house: IdentityHouse) -> None:
    await house.add_encounter("e-1", "visit", resource_id("MRN-1", None))

    found = await house.identity(mode="Create").resolve("d", NOON, "visit", "MRN-1")

    assert (found.encounter_id, found.missing) == ("e-1", None)


async def test_of_two_patients_named_for_one_device_the_first_has_it(house: IdentityHouse) -> None:
    identity = house.identity(mode="Create")
    one, two = (Question("d", NOON, None, named) for named in ("MRN-1", "MRN-2"))

    found = await identity.resolve_many([one, two])
    later = await identity.resolve("d", NOON + 1, None, "MRN-2")

    assert (found[one].missing, found[two].missing, later.missing) == (None, "patient-mismatch", "patient-mismatch")
    assert later.patient_id is None


async def test_a_message_for_another_patient_never_takes_a_linked_device(house: IdentityHouse) -> None:
    await house.put("Patient", "anna", identifier=[{"value": "MRN-1"}])
    await house.add_device("d", patient="anna")
    before = await house.fhir.read("Device", "fhir-d")

    found = await house.identity(mode="Create").resolve("d", NOON, None, "MRN-2")

    assert found.missing == "patient-mismatch"
    assert await house.fhir.read("Device", "fhir-d") == before


async def test_a_known_patient_is_taken_by_identifier_or_logical_id(house: IdentityHouse) -> None:
    await house.put("Patient", "anna", identifier=[{"system": "urn:mrn", "value": "MRN-1"}])
    identity = house.identity(mode="Create")

    assert (await identity.resolve("a", NOON, None, "MRN-1")).patient_id == "anna"
    assert (await identity.resolve("b", NOON, None, "anna")).patient_id == "anna"
    strict = await house.identity(mode="Create", compatibility="strict").resolve("c", NOON, None, "anna")
    assert strict.patient_id == resource_id("anna", None)


async def test_several_patients_of_one_identifier_are_nobody(house: IdentityHouse) -> None:
    for system in ("urn:a", "urn:b"):
        await house.put("Patient", system[-1], identifier=[{"system": system, "value": "7"}])

    found = await house.identity(mode="Create").resolve("d", NOON, None, "7")

    assert (found.missing, found.patient_id) == ("patient-ambiguous", None)


@pytest.mark.parametrize("named", [None, "", "  "])
async def test_without_a_named_patient_nothing_is_made(house: IdentityHouse, named: str | None) -> None:
    found = await house.identity(mode="Create").resolve("d", NOON, None, named)

    assert found.missing == "patient-not-named"
    assert writes(house) == []
    assert "patient-not-named" not in REJECTED


async def test_a_device_whose_uses_are_recorded_is_not_linked_by_a_message(house: IdentityHouse) -> None:
    await house.add_device("d")
    await house.add_use("u", "d", "anna", "08:00", "09:00")
    house.requests.clear()

    found = await house.identity(mode="Create").resolve("d", NOON, None, "MRN-1")

    assert found.missing == "patient-unknown"
    assert writes(house) == []


async def test_two_devices_of_one_id_are_left_alone(house: IdentityHouse) -> None:
    await house.add_device("d", "one")
    await house.add_device("d", "two")

    assert (await house.identity(mode="Create").resolve("d", NOON, None, "MRN-1")).missing == "device-unknown"
    assert len(await house.fhir.search("Device", {})) == 2


async def test_a_patient_entry_of_a_device_that_cannot_be_read_is_not_overwritten(house: IdentityHouse) -> None:
    identifier = [{"system": DEVICE_IDENTIFIER_SYSTEM, "value": "d"}]
    await house.put("Device", "x", identifier=identifier, patient={"display": "somebody"})

    assert (await house.identity(mode="Create").resolve("d", NOON, None, "MRN-1")).missing == "patient-mismatch"


async def test_two_connectors_that_make_the_same_at_once_make_it_once(house: IdentityHouse) -> None:
    identities = [house.identity(mode="Create") for _ in range(4)]

    async def ask(identity: Identity) -> str | None:
        while True:
            try:
                return (await identity.resolve("d", NOON, None, "MRN-1")).patient_id
            except RetryLater:
                continue

    found = await asyncio.gather(*map(ask, identities))

    assert set(found) == {resource_id("MRN-1", None)}
    assert [len(await house.fhir.search(kind, {})) for kind in ("Device", "Patient")] == [1, 1]


async def test_a_device_linked_by_somebody_meanwhile_is_read_again(house: IdentityHouse) -> None:
    await house.add_device("d")
    identity = house.identity(mode="Create")
    # The second PUT is the Device's; by then a nurse has linked it.
    house.before_next("PUT", lambda: asyncio.sleep(0))
    house.before_next("PUT", lambda: house.add_device("d", patient="anna"))

    with pytest.raises(RetryLater):
        await identity.resolve("d", NOON, None, "MRN-1")

    again = await identity.resolve("d", NOON, None, "MRN-1")
    assert (again.missing, again.patient_id) == ("patient-mismatch", None)


@pytest.mark.parametrize(("status", "word"), [(422, "create-refused"), (400, "create-refused")])
async def test_what_the_service_will_not_hold_is_refused_at_once(status: int, word: str) -> None:
    found = await Identity(writing(status), IdentitySettings(mode="Create")).resolve("d", 0, None, "MRN-1")

    assert found.missing == word
    assert word in REJECTED


@pytest.mark.parametrize("status", [401, 403, 405, 409, 412, 429, 500, 503])
async def test_what_may_succeed_later_is_tried_again(status: int) -> None:
    with pytest.raises(RetryLater):
        await Identity(writing(status), IdentitySettings(mode="Create")).resolve("d", 0, None, "MRN-1")


def writing(status: int) -> FhirClient:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            return httpx.Response(status)
        if request.url.path.count("/") > 2:
            return httpx.Response(404)
        return httpx.Response(200, json={"resourceType": "Bundle", "entry": []})

    return FhirClient("http://fhir/r4", transport=httpx.MockTransport(answer))
