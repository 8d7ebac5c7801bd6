"""Many entries on servers that take less than a transaction of any size."""

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from limited_fhir import Limited, limited_server
from pulseweir.backends.fhir_capabilities import capabilities_of
from pulseweir.backends.fhir_foreign import house_ids_of
from pulseweir.errors import FhirConflict

Json = dict[str, Any]
ALL = ("client-ids", "if-none-exist", "transaction", "batch", "versions", "total")


def put(resource: Json, **request: str) -> Json:
    return {"request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"} | request} | {
        "resource": resource
    }


def patient(name: str) -> Json:
    return {"resourceType": "Patient", "id": name}


def observation(name: str, who: str = "p-1", **members: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{who}"},
    } | members


def assessment(name: str, *basis: str) -> Json:
    return {
        "resourceType": "RiskAssessment",
        "id": name,
        "status": "final",
        "subject": {"reference": "Patient/p-1"},
        "basis": [{"reference": f"Observation/{one}"} for one in basis],
    }


UNIT = [put(assessment("r-1", "o-1")), put(observation("o-1")), put(patient("p-1"))]


def bundles(transport: Limited) -> list[tuple[str, int]]:
    """Kind and size of every Bundle that was sent."""
    sent = [msgspec.json.decode(each.content) for each in transport.asked if each.url.path == "/fhir"]
    return [(bundle["type"], len(bundle["entry"])) for bundle in sent]


@pytest.mark.parametrize(
    ("lacking", "says", "expected"),
    [
        ((), True, [("transaction", 3)]),
        (("transaction",), True, [("batch", 1), ("batch", 1), ("batch", 1)]),
        (("transaction",), False, [("transaction", 3), ("batch", 1), ("batch", 1), ("batch", 1)]),
        (("transaction", "batch"), False, [("transaction", 3), ("batch", 1)]),
    ],
    ids=["takes-them", "says-no", "refuses", "takes-nothing"],
)
async def test_without_transactions_what_is_referred_to_is_written_first(
    lacking: tuple[str, ...], says: bool, expected: list[tuple[str, int]], tmp_path: Path
) -> None:
    with limited_server(tmp_path, *lacking, says=says) as (client, whole, transport):
        answers = await client.write_together(UNIT)
        asked = bundles(transport)
        again = await client.write_together(UNIT)
        found = await whole.read("RiskAssessment", "r-1")

    assert [answer.status for answer in answers] == [201, 201, 201]
    assert all(answer.is_done for answer in again)
    assert found is not None
    assert asked[: len(expected)] == expected
    assert bundles(transport)[len(asked) :].count(("transaction", 3)) == (0 if lacking else 1)


async def test_without_transactions_writing_stops_at_what_fails(tmp_path: Path) -> None:
    entries = [put(patient("p-1"), ifMatch='W/"9"'), put(observation("o-1")), put(patient("p-2"))]

    with limited_server(tmp_path, "transaction") as (client, whole, _):
        answers = await client.write_together(entries)
        left = await whole.read("Observation", "o-1")

    assert [answer.status for answer in answers] == [412, 412, 201]
    assert answers[1].is_whole
    assert left is None


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_how_much_a_bundle_may_hold_is_learned_once(kind: str, tmp_path: Path) -> None:
    entries = [put(patient(f"p-{number}")) for number in range(24)]

    with limited_server(tmp_path, most=7) as (client, whole, transport):
        write = client.write_together if kind == "transaction" else client.write_each
        answers = await write(entries)
        learning = bundles(transport)
        await write(entries)
        stored = await whole.count("Patient", {})

    assert [answer.status for answer in answers] == [201] * 24
    assert stored == 24
    assert {size for _, size in bundles(transport)[len(learning) :]} == {6}


async def test_a_batch_too_large_for_no_reason_given_is_halved_until_it_is_taken(tmp_path: Path) -> None:
    entries = [put(patient(f"p-{number}")) for number in range(9)]

    with limited_server(tmp_path, most=2, too_many=400) as (client, whole, _):
        answers = await client.write_each(entries)
        stored = await whole.count("Patient", {})

    assert [answer.status for answer in answers] == [201] * 9
    assert stored == 9


