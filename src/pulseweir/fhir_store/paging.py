"""Page tokens: where a page of a search ended, and of which search. Pure.

A page goes on after the sort keys of the last match, never at an offset: whatever is written between two pages, a
match that stays as it is comes once.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from pulseweir.fhir_store.outcomes import Refusal

PAGE_PARAMETER = "_page"
_CHECK_BYTES = 6


def search_digest(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """A name for what is searched in which order."""
    return hashlib.blake2b(repr((path, sorted(pairs))).encode("utf-8", "replace"), digest_size=16).hexdigest()


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
    if not isinstance(keys, list) or not all(type(key) in (int, float, str) for key in keys):
        raise Refusal(
            400, "invalid", "The page token is not one that this server gave for this request; start again without it."
        )
    return keys


def _check(text: bytes, digest: str) -> bytes:
    return hashlib.blake2b(text, key=digest.encode(), digest_size=_CHECK_BYTES).digest()
