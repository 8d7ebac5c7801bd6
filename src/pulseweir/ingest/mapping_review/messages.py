"""Steps 4 and 5c: messages as people keep them in files: one body, one envelope, or several. Pure."""

import msgspec

from pulseweir.errors import RefuseToStart

LINES = (".ndjson", ".jsonl")
_PROPERTIES = {"Properties", "SystemProperties"}


def envelope_of(message: object) -> dict[str, object]:
    """The envelope of a message that may be a body only.

    >>> envelope_of({"hr": 61})["Body"]
    {'hr': 61}
    """
    if isinstance(message, dict) and ("Body" in message or set(message) >= _PROPERTIES):
        return message
    return {"Body": message, "Properties": {}, "SystemProperties": {}}


def read_messages(content: bytes, name: str) -> list[object]:
    """The messages of one file, in order.

    A JSON document is one message, because a body may be an array; an array whose elements all are envelopes with
    ``Body`` is several. A file of JSON lines (`LINES`) has one message a line.

    Raises:
        RefuseToStart: It is not JSON. The sentence holds nothing of the content.
    """
    if name.lower().endswith(LINES):
        lines = [line for line in content.splitlines() if line.strip()]
        return [_decoded(line, f"{name}, message {at + 1},") for at, line in enumerate(lines)]
    found = _decoded(content, name)
    if isinstance(found, list) and found and all(isinstance(one, dict) and "Body" in one for one in found):
        return found
    return [found]


def _decoded(content: bytes, place: str) -> object:
    try:
        return msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError):
        raise RefuseToStart(f"{place} is not JSON that can be read. Correct the file.") from None
