"""JSON bodies as text and tree: bounded, without duplicate keys, every number's digits kept. Pure.

The tree serves validation and indexing; what is stored is the client's own text, so that 72.50 stays 72.50.
"""

import json
from codecs import BOM_UTF8
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from pulseweir.clock import to_text
from pulseweir.fhir_store.outcomes import Json, Refusal

KNOWN_BYTES, KNOWN_TEXTS = 1_000, 4_096
"""Longest text of a member (a code, a reference) for which it is remembered what it says, and how many there are."""
_WHOLE = "Resource"
"""FHIRPath of what is wrong as a whole."""
_TREE = msgspec.json.Decoder()
_PIECES = msgspec.json.Decoder(dict[str, msgspec.Raw])
Members = dict[str, msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object that passed the checks.

    Attributes:
        tree: The decoded object; numbers are floats here.
        text: The same object as sent, without insignificant white space.
    """

    tree: Json
    text: bytes


def parse_object(body: bytes) -> Document:
    """Decode one JSON object; `check_depth` must follow before anything walks it.

    A byte order mark before it is passed over, as RFC 8259 (section 8.1) lets a reader do.

    Raises:
        Refusal: 400 when the body is empty, no JSON, no object, absurdly deep, or repeats a key.
    """
    body = body.removeprefix(BOM_UTF8)
    if not body.strip():
        raise Refusal(400, "structure", "The body is empty; send one JSON object.", _WHOLE)
    try:
        tree = _TREE.decode(body)
        text = msgspec.json.format(body, indent=-1)
        # In compact text every key ends in `":`. A tree keeps one of two equal keys, so its text has fewer of them;
        # escapes of quotes and colons inside strings would blur the count and take the slow way.
        is_certain = text.count(b'":') == msgspec.json.encode(tree).count(b'":') and b"\\u00" not in text
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, ValueError) as error:
        raise Refusal(400, "structure", f"The body is not valid JSON: {_place(error)}.", _WHOLE) from None
    if type(tree) is not dict:
        raise Refusal(400, "structure", "The body must be one JSON object.", _WHOLE)
    if not is_certain:
        _refuse_duplicates(text)
    return Document(tree, text)


def check_depth(tree: Json, text: bytes, maximum_levels: int) -> None:
    """Nothing, if the object is nested no deeper than `maximum_levels`.

    Raises:
        Refusal: 400 when it is deeper.
    """
    # An object with few brackets cannot be deep: nearly every resource ends here.
    if text.count(b"{") + text.count(b"[") > maximum_levels and _is_deeper(tree, maximum_levels):
        raise _too_deep()


def _too_deep() -> Refusal:
    return Refusal(400, "too-costly", "The JSON is nested too deeply; flatten it.", _WHOLE)


def _is_deeper(node: Any, levels: int) -> bool:
    if levels == 0:
        return True
    children = node.values() if type(node) is dict else node
    return any(_is_deeper(child, levels - 1) for child in children if type(child) is dict or type(child) is list)


def _place(error: Exception) -> str:
    """The decoder's complaint; it names bytes and positions, never content."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return str(error)


def _refuse_duplicates(text: bytes) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Refusal(400, "structure", "An object repeats a key; FHIR JSON forbids it.", _safe_name(key))
            seen.add(key)

    json.loads(text, object_pairs_hook=unique)


def _safe_name(key: str) -> str:
    return key if key.isidentifier() and len(key) <= 64 else _WHOLE


def split_resource(text: bytes) -> tuple[bytes, bytes]:
    """Cut a compact resource text into what the client says in `meta` and all other content.

    Returns:
        (meta, content): both without their outer braces and without what the server itself sets
        (resourceType, id, meta.versionId, meta.lastUpdated).
    """
    return join_members(split_members(text))


def split_members(text: bytes) -> Members:
    """The text of every member of a compact object, in order."""
    return _PIECES.decode(text)


def join_members(members: Members) -> tuple[bytes, bytes]:
    """`split_resource` of what `split_members` gave, which is used up."""
    meta = b""
    meta_text = members.pop("meta", None)
    if meta_text is not None:
        within = _PIECES.decode(meta_text)
        within.pop("versionId", None)
        within.pop("lastUpdated", None)
        meta = msgspec.json.encode(within)[1:-1]
    members.pop("resourceType", None)
    members.pop("id", None)
    return meta, msgspec.json.encode(members)[1:-1]


def join_resource(head: tuple[str, str, int, int], meta: bytes, content: bytes) -> bytes:
    """The full resource text again.

    Args:
        head: resource type, id, version, last updated in microseconds.
        meta: As `split_resource` gave it.
        content: As `split_resource` gave it.
    """
    resource_type, resource_id, version, updated = head
    text = (
        f'{{"resourceType":"{resource_type}","id":"{resource_id}",'
        f'"meta":{{"versionId":"{version}","lastUpdated":"{instant_text(updated)}"'
    ).encode()
    return b"".join((text, b"," if meta else b"", meta, b"}", b"," if content else b"", content, b"}"))


@lru_cache(maxsize=1024)
def instant_text(microseconds: int) -> str:
    """An instant as FHIR writes it; resources of one bundle share theirs."""
    return to_text(microseconds)


def decode_object(text: bytes) -> Json:
    """Decode a text the store wrote itself."""
    return dict(_TREE.decode(text))