async def test_what_is_refused_alone_takes_no_neighbour_along(tmp_path: Path) -> None:
    entries = [put(patient("p-1")), put(patient("p-2") | {"gender": "none"}), put(patient("p-3"))]

    with limited_server(tmp_path, "batch", "transaction") as (client, whole, _):
        answers = await client.write_each(entries)
        stored = await whole.count("Patient", {})

    assert [answer.is_done for answer in answers] == [True, False, True]
    assert stored == 2


# Ids that the server gives


@pytest.mark.parametrize("lacking", [("client-ids",), ("client-ids", "transaction"), ALL], ids=["", "waves", "all"])
async def test_references_lead_to_where_the_server_put_things(lacking: tuple[str, ...], tmp_path: Path) -> None:
    with limited_server(tmp_path, *lacking) as (client, whole, _):
        await client.write_together(UNIT)
        await client.write_together(UNIT)
        (risk,) = await whole.search("RiskAssessment", {})
        (seen,) = await whole.search("Observation", {})
        (who,) = await whole.search("Patient", {})
        read = await client.read("Observation", "o-1")

    assert risk["basis"] == [{"reference": f"Observation/{seen['id']}"}]
    assert risk["subject"] == seen["subject"] == {"reference": f"Patient/{who['id']}"}
    assert house_ids_of(risk) == {"r-1"}
    assert not {"r-1", "o-1", "p-1"} & {risk["id"], seen["id"], who["id"]}
    assert read is not None
    assert read["id"] == seen["id"]


async def test_what_is_not_there_yet_is_referred_to_by_what_it_will_be_known_as(tmp_path: Path) -> None:
    with limited_server(tmp_path, "client-ids") as (client, whole, _):
        await client.write_each([put(assessment("r-1", "later"))])
        (risk,) = await whole.search("RiskAssessment", {})

    (basis,) = risk["basis"]
    assert "reference" not in basis
    assert (basis["type"], basis["identifier"]["value"]) == ("Observation", "later")


async def test_a_type_that_takes_our_ids_is_referred_to_by_them_also_where_another_does_not(tmp_path: Path) -> None:
    """The embedded store takes AuditEvents, which never change, under ids of its own."""
    with limited_server(tmp_path) as (client, whole, _):
        await client.write_each([put(assessment("r-1", "later"))])
        risk = await whole.read("RiskAssessment", "r-1")

    assert risk is not None
    assert risk["basis"] == [{"reference": "Observation/later"}]


async def test_another_process_finds_what_this_one_stored(tmp_path: Path) -> None:
    with limited_server(tmp_path, "client-ids", "if-none-exist") as (client, whole, transport):
        first = await client.update(observation("o-1"))
        changed = await client.update(observation("o-1", status="amended"))
        other = type(client)("http://limited.test/fhir", transport=transport, discovers=True)
        found = await other.update(observation("o-1", status="corrected"))
        (stored,) = await whole.search("Observation", {})

    assert first["id"] == changed["id"] == found["id"] == stored["id"]
    assert (changed["status"], stored["status"]) == ("amended", "corrected")


async def test_two_that_make_the_same_at_once_make_it_once(tmp_path: Path) -> None:
    """The second searched before the first had written; the server's If-None-Exist tells it."""
    with limited_server(tmp_path, "client-ids") as (client, whole, transport):
        other = type(client)("http://limited.test/fhir", transport=transport, discovers=True)
        assert await other.read("Observation", "o-1") is None
        await client.write_each([put(observation("o-1"))])
        late = await other.write_each([put(observation("o-1", status="amended")), put(observation("o-2"))])
        third = type(client)("http://limited.test/fhir", transport=transport, discovers=True)
        refused = await third.write_each([put(observation("o-1", status="unknown"), ifNoneMatch="*")])
        stored = {one["status"] for one in await whole.search("Observation", {})}

    assert [answer.is_done for answer in late] == [True, True]
    assert [answer.status for answer in refused] == [412]
    assert stored == {"amended", "final"}


