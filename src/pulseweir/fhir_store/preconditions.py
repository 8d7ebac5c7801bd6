"""Conditions that a request sets with entity tags and dates: If-Match, If-None-Match, If-Modified-Since. Pure.

Source: RFC 9110, section 13; HL7 FHIR R4, http://hl7.org/fhir/R4/http.html#concurrency.
"""

import re
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from pulseweir.clock import from_microseconds
from pulseweir.fhir_store.dates import date_range
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.query import Pairs

if TYPE_CHECKING:
    from pulseweir.fhir_store.session import Stored

_ETAG = re.compile(r'(?:W/)?"([^"]{1,64})"|([A-Za-z0-9\-.]{1,64})')


def check_if_match(current: "Stored | None", if_match: str | None) -> None:
    """Nothing, if the version held is one of those named; ``*`` stands for any.

    Raises:
        Refusal: 412 when it is not, 400 when the header has no entity tag.
    """
    if if_match is None:
        return
    wanted = _tags(if_match, "If-Match")
    is_there = current is not None and not current.deleted
    if not is_there or current is None or not ("*" in wanted or str(current.version) in wanted):
        held = f"version {current.version}" if is_there and current is not None else "nothing"
        text = f"If-Match names another version than the one held ({held}); read it again."
        raise Refusal(412, "conflict", text, "http.If-Match")


def check_if_none_match(current: "Stored | None", if_none_match: str | None) -> None:
    """Nothing, if a write may go on: there is no resource, or none of the versions named.

    Raises:
        Refusal: 412 when there is one, 400 when the header has no entity tag.
    """
    if if_none_match is None:
        return
    wanted = _tags(if_none_match, "If-None-Match")
    if current is None or current.deleted:
        return
    if "*" in wanted:
        raise Refusal(
            412, "conflict", "If-None-Match is * and the resource is there already; read it.", "http.If-None-Match"
        )
    if str(current.version) in wanted:
        raise Refusal(412, "conflict", "If-None-Match names the version that is held; read it.", "http.If-None-Match")


def is_known(stored: "Stored", if_none_match: str | None, if_modified_since: str | None) -> bool:
    """Whether the client holds this version already, so that 304 answers it; entity tags count before dates."""
    if if_none_match is not None:
        wanted = _tags(if_none_match, "If-None-Match")
        return "*" in wanted or str(stored.version) in wanted
    if if_modified_since is None:
        return False
    try:
        since = parsedate_to_datetime(if_modified_since)
    except (ValueError, OverflowError):
        return _is_instant_after(if_modified_since, stored.updated)
    return since.tzinfo is not None and from_microseconds(stored.updated).replace(microsecond=0) <= since


def _is_instant_after(text: str, updated: int) -> bool:
    """Whether a FHIR instant, as entries of a Bundle carry it, is no earlier than a version."""
    try:
        return "T" in text and updated < date_range(text)[1]
    except ValueError:
        return False


def none_exist_criteria(text: str, resource_type: str) -> Pairs:
    """The criteria of If-None-Exist: a query, alone or below the type that is to be created.

    Raises:
        Refusal: 400 when it names another type, whose resources say nothing about this one.
    """
    path, mark, query = text.partition("?")
    if mark and path.rstrip("/").rpartition("/")[2] not in {"", resource_type}:
        raise Refusal(400, "invalid", f"If-None-Exist is a search for another {resource_type}.", "http.If-None-Exist")
    return parse_qsl(query if mark else text, keep_blank_values=True)


def last_modified(stored: "Stored") -> str:
    """The HTTP date of a version."""
    return _http_date(stored.updated // 1_000_000)


@lru_cache(maxsize=1024)
def _http_date(seconds: int) -> str:
    return format_datetime(from_microseconds(seconds * 1_000_000), usegmt=True)


def _tags(header: str, name: str) -> set[str]:
    found = set()
    for part in header.split(","):
        text = part.strip()
        match = _ETAG.fullmatch(text)
        if text == "*":
            found.add(text)
        elif match is None:
            raise Refusal(400, "invalid", f'{name} must be * or entity tags, such as W/"3".', f"http.{name}")
        else:
            found.add(match[1] or match[2])
    return found
