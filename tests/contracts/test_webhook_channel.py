"""The webhook channel, verified by the package of those who wrote the specification of its signatures."""

import base64
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from contracts.test_channel import NOTICE
from pulseweir.backends.channels.webhook import WebhookChannel
from pulseweir.errors import RefuseToStart

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()
ADDRESS = "https://pager.example/in/secret-path"


async def posted(secret: str = KEY, notice: Any = NOTICE, **options: Any) -> httpx.Request:
    requests: list[httpx.Request] = []

    def take(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(204)

    channel = WebhookChannel(ADDRESS, secret, transport=httpx.MockTransport(take), **options)
    await channel.send(notice)
    await channel.close()
    return requests[0]


@pytest.mark.parametrize("secret", [KEY, f"whsec_{KEY}", f"{OTHER}\nwhsec_{KEY}\n"])
async def test_a_receiver_verifies_the_signature(secret: str) -> None:
    request = await posted(secret, replace(NOTICE, ward="Süd"))

    told = Webhook(f"whsec_{KEY}").verify(request.content, dict(request.headers))

    assert told["ward"] == "Süd"
    with pytest.raises(WebhookVerificationError):
        Webhook(base64.b64encode(b"x" * 32).decode()).verify(request.content, dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(KEY).verify(request.content + b" ", dict(request.headers))


async def test_the_object_is_version_1() -> None:
    request = await posted(notice=replace(NOTICE, raised_at=1_700_000_000_000_000))

    assert request.headers["content-type"] == "application/json"
    assert msgspec.json.decode(request.content) == {
        "version": 1,
        "event": "page",
        "key": "k1",
        "level": 1,
        "priority": "high",
        "ward": "Ward A",
        "bed": "Bed 03",
        "role": "nurse",
        "action": "Go to the patient now.",
        "link": "https://house.example/alerts/a1",
        "raised_at": "2023-11-14T22:13:20.000Z",
    }


async def test_why_is_told_only_where_that_is_allowed() -> None:
    assert b"NEWS2" not in (await posted()).content
    assert msgspec.json.decode((await posted(detail="minimal")).content)["reason"] == NOTICE.reason


async def test_a_repeat_is_known_by_its_id() -> None:
    first, second = await posted(), await posted()

    assert first.headers["webhook-id"] == second.headers["webhook-id"] == NOTICE.key


@pytest.mark.parametrize(
    ("address", "secret", "match"),
    [
        ("http://pager.example/in", KEY, "https"),
        ("pager.example/in", KEY, "address"),
        ("https://[", KEY, "address"),
        (ADDRESS, "", "openssl"),
        (ADDRESS, "not base64 at all", "openssl"),
        (ADDRESS, base64.b64encode(b"short").decode(), "openssl"),
    ],
)
def test_what_could_not_be_signed_or_kept_private_is_refused(address: str, secret: str, match: str) -> None:
    with pytest.raises(RefuseToStart, match=match):
        WebhookChannel(address, secret)