async def test_what_somebody_removed_is_made_again(tmp_path: Path) -> None:
    with limited_server(tmp_path, "client-ids") as (client, whole, _):
        made = await client.update(observation("o-1"))
        await whole.send_entry({"request": {"method": "DELETE", "url": f"Observation/{made['id']}"}})
        (refused,) = await client.send_bundle([put(observation("o-1"))])
        (again,) = await client.send_bundle([put(observation("o-1"))])
        (stored,) = await whole.search("Observation", {})

    assert (refused.is_done, again.status) == (False, 201)
    assert stored["id"] != made["id"]


async def test_a_resource_of_somebody_else_is_updated_where_it_is(tmp_path: Path) -> None:
    with limited_server(tmp_path, "client-ids", "versions") as (client, whole, _):
        await whole.update({"resourceType": "Device", "id": "theirs", "status": "active"})
        await client.update({"resourceType": "Device", "id": "theirs", "status": "inactive"})
        (device,) = await whole.search("Device", {})

    assert (device["id"], device["status"]) == ("theirs", "inactive")
    assert not house_ids_of(device)


async def test_an_older_version_is_still_refused(tmp_path: Path) -> None:
    with limited_server(tmp_path, "client-ids") as (client, _, _):
        made = await client.update({"resourceType": "Device", "id": "d-1", "status": "active"})
        await client.update({"resourceType": "Device", "id": "d-1", "status": "inactive"})

        with pytest.raises(FhirConflict):
            await client.update({"resourceType": "Device", "id": "d-1"}, if_match=made["meta"]["versionId"])


async def test_types_without_identifiers_are_found_by_a_tag(tmp_path: Path) -> None:
    event = {
        "resourceType": "AuditEvent",
        "id": "a-1",
        "type": {"code": "rest"},
        "recorded": "2030-01-01T00:00:00Z",
        "agent": [{"requestor": False}],
        "source": {"observer": {"display": "x"}},
    }
    with limited_server(tmp_path, "client-ids", "if-none-exist") as (client, whole, transport):
        await client.write_each([put(event)])
        other = type(client)("http://limited.test/fhir", transport=transport, discovers=True)
        answers = await other.write_each([put(event, ifNoneMatch="*")])
        stored = await whole.count("AuditEvent", {})

    assert [answer.status for answer in answers] == [412]
    assert stored == 1


async def test_decimals_keep_their_digits_on_the_way(tmp_path: Path) -> None:
    text = msgspec.json.encode(observation("o-1", valueQuantity={"value": 72})).replace(b":72}", b":72.50}")
    entry = {"request": {"method": "PUT", "url": "Observation/o-1"}, "resource": msgspec.Raw(text)}

    with limited_server(tmp_path, "client-ids") as (client, _, transport):
        await client.send_bundle([entry])

    assert b'"value":72.50' in transport.asked[-1].content


async def test_a_server_that_cannot_search_for_our_ids_is_waited_for(tmp_path: Path) -> None:
    with limited_server(tmp_path, "client-ids") as (client, _, transport):
        await client.discover()
        inner = transport.handle_async_request

        async def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(400) if request.method == "GET" else await inner(request)

        transport.handle_async_request = answer  # type: ignore[method-assign]
        with pytest.raises(Exception, match="chooses ids itself and answered 400"):
            await client.send_bundle([put(observation("o-1"))])


async def test_a_count_that_the_server_does_not_give_is_counted(tmp_path: Path) -> None:
    with limited_server(tmp_path, "total") as (client, _, _):
        await client.write_each([put(patient(f"p-{number}")) for number in range(5)])

        assert await client.count("Patient", {"_count": "2"}) == 5
        assert await client.count("Patient", {"_id": "p-1"}) == 1


def test_a_statement_that_says_nothing_denies_nothing() -> None:
    found = capabilities_of({"fhirVersion": "4.0.1"})

    assert found.is_r4
    assert (found.transaction, found.batch) == (None, None)
    assert found.takes_client_ids("Observation")
    assert not found.heeds_if_none_exist("Observation")
