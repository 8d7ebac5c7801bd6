"""Step 18: notifications by e-mail, through a mail server that speaks SMTP.

Source: RFC 5321 (SMTP), RFC 3207 (STARTTLS). The mail server has taken a message when it answers 250 to its data:
taken is not read.
"""

import asyncio
import contextlib
import smtplib
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.message import EmailMessage

import structlog

from pulseweir.backends.channels.base import Channel, Detail, Notification, Security
from pulseweir.backends.channels.mail import mail_of, recipients
from pulseweir.backends.channels.posting import SEND_SECONDS
from pulseweir.clock import from_microseconds, real_microseconds
from pulseweir.errors import ChannelRefused, ChannelUnavailable, RefuseToStart, RejectRecord, RetryLater

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_LATER = range(400, 500)
_MAILS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where mail is handed in.

    Attributes:
        host: Name or address.
        port: Port.
        security: How the connection is kept private.
        user: Account to sign in with, "" for none.
        password: Its password.
        context: What certificates are checked by; None for the system's authorities.
    """

    host: str
    port: int
    security: Security = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
    context: ssl.SSLContext | None = None

    def check(self) -> None:
        """Refuse what would send messages or a password in the clear to another machine.

        Raises:
            RefuseToStart: There is no TLS and the server is not this machine.
        """
        if self.security == "none" and self.host not in _LOOPBACK:
            message = (
                'Channel email sends to other machines by TLS only. Set coordination.email.security to "starttls".'
            )
            raise RefuseToStart(message)


class EmailChannel(Channel):
    """Hands one mail a notification to a mail server, on a connection of its own.

    Args:
        server: Where.
        sender: Address that mails come from.
        by_role: Addresses by role of the ladder; role `*` stands for every other.
        by_ward: The same by ward, before `by_role`.
        detail: How much may be said.
        seconds: Limit for the whole exchange.
        now: Real time in microseconds.

    Raises:
        RefuseToStart: The server would be spoken to in the clear beyond this machine.
    """

    name = "email"

    def __init__(
        self,
        server: MailServer,
        sender: str,
        by_role: Mapping[str, Sequence[str]],
        *,
        by_ward: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
        detail: Detail = "none",
        seconds: float = SEND_SECONDS,
        now: Callable[[], int] = real_microseconds,
    ) -> None:
        server.check()
        self._server = server
        self._sender = sender
        self._by_role = by_role
        self._by_ward = by_ward or {}
        self._detail = detail
        self._seconds = seconds
        self._now = now
        # Threads of its own: a mail server that is silent must not hold up what else waits for one.
        self._threads = ThreadPoolExecutor(_MAILS_AT_ONCE, "email")

    async def send(self, notification: Notification) -> None:
        """Hand the mail in; returns when the server has taken it for at least one address.

        Raises:
            ChannelUnavailable: No answer in time, or one that asks for patience.
            ChannelRefused: Nobody is listed for the role, or the server will not take it.
        """
        to = recipients(notification, self._by_role, self._by_ward)
        if not to:
            raise ChannelRefused(
                self.name, "no address is listed for the role. Add it to coordination.email.recipients"
            )
        mail = mail_of(notification, self._sender, to, from_microseconds(self._now()), self._detail)
        exchange = _Exchange(self._server, self._seconds)
        handing = asyncio.get_running_loop().run_in_executor(self._threads, exchange.hand_in, mail, self._sender, to)
        try:
            await asyncio.wait({handing}, timeout=self._seconds)
        finally:
            # A server that drips or is silent holds the thread no longer than this.
            exchange.end()
            handing.add_done_callback(_forget)
        if not handing.done():
            raise ChannelUnavailable(self.name, f"no whole answer within {self._seconds:g} s")
        try:
            refused = handing.result()
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise _told(error) from None
        if refused:
            structlog.get_logger().warning("email_partly_refused", role=notification.role, addresses=refused)

    async def close(self) -> None:
        """Let go of the threads; connections are not kept."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Exchange:
    """One conversation with a mail server, in a thread; `end` from another one ends it."""

    def __init__(self, server: MailServer, seconds: float) -> None:
        self._server = server
        self._seconds = seconds
        self._client: smtplib.SMTP | None = None
        self._has_ended = False

    def hand_in(self, mail: EmailMessage, sender: str, to: Sequence[str]) -> int:
        """Connect, sign in, hand the mail in; returns how many of the addresses were refused."""
        server = self._server
        context = server.context or ssl.create_default_context()
        if server.security == "tls":
            client: smtplib.SMTP = smtplib.SMTP_SSL(local_hostname=_own_name(), timeout=self._seconds, context=context)
        else:
            client = smtplib.SMTP(local_hostname=_own_name(), timeout=self._seconds)
        self._client = client
        # Known before the greeting: certificates are checked against it.
        client._host = server.host  # type: ignore[attr-defined]  # noqa: SLF001
        try:
            code, text = client.connect(server.host, server.port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, text)
            if self._has_ended:
                raise TimeoutError
            if server.security == "starttls":
                client.starttls(context=context)
            if server.user:
                client.login(server.user, server.password)
            return len(client.send_message(mail, sender, list(to)))
        finally:
            # Nobody waits for the answer to the farewell: what was taken stays taken.
            with contextlib.suppress(OSError, smtplib.SMTPException):
                client.putcmd("quit")
            client.close()

    def end(self) -> None:
        """Cut the connection, if there is one still."""
        self._has_ended = True
        connection = None if self._client is None else self._client.sock
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _told(error: Exception) -> RetryLater | RejectRecord:
    """The error that a failure becomes; addresses and server texts stay out of it."""
    name = EmailChannel.name
    codes = _codes(error)
    if codes:
        cause = f"SMTP {min(codes)} ({type(error).__name__})"
        if any(code in _LATER for code in codes):
            return ChannelUnavailable(name, cause)
        return ChannelRefused(name, cause)
    if isinstance(error, ssl.SSLCertVerificationError):
        return ChannelRefused(name, "its certificate is not trusted. Set coordination.email.authority_file")
    if isinstance(error, smtplib.SMTPNotSupportedError | ValueError):
        return ChannelRefused(name, f"{type(error).__name__}: the server cannot do what coordination.email asks for")
    return ChannelUnavailable(name, type(error).__name__)


def _codes(error: Exception) -> list[int]:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return [code for code, _text in error.recipients.values()]
    if isinstance(error, smtplib.SMTPResponseException):
        return [error.smtp_code]
    return []


def _own_name() -> str:
    """How this machine names itself; without a question to a name service, which may be slow."""
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"


def _forget(handing: "asyncio.Future[int]") -> None:
    """What becomes of an exchange that was given up is nobody's news."""
    if not handing.cancelled():
        handing.exception()
