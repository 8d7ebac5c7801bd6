"""The client against servers that misbehave, played by an httpx transport."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from email.utils import format_datetime

import httpx
import pytest

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import from_microseconds, real_microseconds
from pulseweir.errors import FhirConflict, FhirRefused, FhirUnavailable, RetryLater
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


async def test_a_body_that_trickles_in_ends_with_the_requests_time() -> None:
    """Each byte comes in time, the whole never does."""

    async def trickle() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b" "

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=trickle()))
    client = FhirClient("http://fhir.test/fhir", transport=transport, timeout_seconds=0.1)

    with pytest.raises(FhirUnavailable, match="TimeoutError"):
        await client.send_bundle([ENTRY])


async def test_a_retry_after_date_is_measured_by_the_servers_own_clock() -> None:
    headers = {"date": "Sat, 01 Jan 2000 00:00:00 GMT", "retry-after": "Sat, 01 Jan 2000 00:00:09 GMT"}

    with pytest.raises(FhirUnavailable) as raised:
        await always(503, headers=headers).capabilities()

    assert (raised.value.status, raised.value.retry_after_seconds) == (503, 9)


@pytest.mark.parametrize("text", ["99999999999999999999", "Sat, 01 Jan 9999 00:00:00 GMT"])
async def test_nobody_waits_longer_than_a_day_because_a_server_said_so(text: str) -> None:
    with pytest.raises(FhirUnavailable) as raised:
        await always(503, headers={"retry-after": text}).capabilities()

    assert raised.value.retry_after_seconds == 86_400


@pytest.mark.parametrize("text", ["-5", "1.5", "\u00b2", "Sat, 99 Jan 2000", "Sat, 01 Jan 2000 00:00:00"])
async def test_an_odd_retry_after_breaks_nothing(text: str) -> None:
    with pytest.raises(FhirUnavailable):
        await always(429, headers={"retry-after": text.encode("latin-1")}).capabilities()


async def test_what_a_server_says_in_free_text_is_in_no_error_a_log_may_show() -> None:
    said = {"resourceType": "OperationOutcome", "issue": [{"code": "exception", "diagnostics": "Jane Doe"}]}

    with pytest.raises(FhirUnavailable) as raised:
        await always(500, json=said).send_bundle([ENTRY])

    assert "exception" in str(raised.value)
    assert "Jane" not in str(raised.value)


async def test_not_supported_is_a_refusal_and_does_not_pass() -> None:
    answers = await always(501, json=OUTCOME).send_bundle([ENTRY])

    assert [(answer.status, answer.is_whole, answer.is_worth_retrying) for answer in answers] == [(501, True, False)]


async def test_an_entry_that_reports_an_error_beside_its_success_is_not_done() -> None:
    warning = {"resourceType": "OperationOutcome", "issue": [{"severity": "warning", "code": "x"}]}
    told = [{"response": {"status": "200", "outcome": outcome}} for outcome in (OUTCOME, warning)]
    body = {"resourceType": "Bundle", "type": "batch-response", "entry": told}

    failed, warned = await always(200, json=body).send_bundle([ENTRY, ENTRY])

    assert (failed.is_done, failed.is_worth_retrying) == (False, True)
    assert (warned.is_done, warned.is_worth_retrying) == (True, False)


@pytest.mark.parametrize("entry", [{"response": None}, {"response": {"status": "201", "outcome": "x"}}, 7])
async def test_a_malformed_bundle_is_retried_later(entry: object) -> None:
    body = {"resourceType": "Bundle", "type": "batch-response", "entry": [entry]}

    with pytest.raises(FhirUnavailable):
        await always(200, json=body).send_bundle([ENTRY])


async def test_an_entry_alone_is_a_request_of_its_own() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(412, json=OUTCOME) if request.method == "PUT" else httpx.Response(404)

    put = ENTRY | {"request": {"method": "PUT", "url": "Patient/1", "ifMatch": 'W/"2"', "ifNoneMatch": "*"}}
    refused = await client_of(answer).send_entry(put)
    absent = await client_of(answer).send_entry({"request": {"method": "GET", "url": "Patient/1"}})

    assert [(request.method, request.url.path) for request in seen] == [
        ("PUT", "/fhir/Patient/1"),
        ("GET", "/fhir/Patient/1"),
    ]
    assert (seen[0].headers["if-match"], seen[0].headers["if-none-match"]) == ('W/"2"', "*")
    assert (refused.status, refused.issue_text, refused.issue_expression) == (412, "Broken.", "Patient.id")
    assert absent.status == 404


async def test_an_entry_alone_that_is_answered_with_half_a_body_is_retried_later() -> None:
    with pytest.raises(FhirUnavailable):
        await always(200, content=b'{"resourceType":').send_entry(ENTRY)


async def test_an_entry_alone_may_be_answered_with_nothing() -> None:
    answer = await always(201, headers={"etag": 'W/"1"'}).send_entry(ENTRY)

    assert (answer.is_done, answer.etag) == (True, 'W/"1"')
