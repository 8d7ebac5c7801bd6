"""JSON bodies as text and tree: bounded, without duplicate keys, every number's digits kept. Pure.

The tree serves validation and indexing; what is stored is the client's own text, so that 72.50 stays 72.50.
"""

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from pulseweir.clock import to_text
from pulseweir.fhir_store.outcomes import Json, Refusal

_TREE = msgspec.json.Decoder()
_PIECES = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object that passed the checks.

    Attributes:
        tree: The decoded object; numbers are floats here.
        text: The same object as sent, without insignificant white space.
    """

    tree: Json
    text: bytes


def parse_object(body: bytes, maximum_depth: int) -> Document:
    """Decode one JSON object.

    Raises:
        Refusal: 400 when the body is empty, no JSON, no object, nested too deeply, or repeats a key.
    """
    if not body.strip():
        raise Refusal(400, "structure", "The body is empty; send one JSON object.")
    try:
        tree = _TREE.decode(body)
        if type(tree) is not dict:
            raise Refusal(400, "structure", "The body must be one JSON object.")
        keys = _count_keys(tree, maximum_depth)
        text = msgspec.json.format(body, indent=-1)
    except RecursionError:
        text_of_limit = f"The body is nested deeper than {maximum_depth} levels; flatten it."
        raise Refusal(400, "too-costly", text_of_limit) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise Refusal(400, "structure", f"The body is not valid JSON: {_place(error)}.") from None
    # In compact text every key ends in `":`; strings may hold that too, so only a surplus needs the slow check.
    if text.count(b'":') != keys:
        _refuse_duplicates(text)
    return Document(tree, text)


def _place(error: Exception) -> str:
    """The decoder's complaint; it names bytes and positions, never content."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return str(error)


def _count_keys(node: Any, levels: int) -> int:
    """Keys in a tree; RecursionError when it is deeper than `levels`."""
    if levels < 0:
        raise RecursionError
    if type(node) is dict:
        keys = len(node)
        for child in node.values():
            if type(child) is dict or type(child) is list:
                keys += _count_keys(child, levels - 1)
        return keys
    keys = 0
    for child in node:
        if type(child) is dict or type(child) is list:
            keys += _count_keys(child, levels - 1)
    return keys


def _refuse_duplicates(text: bytes) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Refusal(400, "structure", "An object repeats a key; FHIR JSON forbids it.", _safe_name(key))
            seen.add(key)

    json.loads(text, object_pairs_hook=unique)


def _safe_name(key: str) -> str | None:
    return key if key.isidentifier() and len(key) <= 64 else None


def split_resource(text: bytes) -> tuple[bytes, bytes]:
    """Cut a compact resource text into what the client says in `meta` and all other content.

    Returns:
        (meta, content): both without their outer braces and without what the server itself sets
        (resourceType, id, meta.versionId, meta.lastUpdated).
    """
    pieces = _PIECES.decode(text)
    meta = b""
    meta_text = pieces.pop("meta", None)
    if meta_text is not None:
        members = _PIECES.decode(meta_text)
        members.pop("versionId", None)
        members.pop("lastUpdated", None)
        meta = msgspec.json.encode(members)[1:-1]
    pieces.pop("resourceType", None)
    pieces.pop("id", None)
    return meta, msgspec.json.encode(pieces)[1:-1]


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
        f'"meta":{{"versionId":"{version}","lastUpdated":"{to_text(updated)}"'
    ).encode()
    return b"".join((text, b"," if meta else b"", meta, b"}", b"," if content else b"", content, b"}"))


def decode_object(text: bytes) -> Json:
    """Decode a text the store wrote itself."""
    return dict(_TREE.decode(text))
