"""Step 7: FHIR dates as spans of time: how early and how late they may have been meant. Pure.

A FHIR date may leave out what is not known: a year, a month, a day, or an instant with its offset. A period that ends
on a date ends with that day. Source: HL7 FHIR R4, data types date, dateTime and Period.
"""

import re
from datetime import UTC, date, datetime, timedelta

from pulseweir.clock import to_microseconds

_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_DECEMBER = 12


def possible_days(text: object) -> tuple[date, date] | None:
    """First and last day that a FHIR date can mean; None where it is no date.

    >>> possible_days("2009-02"), possible_days("2009-02-30")
    ((datetime.date(2009, 2, 1), datetime.date(2009, 2, 28)), None)
    """
    found = _DATE.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        return None
    year, month, day = (None if part is None else int(part) for part in found.groups())
    try:
        first = date(year or 0, month or 1, day or 1)
        if day is not None:
            return first, first
        last_month = month or _DECEMBER
        after = date(first.year + last_month // _DECEMBER, last_month % _DECEMBER + 1, 1)
    except ValueError:
        return None
    return first, after - timedelta(days=1)


def first_instant(text: object) -> int | None:
    """The earliest microsecond a FHIR dateTime can mean; None where it is none."""
    days = possible_days(text)
    return _instant(text) if days is None else _midnight(days[0])


def last_instant(text: object) -> int | None:
    """The last microsecond a FHIR dateTime can mean; None where it is none."""
    days = possible_days(text)
    return _instant(text) if days is None else _midnight(days[1] + timedelta(days=1)) - 1


def _midnight(day: date) -> int:
    return to_microseconds(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _instant(text: object) -> int | None:
    if not isinstance(text, str):
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return to_microseconds(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
