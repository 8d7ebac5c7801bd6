"""Links between the entries of a transaction: temporary names and searches that become ids. Pure but for the searches.

Works on the text of a resource, so that digits stay. Where a link stands does not matter: contained resources,
extensions and identifiers are reached alike, and in the narrative the addresses of links and pictures. `Bundle.link`
stays as it is.
Source: http://hl7.org/fhir/R4/http.html#transaction, http://hl7.org/fhir/R4/bundle.html#references.
"""

import re
from collections.abc import Callable
from urllib.parse import parse_qsl

import msgspec

_NAMED = re.compile(
    rb'"(reference|url|uri|valueUri|valueUrl|valueUuid|valueOid|valueCanonical|instantiatesUri)"'
    rb':"(urn:(?:uuid|oid):[^"\\#]+)(#[^"\\]*)?"'
)
_NARRATIVE = re.compile(rb'"div":"(?:[^"\\]|\\.)*"', re.DOTALL)
_ADDRESS = re.compile(
    rb"""(?P<name>[ \t](?:href|src)[ \t]*=[ \t]*)(?P<quote>\\"|')"""
    rb"""(?P<url>[^"'\\#<>\s]+)(?P<part>#[^"'\\<>\s]*)?(?P=quote)"""
)
_REFERENCE = re.compile(rb'"reference":"([^"\\#?]+)"')
_CONDITIONAL = re.compile(rb'"reference":"([A-Z][A-Za-z]+)\?((?:[^"\\]|\\.)+)"')
_BASE = re.compile(r"(https?://.+/)[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}")

Find = Callable[[str, list[tuple[str, str]]], str]
"""From type and criteria to `Type/id`; refuses when not exactly one resource matches."""


class Links:
    """What the entries of one transaction are called and what they will be."""

    def __init__(self) -> None:
        self._targets: dict[bytes, bytes] = {}
        self._has_urls = False

    def add(self, full_url: str, target: str) -> None:
        """An entry's fullUrl stands for `target`, its type and id here."""
        if full_url.startswith("urn:"):
            self._targets[full_url.encode()] = target.encode()
        elif not full_url.endswith(f"/{target}"):
            self._targets[full_url.encode()] = target.encode()
            self._has_urls = True

    def may_concern(self, text: bytes) -> bool:
        """Whether a resource may hold something to replace."""
        return b'"urn:' in text or b"'urn:" in text or b"?" in text or self._has_urls

    def replace(self, text: bytes, full_url: str | None, find: Find) -> bytes:
        """The text of a resource with all links to other entries, and all that search, replaced by ids.

        Args:
            text: The resource as compact JSON text.
            full_url: Its own; relative references are meant beside it.
            find: Asked about references that search.
        """
        text = _NAMED.sub(self._named, text)
        if b"href" in text or b"src" in text:
            text = _NARRATIVE.sub(lambda match: _ADDRESS.sub(self._addressed, match[0]), text)
        if self._has_urls:
            base = _BASE.fullmatch(full_url or "")
            text = _REFERENCE.sub(self._beside(base[1].encode() if base else None), text)
        return _CONDITIONAL.sub(lambda match: _searched(match, find), text)

    def _named(self, match: re.Match[bytes]) -> bytes:
        found = self._targets.get(match[2])
        return match[0] if found is None else b'"' + match[1] + b'":"' + found + (match[3] or b"") + b'"'

    def _addressed(self, match: re.Match[bytes]) -> bytes:
        found = self._targets.get(match["url"])
        if found is None:
            return match[0]
        return match["name"] + match["quote"] + found + (match["part"] or b"") + match["quote"]

    def _beside(self, base: bytes | None) -> Callable[[re.Match[bytes]], bytes]:
        def replace(match: re.Match[bytes]) -> bytes:
            found = self._targets.get(match[1])
            if found is None and base is not None:
                found = self._targets.get(base + match[1])
            return match[0] if found is None else b'"reference":"' + found + b'"'

        return replace


def has_search(text: bytes) -> bool:
    """Whether a resource refers to another by a search."""
    return b"?" in text and _CONDITIONAL.search(text) is not None


def _searched(match: re.Match[bytes], find: Find) -> bytes:
    criteria = parse_qsl(str(msgspec.json.decode(b'"' + match[2] + b'"')), keep_blank_values=True)
    return f'"reference":"{find(match[1].decode(), criteria)}"'.encode()
