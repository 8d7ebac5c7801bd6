"""Page tokens: where a page of a search ended, and of which search. Pure.

A page goes on after the sort keys of the last match, never at an offset: whatever is written between two pages, a
match that stays as it is comes once.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from pulseweir.fhir_store.outcomes import Refusal

PAGE_PARAMETER = "_page"
_CHECK_BYTES = 6
_MOST_SENT = 300
"""A token goes into a URL; what it cannot remember comes twice, as R4 allows."""
_ROWS = re.compile(r"(\d{1,18}(,\d{1,18}){0,1000})?", re.ASCII)
_BEYOND = 2**63
"""The first whole number that SQLite does not take."""


def search_digest(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """A name for what is searched in which order: that of equal names counts, as of two `_sort`."""
    return hashlib.blake2b(
        repr((path, sorted(pairs, key=itemgetter(0)))).encode("utf-8", "replace"), digest_size=16
    ).hexdigest()


def encode_page(keys: Sequence[Any], digest: str = "") -> str:
    """The text of a page token that holds the sort keys of a page's last match."""
    text = msgspec.json.encode(keys)
    return base64.urlsafe_b64encode(_check(text, digest) + text).decode().rstrip("=")


def decode_page(text: str, digest: str = "") -> list[Any]:
    """The sort keys of a page token.

    Raises:
        Refusal: 400 when it is none of ours, or of another search.
    """
    try:
        token = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        check, held = token[:_CHECK_BYTES], token[_CHECK_BYTES:]
        keys = msgspec.json.decode(held) if check == _check(held, digest) else None
    except (binascii.Error, msgspec.DecodeError, ValueError):
        keys = None
    if not isinstance(keys, list) or not all(_is_key(key) for key in keys):
        raise _foreign()
    return keys


def _foreign() -> Refusal:
    text = "The page token is not one that this server gave for this request; start again without it."
    return Refusal(400, "invalid", text, f"http.{PAGE_PARAMETER}")


def join_sent(rows: Iterable[int]) -> str:
    """Row numbers of what pages had so far, for a page token; when they are too many, the latest."""
    return ",".join(map(str, [*rows][-_MOST_SENT:]))


def split_sent(keys: list[Any]) -> list[int]:
    """Take what was sent from the end of a page token's keys.

    Raises:
        Refusal: 400 when it is not there.
    """
    text = keys.pop() if keys else None
    if not isinstance(text, str) or not _ROWS.fullmatch(text):
        raise _foreign()
    return [int(row) for row in text.split(",") if row]


def _is_key(key: Any) -> bool:
    return type(key) in (float, str) or (type(key) is int and -_BEYOND <= key < _BEYOND)


def _check(text: bytes, digest: str) -> bytes:
    return hashlib.blake2b(text, key=digest.encode(), digest_size=_CHECK_BYTES).digest()
