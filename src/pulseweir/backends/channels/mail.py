"""Step 18: the e-mail of a notification: who gets it, and what it says. Pure.

Source: RFC 5322 (messages), RFC 3834 (automatic messages say so).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from pulseweir.backends.channels.base import TITLES, Detail, Notification
from pulseweir.records.identifiers import digest

_LINE_AT_MOST = 200
_TEXT_AT_MOST = 2_000
_ANY_ROLE = "*"


def recipients(
    notification: Notification,
    by_role: Mapping[str, Sequence[str]],
    by_ward: Mapping[str, Mapping[str, Sequence[str]]],
) -> tuple[str, ...]:
    """The addresses of a message: those of its role in its ward, else of its role; of role `*` where none is named."""
    ward = by_ward.get(notification.ward or "", {})
    for listed in (ward.get(notification.role), by_role.get(notification.role), ward.get(_ANY_ROLE)):
        if listed:
            return tuple(listed)
    return tuple(by_role.get(_ANY_ROLE, ()))


def mail_of(
    notification: Notification, sender: str, to: Sequence[str], now: datetime, detail: Detail = "none"
) -> EmailMessage:
    """The message: plain text in UTF-8; every try of it has the same Message-ID, so that a repeat is known as one."""
    mail = EmailMessage(policy=SMTP)
    title = TITLES.get(notification.kind, "Review needed")
    mail["Subject"] = one_line(f"{title}: {notification.place} ({notification.priority} priority)")
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{digest('e-mail', notification.key)}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    if notification.priority == "high":
        mail["Importance"] = "high"
    lines = [
        f"{title}: {one_line(notification.place)}",
        f"Priority: {one_line(notification.priority)}",
        f"For: {one_line(notification.role)}",
        *([f"Reason: {one_line(notification.reason, _TEXT_AT_MOST)}"] if detail == "minimal" else []),
        "",
        one_line(notification.action, _TEXT_AT_MOST),
        "",
        f"Open: {one_line(notification.link, _TEXT_AT_MOST)}",
    ]
    mail.set_content("\n".join(lines) + "\n", cte="quoted-printable")
    return mail


def one_line(text: str, at_most: int = _LINE_AT_MOST) -> str:
    r"""The text on one line, without control characters: nothing in it can begin a header of its own.

    >>> one_line("Ward A\r\nBcc: someone@example.org")
    'Ward A Bcc: someone@example.org'
    """
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:at_most]
