"""What answers of HTTP receivers mean, on every channel that posts: a success may tell an error, or never end."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from contracts.channel_servers import Answering, raw_server
from contracts.test_channel import NOTICE
from contracts.test_webhook_channel import KEY
from pulseweir.backends.channels.answers import HttpAnswer, check_taken
from pulseweir.backends.channels.base import Channel
from pulseweir.backends.channels.teams import TeamsChannel
from pulseweir.backends.channels.webhook import WebhookChannel
from pulseweir.clock import from_microseconds
from pulseweir.errors import ChannelRefused, ChannelUnavailable

NOW = 1_780_000_000_000_000
Make = Callable[..., Channel]

TAKEN = [
    b"",
    b"  \r\n",
    b"1",
    b"ok",
    b"\xef\xbb\xbf",
    b"Accepted, 0 errors",
    b"true",
    b"null",
    b'{"ok":true}',
    b'{"success":true,"error":null,"errors":[],"message":"queued"}',
    b'{"status":"success","code":200}',
    b'{"statusCode":202}',
    b'{"error":""}',
    b'{"error":"none"}',
    b'{"type":"message","text":"Review needed"}',
]
LATER = [
    b"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x",
    b'{"error":{"code":"TooManyRequests","message":"rate limit"}}',
    b'{"status":503}',
    b'"Service unavailable"',
    b"<!DOCTYPE html><html><title>Sign in</title></html>",
    b"\n<HTML lang=en><body>proxy</body></HTML>",
]
WRONG = [
    b"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 403",
    b"summary or text is required",
    b"Bad payload received by generic incoming webhook: invalid",
    b'{"error":"no such channel"}',
    b'{"Error":{"code":7}}',
    b'{"errors":["x"]}',
    b'{"success":false}',
    b'{"Success":"false"}',
    b'{"ok":false}',
    b'{"ok":0}',
    b'{"status":"error"}',
    b'{"status":"Failed","id":3}',
    b'{"status":404}',
    b'{"code":"401"}',
    b'[{"ok":true},{"ok":false}]',
    b'{"message":"Webhook message delivery failed"}',
    b"false",
    b'"invalid token"',
]


@pytest.fixture(params=["teams", "webhook"])
def make(request: pytest.FixtureRequest) -> Make:
    def teams(url: str = "https://hook.example/secret-key", **options: Any) -> Channel:
        return TeamsChannel(url, **options)

    def webhook(url: str = "https://hook.example/secret-key", **options: Any) -> Channel:
        return WebhookChannel(url, KEY, **options)

    return teams if request.param == "teams" else webhook


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize("body", TAKEN)
def test_what_tells_no_error_is_taken(status: int, body: bytes) -> None:
    check_taken("teams", HttpAnswer(status, body=body), NOW)


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    ("body", "error"), [*((body, ChannelUnavailable) for body in LATER), *((body, ChannelRefused) for body in WRONG)]
)
def test_a_success_that_tells_an_error_is_none(status: int, body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_taken("teams", HttpAnswer(status, body=body), NOW)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirect_is_refused_with_the_remedy(status: int) -> None:
    with pytest.raises(ChannelRefused, match="redirect"):
        check_taken("teams", HttpAnswer(status), NOW)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("7", 7),
        (format_datetime(from_microseconds(NOW) + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(from_microseconds(NOW) - timedelta(days=2), usegmt=True), 0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("9" * 400, 86_400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
    ],
)
def test_both_forms_of_retry_after_are_understood_and_bounded(asked: str, seconds: float | None) -> None:
    with pytest.raises(ChannelUnavailable) as caught:
        check_taken("teams", HttpAnswer(429, retry_after=asked), NOW)

    assert caught.value.retry_after_seconds == seconds


async def test_every_channel_judges_the_answer(make: Make) -> None:
    answers = [httpx.Response(200, text="failed"), httpx.Response(200, json={"ok": False}), httpx.Response(202)]
    channel = make(transport=httpx.MockTransport(lambda _: answers.pop(0)))

    for _ in range(2):
        with pytest.raises(ChannelRefused) as caught:
            await channel.send(NOTICE)
        assert "secret-key" not in str(caught.value)
    await channel.send(NOTICE)
    await channel.close()


def _after_head(more: Callable[[asyncio.StreamWriter], Any]) -> Answering:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 1000000\r\n\r\n")
        await writer.drain()
        await more(writer)

    return answer


async def _nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.05)


async def _flood(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"a" * 10_000)
        await writer.drain()


async def _wait(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize(
    "answer",
    [_nothing, _hang_up, _after_head(_drip), _after_head(_flood), _after_head(_wait)],
    ids=["never", "cut", "drips", "floods", "stops"],
)
async def test_an_answer_that_never_comes_or_never_ends_is_none(make: Make, answer: Answering) -> None:
    async with raw_server(answer) as port:
        channel = make(f"http://127.0.0.1:{port}/secret-key", seconds=0.5)
        with pytest.raises(ChannelUnavailable) as caught:
            await channel.send(NOTICE)
        await channel.close()

    assert "secret-key" not in str(caught.value)
