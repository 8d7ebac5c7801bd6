"""What the house needs of a FHIR R4 server besides searching, asked of every server it may run on."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from pulseweir.backends.fhir_capabilities import missing
from pulseweir.errors import FhirConflict, FhirRefused

if TYPE_CHECKING:
    from contracts.conftest import Server

Json = dict[str, Any]
LOINC = "http://loinc.org"
SYSTEM = "https://example.org/ids"


def outcome_of(response: httpx.Response) -> Json:
    body: Json = response.json()
    assert body["resourceType"] == "OperationOutcome"
    assert body["issue"]
    return body


async def test_metadata_says_r4(server: Server) -> None:
    found = await server.client.discover()

    assert found.fhir_version == "4.0.1"
    assert found.software
    assert found.transaction
    assert list(missing(found)) == []


async def test_create_answers_with_location_and_entity_tag(server: Server) -> None:
    response = await server.ask("POST", "Patient", json={"resourceType": "Patient", "active": True})

    assert response.status_code == 201
    stored = response.json()
    assert response.headers["location"].endswith(f"/Patient/{stored['id']}/_history/1")
    assert response.headers["etag"] == 'W/"1"'
    assert "last-modified" in response.headers
    assert (await server.client.read("Patient", stored["id"])) == stored


async def test_an_unknown_id_reads_as_nothing(server: Server) -> None:
    assert await server.client.read("Patient", f"{server.word}-nobody") is None


async def test_a_client_id_of_64_characters_is_taken(server: Server) -> None:
    observation = server.observation("x") | {"id": uuid.uuid4().hex * 2}

    stored = await server.client.update(observation)

    assert stored["id"] == observation["id"]


async def test_update_makes_a_new_version_and_keeps_the_old_one(server: Server) -> None:
    await server.client.update(server.patient(active=False))

    response = await server.ask("GET", f"Patient/{server.word}-p/_history/1")
    history = (await server.ask("GET", f"Patient/{server.word}-p/_history")).json()

    assert "active" not in response.json()
    assert [entry["resource"]["meta"]["versionId"] for entry in history["entry"]] == ["2", "1"]


async def test_if_match_with_the_current_version_updates(server: Server) -> None:
    stored = await server.client.update(server.patient(active=True), if_match='W/"1"')

    assert stored["meta"]["versionId"] == "2"


async def test_if_match_with_another_version_conflicts_and_stores_nothing(server: Server) -> None:
    with pytest.raises(FhirConflict) as raised:
        await server.client.update(server.patient(active=True), if_match='W/"7"')

    assert raised.value.status in {409, 412}
    assert "active" not in (await server.client.read("Patient", f"{server.word}-p") or {})


async def test_a_deleted_resource_is_gone_and_its_history_remains(server: Server) -> None:
    name = f"Patient/{server.word}-p"

    assert (await server.ask("DELETE", name)).status_code in {200, 204}

    gone = await server.ask("GET", name)
    assert gone.status_code == 410
    outcome_of(gone)
    assert (await server.ask("GET", f"{name}/_history/1")).status_code == 200
    assert await server.client.search("Patient", {"identifier": f"{SYSTEM}|{server.word}-p"}) == []


async def test_a_deleted_resource_can_be_written_again(server: Server) -> None:
    await server.ask("DELETE", f"Patient/{server.word}-p")

    stored = await server.client.update(server.patient())

    assert int(stored["meta"]["versionId"]) >= 2


async def test_conditional_create_makes_one_resource_only(server: Server) -> None:
    body = {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": f"{server.word}-c"}]}
    headers = {"if-none-exist": f"identifier={SYSTEM}|{server.word}-c"}

    first = await server.ask("POST", "Patient", json=body, headers=headers)
    second = await server.ask("POST", "Patient", json=body, headers=headers)

    assert (first.status_code, second.status_code) == (201, 200)
    assert len(await server.client.search("Patient", {"identifier": f"{SYSTEM}|{server.word}-c"})) == 1


async def test_conditional_update_creates_then_updates(server: Server) -> None:
    identifier = [{"system": SYSTEM, "value": f"{server.word}-u"}]
    body = {"resourceType": "Patient", "identifier": identifier}
    criteria = {"identifier": f"{SYSTEM}|{server.word}-u"}

    first = await server.client.conditional_update(body, criteria)
    second = await server.client.conditional_update(body | {"active": True}, criteria)

    assert first["id"] == second["id"]
    assert second["meta"]["versionId"] == "2"


async def test_conditional_update_of_several_matches_is_refused(server: Server) -> None:
    shared = [{"system": SYSTEM, "value": f"{server.word}-two"}]
    for name in ("a", "b"):
        await server.client.update(server.patient(name) | {"identifier": shared})

    body = {"resourceType": "Patient", "identifier": shared}
    with pytest.raises(FhirConflict) as raised:
        await server.client.conditional_update(body, {"identifier": f"{SYSTEM}|{server.word}-two"})

    assert raised.value.status == 412


async def test_a_batch_answers_each_entry_alone(server: Server) -> None:
    stale = server.put(server.patient(active=True), ifMatch='W/"9"')

    answers = await server.client.send_bundle([server.put(server.observation("ok")), stale])

    assert answers[0].status == 201
    assert answers[0].etag == 'W/"1"'
    assert answers[1].status in {409, 412}
    assert answers[1].issue_text


async def test_a_batch_refuses_a_bad_resource_alone(server: Server) -> None:
    broken = server.observation("broken", status="nonsense")

    answers = await server.client.send_bundle([server.put(server.observation("ok")), server.put(broken)])

    assert answers[0].status == 201
    assert answers[1].status in {400, 422}
    assert answers[1].issue_text


async def test_if_none_match_creates_and_never_replaces(server: Server) -> None:
    """A writer that need not read first; other servers may not know it, and the writer finds that out."""
    if server.is_outside:
        pytest.skip("R4 does not ask a server for If-None-Match on update")
    made = server.observation("once")
    other = made | {"status": "amended"}

    first, again = await server.client.send_bundle(
        [server.put(made, ifNoneMatch="*"), server.put(other, ifNoneMatch="*")]
    )
    alone = await server.client.send_entry(server.put(other, ifNoneMatch="*"))

    assert (first.status, again.status, alone.status) == (201, 412, 412)
    stored = await server.client.read("Observation", made["id"])
    assert stored is not None
    assert (stored["status"], stored["meta"]["versionId"]) == ("final", "1")


async def test_a_batch_takes_raw_text_and_if_match(server: Server) -> None:
    text = msgspec.json.encode(server.observation("raw"))
    stale = server.put(server.patient(active=True), ifMatch='W/"9"')

    raw = {"request": {"method": "PUT", "url": f"Observation/{server.word}-raw"}, "resource": msgspec.Raw(text)}
    answers = await server.client.send_bundle([raw, stale])

    assert answers[0].status == 201
    assert answers[1].status in {409, 412}


async def test_a_transaction_resolves_temporary_ids(server: Server) -> None:
    name = f"urn:uuid:{uuid.uuid4()}"
    device = {"resourceType": "Device", "identifier": [{"system": SYSTEM, "value": f"{server.word}-d"}]}
    first = {"fullUrl": name, "request": {"method": "POST", "url": "Device"}, "resource": device}
    second = server.put(server.observation("t", device={"reference": name}))

    answers = await server.client.send_bundle([second, first], type="transaction")

    assert [answer.status for answer in answers] == [201, 201]
    stored = await server.client.read("Observation", f"{server.word}-t")
    assert stored is not None
    assert await server.client.read("Device", stored["device"]["reference"].removeprefix("Device/")) is not None


async def test_a_transaction_creates_only_what_does_not_exist(server: Server) -> None:
    name = f"urn:uuid:{uuid.uuid4()}"
    criteria = f"identifier={SYSTEM}|{server.word}-p"
    known = {
        "fullUrl": name,
        "request": {"method": "POST", "url": "Patient", "ifNoneExist": criteria},
        "resource": {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": f"{server.word}-p"}]},
    }

    observation = server.put(server.observation("e", subject={"reference": name}))
    answers = await server.client.send_bundle([known, observation], type="transaction")

    assert [answer.status for answer in answers] == [200, 201]
    stored = await server.client.read("Observation", f"{server.word}-e")
    assert stored is not None
    assert stored["subject"]["reference"] == f"Patient/{server.word}-p"


async def test_a_failing_transaction_leaves_nothing(server: Server) -> None:
    broken = server.observation("broken", status="nonsense")

    answers = await server.client.send_bundle(
        [server.put(server.observation("no")), server.put(broken)], type="transaction"
    )

    assert {answer.status for answer in answers} <= {400, 422}
    assert answers[0].outcome is not None
    assert await server.client.read("Observation", f"{server.word}-no") is None


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (b"", {400}),
        (b"{", {400}),
        (b"[1]", {400}),
        (b'{"resourceType":"Observation","valueInteger":NaN}', {400}),
        (b"[" * 10_000 + b"]" * 10_000, {400}),
        (b'{"resourceType":"Observation","extension":' + b'{"a":' * 900 + b"1" + b"}" * 901, {400}),
        (b'{"resourceType":"Patient"}', {400, 422}),
        (b'{"resourceType":"Observation"}', {400, 422}),
        (b'{"resourceType":"Nonsense"}', {400, 422}),
    ],
    ids=["empty", "cut", "list", "nan", "deep", "deep-object", "other-type", "no-status", "no-such-type"],
)
async def test_a_bad_body_is_refused_with_an_outcome(server: Server, body: bytes, statuses: set[int]) -> None:
    response = await server.ask("POST", "Observation", content=body, headers={"content-type": "application/fhir+json"})

    assert response.status_code in statuses
    outcome_of(response)


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("Nonsense", {404}),
        ("Nonsense/1", {404}),
        ("Observation?date=yesterday", {400}),
        ("Observation?_count=many", {400}),
        ("Observation?code:nonsense=1", {400}),
        ("Observation?date=2023-02-30", {400}),
        ("Patient/no-one-has-this-id", {404}),
    ],
    ids=["no-such-type", "no-such-resource", "word", "count", "modifier", "no-such-day", "nobody"],
)
async def test_a_bad_request_is_refused_with_an_outcome(server: Server, path: str, statuses: set[int]) -> None:
    response = await server.ask("GET", path)

    assert response.status_code in statuses
    outcome_of(response)


async def test_an_unknown_parameter_is_refused_when_strict(server: Server) -> None:
    path = f"Patient?nonsense=1&_id={server.word}-p"

    assert (await server.ask("GET", path, headers={"prefer": "handling=strict"})).status_code == 400


async def test_an_unknown_parameter_is_left_out_when_lenient(server: Server) -> None:
    path = f"Patient?nonsense=1&_id={server.word}-p"

    assert (await server.ask("GET", path, headers={"prefer": "handling=lenient"})).status_code == 200


async def test_a_refused_resource_names_its_element(server: Server) -> None:
    with pytest.raises(FhirRefused) as raised:
        await server.client.update(server.observation("bad", status="nonsense"))

    assert raised.value.status in {400, 422}
    assert "status" in f"{raised.value.expression} {raised.value.issue_text}"


async def test_decimals_keep_their_digits(server: Server) -> None:
    text = msgspec.json.encode(server.observation("d")).replace(b'"value":72', b'"value":72.50')

    await server.ask(
        "PUT", f"Observation/{server.word}-d", content=text, headers={"content-type": "application/fhir+json"}
    )

    response = await server.ask("GET", f"Observation/{server.word}-d")
    assert b'"value":72.50' in response.content.replace(b" ", b"")


async def test_writes_from_many_connections_all_arrive(server: Server) -> None:
    resources = [server.observation(f"m{number}") for number in range(40)]

    await asyncio.gather(*(server.client.update(resource) for resource in resources))

    found = await server.client.search("Observation", {"patient": f"{server.word}-p", "_count": "7"})
    assert len({item["id"] for item in found}) == len(found) == 40
