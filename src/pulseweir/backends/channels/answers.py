"""Step 18: what a receiver's HTTP answer says: taken, try again later, or refused. Pure.

A status of success is not enough: receivers answer 200 and say in the text that nothing was delivered, and a proxy
answers 200 with its sign-in page. 202 with an empty body is taken: that is how a workflow accepts a message.

Source: RFC 9110, sections 10.2.3 (Retry-After) and 15; Microsoft's incoming webhooks, which tell of throttling by
"Microsoft Teams endpoint returned HTTP error 429" inside an answer of 200.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from pulseweir.backends.fhir_answers import retry_after
from pulseweir.errors import ChannelRefused, ChannelUnavailable

BODY_BYTES_AT_MOST = 65_536
"""More of an answer is not read: no receiver has so much to say about one message."""

_LATER = frozenset({408, 425, 429})
_REDIRECTS = range(300, 400)
_PAGE = re.compile(r"<!doctype\s+html|<html[\s>]", re.IGNORECASE)
_NOTHING_WRONG = re.compile(r"\b(?:no|0|zero|without)\s+(?:errors?|failures?)\b", re.IGNORECASE)
_WRONG = re.compile(
    r"error|exception|fail(?:ed|ure|s)?\b|\bis required\b|denied|unauthori[sz]ed|forbidden|invalid|expired|disabled"
    r"|not (?:found|delivered|accepted|sent|allowed|available|valid)|reject|refused|throttl|too many|rate.?limit"
    r"|unavailable|unable to|can(?:not|'t)\b|could not|timed? ?out|bad request",
    re.IGNORECASE,
)
_PASSES = re.compile(
    r"\b(?:429|5\d\d)\b|throttl|too many|rate.?limit|unavailable|timed? ?out|try again|retry", re.IGNORECASE
)
_BAD_STATES = frozenset({"error", "errors", "fail", "failed", "failure", "rejected", "denied", "undelivered"})
_FALSE = _BAD_STATES | {"false", "no", "0"}
_VERDICTS = ("success", "ok", "succeeded", "delivered", "accepted")
_STATES = ("status", "state", "result", "outcome", "type")
_CODES = ("status", "statuscode", "status_code", "code")
_SENTENCES = ("message", "detail", "description", "text", "result", "reason", "title")
_FAULTS = ("error", "errors", "exception", "fault")
_HTTP_FAULTS = range(400, 600)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back.

    Attributes:
        status: HTTP status.
        retry_after: The Retry-After header, "" without.
        date: The Date header, "" without.
        body: The body, whole.
    """

    status: int
    retry_after: str = ""
    date: str = ""
    body: bytes = b""


def check_taken(channel: str, answer: HttpAnswer, now_real: int) -> None:
    """Return when the answer says that the message was taken.

    Args:
        channel: Name of the channel, for the error.
        answer: What came back.
        now_real: Real instant in microseconds, from which a Retry-After date is counted when the answer has no Date.

    Raises:
        ChannelUnavailable: It may be taken later; with the wait that was asked for.
        ChannelRefused: Not as things are.
    """
    wait = retry_after(answer.retry_after or None, answer.date or None, now_real)
    status = answer.status
    if status in _LATER or status >= 500:
        raise ChannelUnavailable(channel, f"status {status}", retry_after_seconds=wait)
    if status in _REDIRECTS:
        raise ChannelRefused(channel, f"status {status}, a redirect. Set the address that it leads to")
    if not 200 <= status < 300:
        raise ChannelRefused(channel, f"status {status}")
    fault = fault_in(answer.body)
    if fault == "page":
        cause = f"status {status} with a web page, as a proxy that wants a sign-in sends"
        raise ChannelUnavailable(channel, cause, retry_after_seconds=wait)
    if fault == "later":
        raise ChannelUnavailable(channel, f"status {status} with an error that passes", retry_after_seconds=wait)
    if fault == "error":
        raise ChannelRefused(channel, f"status {status} with an error in its text")


def fault_in(body: bytes) -> str:
    """What the body of a success tells against it: "", "error", "later" (an error that passes) or "page".

    >>> fault_in(b""), fault_in(b"1"), fault_in(b'{"ok":false}'), fault_in(b"<!DOCTYPE html><title>Sign in")
    ('', '', 'error', 'page')
    """
    text = body.decode("utf-8-sig", "replace").strip()
    if not text:
        return ""
    if _PAGE.search(text[:2_048]):
        return "page"
    try:
        told = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError):
        return _fault_in_text(text)
    return _fault_in_json(told)


def _fault_in_json(told: object) -> str:
    if isinstance(told, str):
        return _fault_in_text(told)
    if told is False:
        return "error"
    if isinstance(told, list):
        return _worst(_fault_in_json(each) for each in told if isinstance(each, dict | str))
    if not isinstance(told, dict):
        return ""
    members = {str(name).casefold(): value for name, value in told.items()}
    if not _tells_fault(members):
        return _worst(_fault_in_text(text) for name in _SENTENCES if isinstance(text := members.get(name), str))
    return "later" if _PASSES.search(msgspec.json.encode(told).decode()) else "error"


def _tells_fault(members: Mapping[str, object]) -> bool:
    """Whether an object says by one of the usual members that something went wrong."""
    if any(_is_told(members.get(name)) for name in _FAULTS):
        return True
    if any(name in members and _is_false(members[name]) for name in _VERDICTS):
        return True
    states = [members[name] for name in _STATES if isinstance(members.get(name), str)]
    if any(str(state).strip().casefold() in _BAD_STATES for state in states):
        return True
    return any(_is_http_fault(members.get(name)) for name in _CODES)


def _is_told(fault: object) -> bool:
    return bool(fault) and not (isinstance(fault, str) and fault.strip().casefold() in ("none", "null", "false", "no"))


def _is_false(verdict: object) -> bool:
    if isinstance(verdict, str):
        return verdict.strip().casefold() in _FALSE
    return verdict is False or (isinstance(verdict, int | float) and verdict == 0)


def _is_http_fault(code: object) -> bool:
    if isinstance(code, str) and code.strip().isdecimal():
        code = int(code[:9])
    return isinstance(code, int) and code in _HTTP_FAULTS


def _fault_in_text(text: str) -> str:
    judged = _NOTHING_WRONG.sub("", text)
    if not _WRONG.search(judged):
        return ""
    return "later" if _PASSES.search(judged) else "error"


def _worst(faults: Iterable[str]) -> str:
    """An error that stays before one that passes; "" for none."""
    found = set(faults) - {""}
    return "error" if "error" in found else "later" if found else ""
