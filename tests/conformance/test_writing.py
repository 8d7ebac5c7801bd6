"""The predecessor's vectors about saving an Observation, through the writer and a server."""

import json
from pathlib import Path
from typing import Any

import httpx

from expected_json import assert_matches
from faulty_fhir import Fault, FaultyTransport, Forward, entries_of, faulty_server, healthy, refuses_entries
from observed_rows import NOON, SECOND, Time, rows, stored
from pulseweir.ingest.catalog import MappingPair, Mappings
from pulseweir.ingest.fhir_mapping.values import parse_ticks
from pulseweir.ingest.grouping import resource_id
from pulseweir.telemetry import OBSERVATIONS_SAVED

SECTION = "fhir"
OUTCOMES = {"ObservationCreated": "created", "ObservationUpdated": "updated", "ObservationNoOperation": "unchanged"}


def is_supported(case: dict[str, Any]) -> bool:
    """Whether the case is about saving over what a server holds."""
    return str(case["id"]).startswith("save-")


def first_put_meets(fault: Fault) -> Fault:
    """The fault for the first bundle that changes something."""
    met: list[bool] = []

    async def answer(request: httpx.Request, forward: Forward) -> httpx.Response:
        if met or not any(entry["request"]["method"] == "PUT" for entry in entries_of(request)):
            return await forward(request)
        met.append(True)
        return await fault(request, forward)

    return answer


def deletes_it_meanwhile(request: httpx.Request) -> httpx.Request:
    (entry,) = entries_of(request)
    return httpx.Request("DELETE", f"{request.url}/{entry['request']['url']}")


async def conflict_and_gone(request: httpx.Request, forward: Forward) -> httpx.Response:
    await forward(deletes_it_meanwhile(request))
    return await refuses_entries(lambda entry: True, "409")(request, forward)


def fault_of(case: dict[str, Any]) -> Fault:
    if "server_behaviour" not in case:
        return healthy
    return first_put_meets(
        conflict_and_gone if "cached_observation" in case else refuses_entries(lambda entry: True, "409")
    )


def merges(transport: FaultyTransport) -> int:
    return sum(entry["request"]["method"] == "PUT" for request in transport.asked for entry in entries_of(request))


async def test_saving_ends_as_in_the_predecessor(case: dict[str, Any], tmp_path: Path) -> None:
    texts = '{"templateType": "CollectionContent", "template": []}', json.dumps(case["fhir_mapping"])
    pair = MappingPair.loads("site", *texts)
    group = case["measurement_group"]
    held: dict[str, Any] = case.get("existing_observation") or case["cached_observation"]
    name = resource_id(held["identifier"][0]["value"])
    table = rows(
        *[
            ("s", (parse_ticks(row["occurrenceTimeUtc"]) // 10 - NOON) / SECOND, row["properties"])
            for row in group["data"]
        ],
        pair=pair,
        correlation=group["correlationId"],
        patient="patientId",
        device="deviceId",
        named="deviceId",
        received=-360_000_000,
    )
    saved = OBSERVATIONS_SAVED.labels(OUTCOMES[case["expected_metric"].split()[1]])
    before = saved._value.get()

    with faulty_server(tmp_path, fault_of(case)) as (client, honest, transport):
        await honest.update(held | {"id": name, "code": {"text": "s"}})
        outcome = (await Time().stage(client, Mappings({}, pair, {pair.version: pair})).handle({0: table})).outcome
        (found,) = (await stored(honest)).values()

    assert outcome.tallies == {"written": 1}
    assert found["id"] == name
    assert_matches(found, case["expected_observation"], case)
    assert merges(transport) == case.get("expected_merges", merges(transport))
    assert saved._value.get() == before + 1


def test_the_id_is_that_of_the_predecessor() -> None:
    assert resource_id("patientId.deviceId.heartrate.20190101000000Z.20190101005959Z") == (
        "127aeff043da8c8e1f6d6f37bce384eb01aee4664f10f8ee565a2e7196bf889f"
    )
