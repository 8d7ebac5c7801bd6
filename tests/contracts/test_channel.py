"""What every channel must do, and what a Teams card looks like."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest
import structlog

from pulseweir.backends.channels.base import Channel, Notification
from pulseweir.backends.channels.log import LogChannel
from pulseweir.backends.channels.teams import CARD_BYTES_AT_MOST, TeamsChannel, teams_message
from pulseweir.errors import ChannelRefused, ChannelUnavailable

WEBHOOK = "https://workflows.example/secret-key"
NOTICE = Notification(
    key="k1",
    kind="page",
    level=1,
    role="nurse",
    priority="high",
    ward="Ward A",
    bed="Bed 03",
    action="Go to the patient now.",
    link="https://house.example/alerts/a1",
    reason="NEWS2 9 (high). Raised by respiratory rate 3.",
)


def answering(status: int, **headers: str) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(status, headers=headers))


def card_of(body: bytes) -> dict[str, Any]:
    message = msgspec.json.decode(body, type=dict[str, Any])
    assert message["type"] == "message"
    [attachment] = message["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["contentUrl"] is None
    card: dict[str, Any] = attachment["content"]
    return card


@pytest.fixture(params=[LogChannel, lambda: TeamsChannel(WEBHOOK, transport=answering(202))], ids=["log", "teams"])
def channel(request: pytest.FixtureRequest) -> Channel:
    make: Callable[[], Channel] = request.param
    return make()


async def test_a_message_is_taken_and_may_be_sent_again(channel: Channel) -> None:
    with structlog.testing.capture_logs():
        await channel.send(NOTICE)
        await channel.send(NOTICE)
    await channel.close()

    assert channel.name in ("log", "teams")


async def test_a_log_line_says_where_and_how_urgent_and_nothing_about_the_patient() -> None:
    with structlog.testing.capture_logs() as lines:
        await LogChannel().send(NOTICE)

    [line] = lines
    assert (line["bed"], line["priority"]) == ("Bed 03", "high")
    assert "NEWS2" not in str(line)


async def test_a_card_is_posted_as_the_workflow_expects() -> None:
    posted: list[httpx.Request] = []

    def take(request: httpx.Request) -> httpx.Response:
        posted.append(request)
        return httpx.Response(202)

    channel = TeamsChannel(WEBHOOK, transport=httpx.MockTransport(take))
    await channel.send(NOTICE)
    await channel.close()

    card = card_of(posted[0].content)
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert card["$schema"] == "http://adaptivecards.io/schemas/adaptive-card.json"
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open", "url": NOTICE.link}]


def test_by_default_a_card_says_bed_and_link_only() -> None:
    text = teams_message(NOTICE).decode()

    assert "Bed 03" in text
    assert "respiratory" not in text
    assert "NEWS2" not in text


def test_a_card_may_say_why_where_that_is_allowed() -> None:
    assert "NEWS2 9" in teams_message(NOTICE, "minimal").decode()


def test_a_card_never_grows_above_the_limit() -> None:
    notice = replace(NOTICE, reason="é" * 60_000)
    long_action = replace(notice, action="☃" * 60_000)

    assert len(teams_message(notice, "minimal")) <= CARD_BYTES_AT_MOST
    assert len(teams_message(long_action, "minimal")) <= CARD_BYTES_AT_MOST


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_busy_receiver_is_tried_again(status: int) -> None:
    channel = TeamsChannel(WEBHOOK, transport=answering(status, **{"Retry-After": "7"}))

    with pytest.raises(ChannelUnavailable) as caught:
        await channel.send(NOTICE)

    assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413])
async def test_a_refusal_is_final_for_the_channel(status: int) -> None:
    channel = TeamsChannel(WEBHOOK, transport=answering(status))

    with pytest.raises(ChannelRefused) as caught:
        await channel.send(NOTICE)

    assert "secret-key" not in str(caught.value)


async def test_a_lost_connection_names_no_address() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        text = f"cannot reach {request.url}"
        raise httpx.ConnectError(text)

    channel = TeamsChannel(WEBHOOK, transport=httpx.MockTransport(fail))

    with pytest.raises(ChannelUnavailable) as caught:
        await channel.send(NOTICE)

    assert "secret-key" not in str(caught.value)
