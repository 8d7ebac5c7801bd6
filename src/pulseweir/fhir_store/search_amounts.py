"""Numbers and quantities of a search as SQL conditions.

Prefixes compare with the number itself; without a prefix the number's last digit says how far it reaches. Source:
http://hl7.org/fhir/R4/search.html#quantity, #number.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from math import inf, nextafter

import apsw

from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.search_request import split_escaped, unescape
from pulseweir.fhir_store.units import UCUM, converted

PREFIXES = frozenset({"eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"})

_NUMBER = re.compile(r"[+-]?\d{1,400}(\.\d{0,400})?(?:[eE]([+-]?\d{1,3}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class SearchNumber:
    """A number as the client wrote it, exactly: the ends of what it covers are decimals as those stored are.

    Attributes:
        prefix: How it compares; "eq" when the client gave none.
        number: Its value.
        half: Half a unit of its last digit.
    """

    prefix: str
    number: Fraction
    half: Fraction

    def in_unit(self, from_code: str, to_code: str) -> "SearchNumber | None":
        """The same number in another UCUM unit; None when the units do not measure the same."""
        low, high = (converted(self.number + side * self.half, from_code, to_code) for side in (-1, 1))
        if low is None or high is None:
            return None
        return SearchNumber(self.prefix, (low + high) / 2, abs(high - low) / 2)

    def condition(self, low: str, high: str) -> tuple[str, list[float]]:
        """SQL that a stored value from `low` to `high` meets, with its arguments."""
        number, first, near = float(self.number), float(self.number - self.half), abs(self.number) / 10
        # The half of a large number is less than a float tells.
        beyond = max(float(self.number + self.half), nextafter(number, inf))
        return {
            "eq": (f"({low} >= ? AND {high} < ?)", [first, beyond]),
            "ne": (f"NOT ({low} >= ? AND {high} < ?)", [first, beyond]),
            "gt": (f"{high} > ?", [number]),
            "lt": (f"{low} < ?", [number]),
            "ge": (f"{high} >= ?", [number]),
            "le": (f"{low} <= ?", [number]),
            "sa": (f"{low} > ?", [number]),
            "eb": (f"{high} < ?", [number]),
            "ap": (f"({low} <= ? AND {high} >= ?)", [float(self.number + near), float(self.number - near)]),
        }[self.prefix]


def read_number(text: str) -> SearchNumber:
    """A number of a search.

    Raises:
        Refusal: 400 when it is none.

    >>> read_number("ge5.40").half
    Fraction(1, 200)
    """
    prefix, rest = (text[:2], text[2:]) if text[:2] in PREFIXES else ("eq", text)
    match = _NUMBER.fullmatch(rest)
    if match is None or not abs(float(rest)) < 1e300:
        raise Refusal(400, "invalid", "A number in the search is not one, such as value-quantity=gt5.4.")
    digits = len((match[1] or ".")[1:]) - int(match[2] or 0)
    return SearchNumber(prefix, Fraction(rest), Fraction(10) ** -digits / 2)


def amount_condition(
    text: str, connection: apsw.Connection, columns: tuple[str, str, str]
) -> tuple[str, list[float | int]]:
    """SQL for one quantity value ``[prefix]number|system|code``, over columns (low, high, unit).

    Raises:
        Refusal: 400 when it is no quantity.
    """
    low, high, unit = columns
    parts = split_escaped(text, "|")
    number = read_number(unescape(parts[0]))
    if len(parts) == 1 or (len(parts) == 3 and not parts[1] and not parts[2]):
        condition, arguments = number.condition(low, high)
        return f"({low} IS NOT NULL AND {condition})", [*arguments]
    if len(parts) != 3:
        raise Refusal(400, "invalid", "A quantity is number|system|code, such as 5.4|http://unitsofmeasure.org|mg.")
    system, code = unescape(parts[1]), unescape(parts[2])
    branches, values = [], list[float | int]()
    for row, scaled in _units(connection, number, system, code):
        condition, arguments = scaled.condition(low, high)
        branches.append(f"({unit} = ? AND {condition})")
        values += [row, *arguments]
    return (f"({' OR '.join(branches)})" if branches else "0"), values


def _units(connection: apsw.Connection, number: SearchNumber, system: str, code: str) -> list[tuple[int, SearchNumber]]:
    """Units in the store that the asked one compares with, each with the number in that unit."""
    if not system:
        rows = connection.execute("SELECT unit FROM unit WHERE code = ?1 OR text = ?1", (code,))
        return [(int(row[0]), number) for row in rows]
    if not code:
        rows = connection.execute("SELECT unit FROM unit WHERE system = ?", (system,))
        return [(int(row[0]), number) for row in rows]
    found = []
    for row, held in connection.execute("SELECT unit, code FROM unit WHERE system = ?", (system,)):
        scaled = number if held == code else number.in_unit(code, str(held)) if system == UCUM else None
        if scaled is not None:
            found.append((int(str(row)), scaled))
    return found
