"""FHIR dates as half-open ranges of microseconds: 2024-01 is all of January. Pure.

Source: HL7 FHIR R4, datatypes (date, dateTime, instant) and search (date parameters), http://hl7.org/fhir/R4.
"""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_FORM = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)
NO_DATE = -(2**62)
"""Stands where a resource has no date: sorts before every real one."""


@lru_cache(maxsize=8192)
def date_range(text: str, zone: str = "UTC") -> tuple[int, int]:
    """First microsecond of a FHIR date and the first one after it.

    Days, and times without a zone (allowed in searches only), are those of `zone`, an IANA name. A day on which the
    clock is changed has 23 or 25 hours; of a time that comes twice the first is meant.

    Raises:
        ValueError: Not a FHIR date, or one that no calendar has.

    >>> low, high = date_range("2024-02")
    >>> (high - low) // 86_400_000_000
    29
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError("not a FHIR date")
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    site = UTC if zone == "UTC" else ZoneInfo(zone)
    if hour is None:
        return _calendar_range(int(year), month, day, site)
    own = site if offset is None else UTC
    instant = datetime(int(year), int(month), int(day), int(hour), int(minute), tzinfo=own)
    low = (instant - _EPOCH) // _MICROSECOND - _zone_offset(offset)
    if second is None:
        return low, low + 60 * _SECOND
    if int(second) > 60:
        raise ValueError("no such second")
    low += int(second) * _SECOND
    if fraction is None:
        return low, low + _SECOND
    low += int(fraction[:6].ljust(6, "0"))
    return low, low + 10 ** max(0, 6 - len(fraction))


def _calendar_range(year: int, month: str | None, day: str | None, site: tzinfo) -> tuple[int, int]:
    first = datetime(year, int(month or 1), int(day or 1), tzinfo=site)
    low = (first - _EPOCH) // _MICROSECOND
    if day is not None:
        if site is UTC or first.date() == date.max:
            return low, low + _DAY
        # The next midnight by the wall clock, which may be 23 or 25 hours away.
        return low, (first + timedelta(days=1) - _EPOCH) // _MICROSECOND
    following_year, following_month = (year + 1, 1) if month is None or month == "12" else (year, int(month) + 1)
    if following_year > 9999:
        return low, (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND + _DAY
    following = datetime(following_year, following_month, 1, tzinfo=site)
    return low, (following - _EPOCH) // _MICROSECOND


def _zone_offset(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 14 or minutes > 59:
        raise ValueError("no such time zone")
    offset = (hours * 3600 + minutes * 60) * _SECOND
    return -offset if zone[0] == "-" else offset
