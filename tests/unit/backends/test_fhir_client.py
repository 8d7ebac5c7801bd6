"""The client against servers that misbehave, played by an httpx transport."""

from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime

import httpx
import pytest

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import from_microseconds, real_microseconds
from pulseweir.errors import FhirConflict, FhirRefused, RetryLater
from pulseweir.telemetry import FHIR_REQUESTS

OUTCOME = {
    "resourceType": "OperationOutcome",
    "issue": [{"severity": "error", "code": "invalid", "details": {"text": "Broken."}, "expression": ["Patient.id"]}],
}
ENTRY = {"request": {"method": "PUT", "url": "Patient/1"}, "resource": {"resourceType": "Patient", "id": "1"}}


def client_of(answer: Callable[[httpx.Request], httpx.Response]) -> FhirClient:
    return FhirClient("http://fhir.test/fhir", transport=httpx.MockTransport(answer))


def always(status: int, **options: object) -> FhirClient:
    return client_of(lambda _: httpx.Response(status, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_trouble_that_may_pass_is_retried_later(status: int) -> None:
    with pytest.raises(RetryLater) as raised:
        await always(status, json=OUTCOME).read("Patient", "1")

    assert raised.value.retry_after_seconds is None


async def test_retry_after_in_seconds_is_kept() -> None:
    with pytest.raises(RetryLater) as raised:
        await always(429, headers={"retry-after": "17"}).send_bundle([ENTRY])

    assert raised.value.retry_after_seconds == 17


async def test_retry_after_as_a_date_becomes_seconds() -> None:
    until = from_microseconds(real_microseconds()) + timedelta(seconds=60)

    with pytest.raises(RetryLater) as raised:
        await always(503, headers={"retry-after": format_datetime(until, usegmt=True)}).capabilities()

    assert raised.value.retry_after_seconds is not None
    assert 30 < raised.value.retry_after_seconds <= 60


async def test_a_retry_after_that_is_neither_is_ignored() -> None:
    with pytest.raises(RetryLater) as raised:
        await always(503, headers={"retry-after": "soon"}).capabilities()

    assert raised.value.retry_after_seconds is None


@pytest.mark.parametrize(
    "error", [httpx.ReadTimeout, httpx.ConnectTimeout, httpx.ConnectError, httpx.RemoteProtocolError]
)
async def test_transport_trouble_is_retried_later(error: type[httpx.TransportError]) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("", request=request)

    with pytest.raises(RetryLater, match=error.__name__):
        await client_of(fail).search("Patient", {})


@pytest.mark.parametrize(
    "body",
    [b'{"resourceType":"Patient","id":', b"", b"[]", b"<html>", b"[" * 100_000],
    ids=["cut", "empty", "list", "html", "deep"],
)
async def test_an_answer_that_is_no_resource_is_retried_later(body: bytes) -> None:
    client = always(200, content=body)

    with pytest.raises(RetryLater):
        await client.update({"resourceType": "Patient", "id": "1"})
    with pytest.raises(RetryLater):
        await client.send_bundle([ENTRY])


async def test_an_outcome_where_a_resource_was_asked_is_retried_later() -> None:
    client = always(200, json=OUTCOME)

    with pytest.raises(RetryLater, match="invalid") as raised:
        await client.read("Patient", "1")
    assert "Broken" not in str(raised.value)
    with pytest.raises(RetryLater):
        await client.search("Patient", {})
    with pytest.raises(RetryLater):
        await client.send_bundle([ENTRY])


async def test_a_bundle_with_missing_answers_is_retried_later() -> None:
    answer = {"resourceType": "Bundle", "type": "batch-response", "entry": []}

    with pytest.raises(RetryLater):
        await always(200, json=answer).send_bundle([ENTRY])


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_not_there_reads_as_none(status: int) -> None:
    assert await always(status, json=OUTCOME).read("Patient", "1") is None


async def test_a_refusal_carries_status_type_text_and_element() -> None:
    with pytest.raises(FhirRefused) as raised:
        await always(422, json=OUTCOME).create({"resourceType": "Patient"})

    assert (raised.value.status, raised.value.resource_type) == (422, "Patient")
    assert (raised.value.issue_text, raised.value.expression) == ("Broken.", "Patient.id")
    assert raised.value.reason == "fhir-refused"


async def test_a_refusal_without_an_outcome_is_still_a_refusal() -> None:
    with pytest.raises(FhirRefused, match="no reason given"):
        await always(403, text="no").capabilities()


@pytest.mark.parametrize("status", [409, 412])
async def test_a_conflict_says_to_read_again(status: int) -> None:
    with pytest.raises(FhirConflict, match="Read the resource again"):
        await always(status, json=OUTCOME).update({"resourceType": "Patient", "id": "1"}, if_match="3")


async def test_a_refused_transaction_answers_every_entry() -> None:
    answers = await always(422, json=OUTCOME).send_bundle([ENTRY, ENTRY], type="transaction")

    assert [answer.status for answer in answers] == [422, 422]
    assert answers[0].issue_text == "Broken."
    assert not answers[0].is_worth_retrying


async def test_a_throttled_entry_is_worth_retrying() -> None:
    entry = {"response": {"status": "429 Too Many Requests", "retryAfter": "3"}}
    body = {"resourceType": "Bundle", "type": "batch-response", "entry": [entry, {}]}

    throttled, silent = await always(200, json=body).send_bundle([ENTRY, ENTRY])

    assert throttled.is_worth_retrying
    assert throttled.retry_after_seconds == 3
    assert silent.status == 500


async def test_an_empty_bundle_is_not_sent() -> None:
    assert await always(500).send_bundle([]) == []


async def test_a_bare_version_becomes_an_entity_tag() -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("if-match"))
        return httpx.Response(200, json={"resourceType": "Patient", "id": "1"})

    await client_of(answer).update({"resourceType": "Patient", "id": "1"}, if_match="3")

    assert seen == ['W/"3"']


async def test_relative_next_links_are_followed_and_loops_end() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        entry = [
            {"resource": {"resourceType": "Patient", "id": request.url.query.decode() or "first"}},
            {"resource": OUTCOME, "search": {"mode": "outcome"}},
        ]
        link = [{"relation": "next", "url": "?page=2"}]
        return httpx.Response(200, json={"resourceType": "Bundle", "entry": entry, "link": link})

    found = await client_of(answer).search("Patient", [])

    assert [item["id"] for item in found] == ["first", "page=2"]


async def test_requests_are_counted_by_interaction_and_code() -> None:
    counter = FHIR_REQUESTS.labels("read", "404")
    before = counter._value.get()

    await always(404).read("Patient", "1")

    assert counter._value.get() == before + 1
