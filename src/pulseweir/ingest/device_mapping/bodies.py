"""Step 4: the bytes of a message body, and the texts of its properties, to JSON values. Pure."""

import msgspec

from pulseweir.errors import MessageError

_decode = msgspec.json.Decoder().decode


def decode_body(body: bytes, nesting_limit: int) -> object:
    """The decoded body; None when it is empty.

    Raises:
        MessageError: It is not JSON, not UTF-8, or nested too deep. The text of the error holds nothing of the body.
    """
    try:
        decoded: object = _decode(body)
    except RecursionError:
        raise _too_deep(nesting_limit) from None
    except UnicodeDecodeError as cause:
        raise _not_json("It is not UTF-8 text.", f"byte {cause.start}") from None
    except msgspec.DecodeError as cause:
        if not body.strip():
            return None
        place = str(cause).rpartition("(")[2].rstrip(")") if "(byte" in str(cause) else None
        raise _not_json("It is not JSON: NaN, comments and single quotes are not allowed.", place) from None
    if (
        len(body) > nesting_limit
        and body.count(b"[") + body.count(b"{") > nesting_limit
        and depth_of(decoded) > nesting_limit
    ):
        raise _too_deep(nesting_limit)
    return decoded


def refuse_large(body: bytes, body_limit_bytes: int) -> None:
    """Nothing, for a body that is small enough.

    Raises:
        MessageError: It has more bytes than allowed.
    """
    if len(body) > body_limit_bytes:
        raise MessageError(
            f"The body has {len(body)} bytes; {body_limit_bytes} are allowed. Send it in parts.",
            reason="body-too-large",
            position="$.Body",
        )


def decode_properties(text: str | None) -> object:
    """The application or system properties of a message, as the hub stored them; none are an empty object.

    Raises:
        MessageError: The text is not JSON.
    """
    if not text:
        return {}
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise MessageError(
            "The stored properties of the message are not JSON. Look at the hub that wrote them.",
            reason="bad-properties",
            position="$.Properties",
        ) from None


def depth_of(value: object) -> int:
    """How deep arrays and objects nest; a scalar has depth 0."""
    depth = 0
    level: list[object] = [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _not_json(problem: str, place: str | None) -> MessageError:
    return MessageError(
        f"The body cannot be read. {problem} Correct the sender.", reason="not-json", position=place or "$.Body"
    )


def _too_deep(limit: int) -> MessageError:
    return MessageError(
        f"The body nests deeper than {limit} levels. Flatten it at the sender.",
        reason="nested-too-deep",
        position="$.Body",
    )
