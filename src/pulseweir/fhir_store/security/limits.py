"""What one request may cost: refused before any work is done for it. Pure.

Size of the body, nesting and entries of a bundle are held where the body is read; `_count` is capped, not refused.
"""

from collections.abc import Sequence

from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.security.settings import LimitSettings

Pairs = Sequence[tuple[str, str]]


def check_url(path: bytes, query: bytes, limits: LimitSettings) -> None:
    """Nothing, if the URL is no longer than allowed.

    Raises:
        Refusal: 414 when it is.
    """
    if len(path) + len(query) > limits.url_bytes:
        text = f"The URL is longer than {limits.url_bytes} bytes; search by POST Type/_search."
        raise Refusal(414, "too-long", text)


def check_search_cost(query: Pairs, limits: LimitSettings) -> None:
    """Nothing, if a search asks no more than allowed.

    Raises:
        Refusal: 400 naming the limit.
    """
    if not query:
        return
    if len(query) > limits.search_parameters:
        raise _too_costly(f"more than {limits.search_parameters} parameters")
    values = includes = links = 0
    for name, text in query:
        values += text.count(",") + 1
        includes += name.startswith(("_include", "_revinclude"))
        links = max(links, name.count(".") + name.count("_has:"))
    if values > limits.search_values:
        raise _too_costly(f"more than {limits.search_values} alternatives")
    if includes > limits.search_includes:
        raise _too_costly(f"more than {limits.search_includes} _include and _revinclude")
    if links > limits.chain_links:
        raise _too_costly(f"a chain of more than {limits.chain_links} links")


def _too_costly(what: str) -> Refusal:
    return Refusal(400, "too-costly", f"The search has {what}; ask for less at once.")
