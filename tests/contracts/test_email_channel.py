"""The e-mail channel against a mail server that is not ours (aiosmtpd), and against some that misbehave."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from certificates import Authority
from contracts.channel_servers import PASSWORD, USER, MailBox, mail_server, raw_server
from contracts.test_channel import NOTICE
from pulseweir.backends.channels.smtp import EmailChannel, MailServer
from pulseweir.errors import ChannelRefused, ChannelUnavailable, RefuseToStart

SENDER = "pulseweir@house.example"
BY_ROLE = {"nurse": ("ward-a@house.example",), "charge-nurse": ("charge@house.example", "spare@house.example")}


def channel_to(port: int, *, seconds: float = 10, **server: Any) -> EmailChannel:
    settings: dict[str, Any] = {"host": "127.0.0.1", "port": port, "security": "none"} | server
    return EmailChannel(MailServer(**settings), SENDER, BY_ROLE, seconds=seconds)


@contextmanager
def plain(box: MailBox, **options: Any) -> Iterator[EmailChannel]:
    with mail_server(box) as port:
        yield channel_to(port, **options)


async def test_a_mail_says_where_and_how_urgent_and_nothing_about_the_patient() -> None:
    box = MailBox()
    with plain(box) as channel:
        await channel.send(replace(NOTICE, ward="Stürmer"))
        await channel.close()

    [mail] = box.mails
    body = mail.get_content()
    assert box.recipients == [["ward-a@house.example"]]
    assert mail["Subject"] == "Review needed: Stürmer · Bed 03 (high priority)"
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content_charset() == "utf-8"
    assert NOTICE.link in body
    assert NOTICE.action in body
    assert "NEWS2" not in mail.as_string() + body


async def test_a_mail_may_say_why_where_that_is_allowed() -> None:
    box = MailBox()
    with mail_server(box) as port:
        server = MailServer(host="127.0.0.1", port=port, security="none")
        await EmailChannel(server, SENDER, BY_ROLE, detail="minimal").send(NOTICE)

    assert "respiratory rate 3" in box.mails[0].get_content()


async def test_every_try_of_a_message_has_the_same_id_and_another_message_another() -> None:
    box = MailBox()
    with plain(box) as channel:
        for notice in (NOTICE, NOTICE, replace(NOTICE, key="k2")):
            await channel.send(notice)

    first, second, third = (mail["Message-ID"] for mail in box.mails)
    assert first == second != third
    assert first.endswith("@house.example>")


@pytest.mark.parametrize("nasty", ["Ward A\r\nBcc: other@elsewhere.example", "A\n\nbody", "\x00\x85\u2028Bed"])
async def test_no_name_begins_a_header_of_its_own(nasty: str) -> None:
    box = MailBox()
    with plain(box) as channel:
        await channel.send(replace(NOTICE, ward=nasty, bed=nasty, action=nasty))

    [mail] = box.mails
    assert mail["Bcc"] is None
    assert box.recipients == [["ward-a@house.example"]]
    assert "Priority: high" in mail.get_content()


async def test_a_ward_may_have_addresses_of_its_own() -> None:
    box = MailBox()
    with mail_server(box) as port:
        server = MailServer(host="127.0.0.1", port=port, security="none")
        by_ward = {"Ward A": {"nurse": ("own@house.example",)}}
        await EmailChannel(server, SENDER, {"*": ("all@house.example",)}, by_ward=by_ward).send(NOTICE)
        await EmailChannel(server, SENDER, {"*": ("all@house.example",)}, by_ward=by_ward).send(
            replace(NOTICE, role="rapid-response")
        )

    assert box.recipients == [["own@house.example"], ["all@house.example"]]


async def test_a_role_without_an_address_is_refused_with_the_setting() -> None:
    with plain(MailBox()) as channel, pytest.raises(ChannelRefused, match="recipients"):
        await channel.send(replace(NOTICE, role="rapid-response"))


async def test_one_address_of_several_refused_is_no_failure() -> None:
    box = MailBox(refused={"spare@house.example": "550 no such user"})
    with plain(box) as channel, structlog.testing.capture_logs() as lines:
        await channel.send(replace(NOTICE, role="charge-nurse"))

    assert box.recipients == [["charge@house.example"]]
    assert [line["addresses"] for line in lines] == [1]
    assert "house.example" not in str(lines)


@pytest.mark.parametrize(
    ("box", "error"),
    [
        (MailBox(refused={"ward-a@house.example": "550 no such user"}), ChannelRefused),
        (MailBox(refused={"ward-a@house.example": "450 greylisted"}), ChannelUnavailable),
        (MailBox(data_answer="554 rejected"), ChannelRefused),
        (MailBox(data_answer="452 no room"), ChannelUnavailable),
    ],
)
async def test_what_the_server_will_not_take_is_refused_or_tried_again(box: MailBox, error: type[Exception]) -> None:
    with plain(box) as channel, pytest.raises(error) as caught:
        await channel.send(NOTICE)

    assert box.mails == []
    assert "house.example" not in str(caught.value)


async def test_over_tls_with_an_account(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    pair = authority.pair("mail")
    offered = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    offered.load_cert_chain(pair.certificate, pair.private_key)
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    box = MailBox()
    account: dict[str, Any] = {"user": USER.decode(), "security": "starttls"}
    with mail_server(box, tls=offered, sign_in=True) as port:
        await channel_to(port, **account, password=PASSWORD.decode(), context=trusting).send(NOTICE)
        with pytest.raises(ChannelRefused, match="535"):
            await channel_to(port, **account, password="other", context=trusting).send(NOTICE)
        with pytest.raises(ChannelRefused, match="authority_file"):
            await channel_to(port, **account, password=PASSWORD.decode()).send(NOTICE)

    assert len(box.mails) == 1


async def test_a_server_that_offers_no_tls_gets_nothing() -> None:
    box = MailBox()
    with plain(box, security="starttls") as channel, pytest.raises(ChannelRefused):
        await channel.send(NOTICE)

    assert box.mails == []


def test_other_machines_are_spoken_to_by_tls_only() -> None:
    with pytest.raises(RefuseToStart, match="starttls"):
        channel_to(25, host="mail.house.example")


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"2")
        await writer.drain()
        await asyncio.sleep(0.05)


async def _gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 house\r\n")


async def _busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"421 too many connections\r\n")
    await reader.read()


@pytest.mark.parametrize("server", [_silent, _dripping, _gone, _busy])
async def test_a_server_that_says_nothing_whole_is_given_up_in_time(
    server: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    async with raw_server(server) as port:
        with pytest.raises(ChannelUnavailable):
            await channel_to(port, seconds=0.3).send(NOTICE)


async def test_nobody_listening_is_unavailable() -> None:
    async with raw_server(_gone) as port:
        pass

    with pytest.raises(ChannelUnavailable):
        await channel_to(port).send(NOTICE)
