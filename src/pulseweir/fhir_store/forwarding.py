"""What a trusted proxy says of the request it passes on: the scheme and host that the client used. Pure.

Whoever else sends these headers is not believed: links would lead the next reader where the sender likes.
Source: RFC 7239, Forwarded HTTP Extension; `X-Forwarded-Host` and `X-Forwarded-Proto` as proxies in use send them.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network

_PAIR = re.compile(r'\s*([!#$%&\'*+\-.^_`|~\w]+)=("(?:[^"\\]|\\.)*"|[^\s",;]*)\s*(;|,|$)', re.ASCII)
_MOST_LETTERS = 2_000


def is_trusted(address: str, trusted: tuple[str, ...]) -> bool:
    """Whether an address is of a network that is trusted.

    >>> is_trusted("10.0.0.7", ("10.0.0.0/8",)), is_trusted("10.0.0.7", ()), is_trusted("unknown", ("10.0.0.0/8",))
    (True, False, False)
    """
    return bool(trusted) and _is_inside(address, trusted)


@lru_cache(maxsize=1024)
def _is_inside(address: str, trusted: tuple[str, ...]) -> bool:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in ip_network(each) for each in trusted)


def forwarded_origin(headers: Mapping[str, str], trusted: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Scheme and host that the client used, as far as the proxies tell; the caller has asked whether it trusts them.

    Of several proxies the one that is told of last has passed the request on; what it heard from one before it counts
    only if that one is trusted too.

    >>> forwarded_origin({"forwarded": 'for=1.2.3.4;proto=https;host="fhir.example.org:8443"'}, ())
    ('https', 'fhir.example.org:8443')
    """
    if "forwarded" in headers:
        elements = _elements(headers["forwarded"])
        scheme = host = None
        for place, element in enumerate(reversed(elements)):
            scheme, host = element.get("proto", scheme), element.get("host", host)
            if place + 1 < len(elements) and not is_trusted(_node(element.get("for", "")), trusted):
                break
        return scheme and scheme.lower(), host
    return _last(headers.get("x-forwarded-proto")), _last(headers.get("x-forwarded-host"))


def _last(text: str | None) -> str | None:
    """What the nearest proxy said, of a list that each of them adds to."""
    return text.rpartition(",")[2].strip() or None if text else None


def _elements(text: str) -> Sequence[Mapping[str, str]]:
    """The elements of a Forwarded header; none of one that is malformed, which tells nothing for certain."""
    elements: list[dict[str, str]] = [{}]
    place = 0
    while place < len(text) <= _MOST_LETTERS:
        match = _PAIR.match(text, place)
        if match is None:
            return []
        value = match[2]
        elements[-1][match[1].lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        if match[3] == ",":
            elements.append({})
        place = match.end()
    return elements


def _node(text: str) -> str:
    """The address in a `for`, without its port and brackets."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
