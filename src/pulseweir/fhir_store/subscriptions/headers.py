"""The headers that a Subscription sends along: they may be secrets, so they are shown to whoever made it only. Pure.

Source: HL7 FHIR R4 Subscription.channel.header and security considerations, http://hl7.org/fhir/R4/subscription.html.
"""

import msgspec

MASK = "***"
"""Stands for the value of a header."""
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def masked(content: bytes) -> bytes:
    """The content of a Subscription, without braces, with its headers' names alone.

    >>> masked(b'"channel":{"header":["Authorization: Bearer x"]}')
    b'"channel":{"header":["Authorization: ***"]}'
    """
    members, channel = _channel(content)
    if not channel.keys() & {"header", "_header"}:
        return content
    channel.pop("_header", None)
    if "header" in channel:
        lines = msgspec.json.decode(channel["header"])
        names = [_masked_line(line) for line in lines] if isinstance(lines, list) else []
        channel["header"] = msgspec.Raw(msgspec.json.encode(names))
    members["channel"] = msgspec.Raw(msgspec.json.encode(channel))
    return msgspec.json.encode(members)[1:-1]


def has_headers(content: bytes) -> bool:
    """Whether the content of a Subscription has headers."""
    return bool(_channel(content)[1].keys() & {"header", "_header"})


def _channel(content: bytes) -> tuple[dict[str, msgspec.Raw], dict[str, msgspec.Raw]]:
    members = _MEMBERS.decode(b"{" + content + b"}")
    text = bytes(members.get("channel", b"{}"))
    # A store that validates nothing may hold anything.
    return members, _MEMBERS.decode(text) if text.startswith(b"{") else {}


def _masked_line(line: object) -> str:
    name, colon, _ = str(line).partition(":")
    return f"{name}: {MASK}" if colon else MASK
