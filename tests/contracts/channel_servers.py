"""Receivers that are not ours, for the channels: a mail server from a package, and HTTP servers that misbehave."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from pulseweir.local_house import free_ports

USER, PASSWORD = b"ward", b"invented"


@dataclass
class MailBox:
    """What a mail server does with what it gets.

    Attributes:
        refused: Answers by address, such as ``550 no such user``.
        data_answer: What it says to a whole mail.
        mails: Those it took.
        recipients: Addresses of each of them.
    """

    refused: dict[str, str] = field(default_factory=dict)
    data_answer: str = "250 taken"
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 listed"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.data_answer.startswith("250"):
            content = envelope.content
            assert isinstance(content, bytes)
            self.mails.append(message_from_bytes(content, policy=default))
            self.recipients.append(list(envelope.rcpt_tos))
        return self.data_answer


def _sign_in(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (USER, PASSWORD), handled=False)


@contextmanager
def mail_server(box: MailBox, *, tls: ssl.SSLContext | None = None, sign_in: bool = False) -> Iterator[int]:
    """A mail server on loopback; its port. With `tls` it offers STARTTLS, with `sign_in` it asks who comes."""
    options: dict[str, Any] = {"tls_context": tls} if tls else {}
    if sign_in:
        options |= {"authenticator": _sign_in, "auth_required": True, "auth_require_tls": tls is not None}
    controller = Controller(box, hostname="127.0.0.1", port=free_ports(1)[0], **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(answer: Answering) -> AsyncIterator[int]:
    """A server that does to each connection what it is told; its port."""
    conversations: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            conversations.add(task)
        try:
            await answer(reader, writer)
        except OSError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
