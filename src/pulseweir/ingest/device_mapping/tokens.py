"""Step 4: what expressions yield, and how it becomes text or an instant. Pure.

A token is a decoded JSON value (dict, list, text, int, float, bool, None) or an `Instant` that a function made.
Source: the predecessor's rendering rules (.NET invariant culture, shortest round-trip floats).
"""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

MICROSECONDS_A_SECOND = 1_000_000
FIRST_INSTANT = -62_135_596_800 * MICROSECONDS_A_SECOND
LAST_INSTANT = 253_402_300_800 * MICROSECONDS_A_SECOND - 1
_EPOCH_DAY = 719_163
_ISO = re.compile(
    r"\s*(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,12})?)?)\s*(Z|z|[+-]\d{2}(?::?\d{2})?)?)?\s*",
    re.ASCII,
)
_OTHER_FORMATS = (
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y",
    "%a, %d %b %Y %H:%M:%S GMT",
)
_SCIENTIFIC_FROM = 15
_SCIENTIFIC_BELOW = -5


class ExpressionFault(ValueError):
    """An expression cannot be compiled, or cannot be evaluated on this message.

    Attributes:
        reason: Stable kebab-case word.
    """

    def __init__(self, problem: str, reason: str = "expression-failed") -> None:
        self.reason = reason
        super().__init__(problem)


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """A point in time made by an expression function; microseconds since 1970 UTC."""

    microseconds: int


@dataclass(frozen=True, slots=True)
class Property:
    """A member of an object, which is what a filter on an object iterates in this dialect."""

    name: str
    value: object


def checked_instant(microseconds: int) -> int:
    """The same number when it lies in the years 1 to 9999.

    Raises:
        ExpressionFault: It does not.
    """
    if not FIRST_INSTANT <= microseconds <= LAST_INSTANT:
        raise ExpressionFault("The instant lies outside the years 1 to 9999.", "out-of-range")
    return microseconds


def parse_instant(text: str) -> int:
    """Microseconds since 1970 UTC of a date text; a text without a zone is UTC.

    >>> parse_instant("1970-01-01T00:00:01.5+00:00"), parse_instant("01/01/1970 00:00:01")
    (1500000, 1000000)

    Raises:
        ExpressionFault: The text is no date, or lies outside the years 1 to 9999.
    """
    found = _ISO.fullmatch(text)
    if found is None:
        return _parse_other(text)
    day, clock_time, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock_time}" if clock_time else day)
    except ValueError:
        raise ExpressionFault("The text is not a date.", "bad-timestamp") from None
    return checked_instant(_microseconds(moment) - _offset_microseconds(zone))


def names_no_zone(token: object) -> bool:
    """Whether a timestamp token is a text with a time of day and without its zone: it is taken for UTC.

    >>> [names_no_zone(text) for text in ("2026-01-01T10:00:00", "2026-01-01T10:00Z", "2026-01-01", "soon")]
    [True, False, False, False]
    """
    if not isinstance(token, str):
        return False
    found = _ISO.fullmatch(token)
    if found is not None:
        return found[2] is not None and found[3] is None
    try:
        parse_instant(token)
    except ExpressionFault:
        return False
    return ":" in token and not token.rstrip().endswith("GMT")


def _parse_other(text: str) -> int:
    # All of these forms hold a slash or a comma; trying them on any other text would be slow.
    if len(text) < 40 and ("/" in text or "," in text):
        for form in _OTHER_FORMATS:
            try:
                return checked_instant(_microseconds(datetime.strptime(text.strip(), form)))  # noqa: DTZ007
            except ValueError:
                continue
    raise ExpressionFault("The text is not a date.", "bad-timestamp")


def _microseconds(moment: datetime) -> int:
    days = moment.toordinal() - _EPOCH_DAY
    seconds = days * 86_400 + moment.hour * 3_600 + moment.minute * 60 + moment.second
    return seconds * MICROSECONDS_A_SECOND + moment.microsecond


def _offset_microseconds(zone: str | None) -> int:
    if zone is None or zone in "Zz":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    seconds = int(digits[:2]) * 3_600 + int(digits[2:]) * 60
    return (seconds if zone[0] == "+" else -seconds) * MICROSECONDS_A_SECOND


def instant_of(token: object) -> int:
    """The instant a timestamp token means.

    Raises:
        ExpressionFault: Numbers, objects and texts that are no date.
    """
    if isinstance(token, Instant):
        return token.microseconds
    if isinstance(token, str):
        return parse_instant(token)
    raise ExpressionFault("Only a date text is a timestamp; wrap numbers in fromUnixTimestamp.", "bad-timestamp")


def render(token: object) -> str:
    """The text of a value token.

    >>> render(True), render(120.0), render(0.00001), render(7)
    ('True', '120', '1E-05', '7')

    Raises:
        ExpressionFault: Objects and arrays have no text.
    """
    if isinstance(token, str):
        return token
    if isinstance(token, bool):
        return "True" if token else "False"
    if isinstance(token, int):
        return _render_integer(token)
    if isinstance(token, float):
        return _render_float(token)
    if isinstance(token, Instant):
        return instant_text(token.microseconds)
    raise ExpressionFault("An object or array cannot become a value.", "not-convertible")


def _render_integer(number: int) -> str:
    try:
        return str(number)
    except ValueError:
        # The interpreter of Python refuses more than 4300 digits: their time grows with the square.
        raise ExpressionFault("An integer has too many digits to become a value.", "not-convertible") from None


def _render_float(number: float) -> str:
    if not math.isfinite(number):
        return "NaN" if number != number else ("Infinity" if number > 0 else "-Infinity")  # noqa: PLR0124
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or 0) + len(whole) - 1 - (len(whole + fraction) - len(digits))
    sign = "-" if math.copysign(1.0, number) < 0 else ""
    return sign + _place_point(digits.rstrip("0"), power)


def _place_point(digits: str, power: int) -> str:
    if not digits:
        return "0"
    if power >= _SCIENTIFIC_FROM or power <= _SCIENTIFIC_BELOW:
        shown = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
        return f"{shown}E{'-' if power < 0 else '+'}{abs(power):02d}"
    if power < 0:
        return f"0.{'0' * (-power - 1)}{digits}"
    digits = digits.ljust(power + 1, "0")
    return digits[: power + 1] + ("." + digits[power + 1 :] if len(digits) > power + 1 else "")


def number_of(text: str) -> float | None:
    """The finite number a text means, None when it means none.

    >>> number_of("36.6"), number_of("A"), number_of("NaN"), number_of("1_0")
    (36.6, None, None, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


@lru_cache(maxsize=16_384)
def instant_text(microseconds: int) -> str:
    """RFC 3339 text in UTC with as many digits as matter: none, three or six.

    >>> instant_text(0), instant_text(1_500_000), instant_text(1)
    ('1970-01-01T00:00:00Z', '1970-01-01T00:00:01.500Z', '1970-01-01T00:00:00.000001Z')
    """
    seconds, fraction = divmod(microseconds, MICROSECONDS_A_SECOND)
    days, rest = divmod(seconds, 86_400)
    day = datetime.fromordinal(days + _EPOCH_DAY)
    text = f"{day.year:04d}-{day.month:02d}-{day.day:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    if not fraction:
        return f"{text}Z"
    return f"{text}.{fraction // 1000:03d}Z" if fraction % 1_000 == 0 else f"{text}.{fraction:06d}Z"
