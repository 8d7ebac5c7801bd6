"""How far a number of a search reaches: the ends of what it covers are decimals, in whatever unit.

Source: http://hl7.org/fhir/R4/search.html#number, #quantity, #prefix.
"""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import apsw
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.search_amounts import read_number

UCUM = "http://unitsofmeasure.org"
PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")


def meets(asked: str, low: float, high: float | None = None) -> bool:
    """What the SQL of a number says about a stored value."""
    text, values = read_number(asked).condition("low", "high")
    statement = f"SELECT {text} FROM (SELECT ? AS low, ? AS high)"  # noqa: S608 - the ends come after the condition
    ends = (low, low if high is None else high)
    return bool(apsw.Connection(":memory:").execute(statement, (*values, *ends)).get)


@pytest.mark.parametrize(
    ("asked", "held", "expected"),
    [
        ("1.1", 1.15, False),
        ("1.1", 1.05, True),
        ("2.3", 2.35, False),
        ("2.3", 2.25, True),
        ("0.3", 0.35, False),
        ("100", 99.5, True),
        ("100", 100.5, False),
        ("100.00", 100.004, True),
        ("100.00", 100.005, False),
        ("1e2", 149, True),
        ("1e2", 150, False),
        ("1.00e2", 100.4, True),
        ("1.00e2", 100.5, False),
        ("5.40e-3", 0.005395, True),
        ("5.40e-3", 0.005405, False),
        ("-7", -7.5, True),
        ("-7", -6.5, False),
        ("ne1.1", 1.15, True),
        ("ne1.1", 1.1, False),
        ("gt5.4", 5.4000001, True),
        ("gt5.4", 5.4, False),
        ("ge5.4", 5.4, True),
        ("lt5.4", 5.39, True),
        ("le5.4", 5.4, True),
        ("sa5.4", 5.4, False),
        ("eb5.4", 5.4, False),
        ("ap0.3", 0.33, True),
        ("ap0.3", 0.331, False),
        ("ap-10", -11, True),
        ("ap-10", -11.1, False),
    ],
)
def test_a_number_reaches_as_far_as_its_last_digit(asked: str, held: float, *, expected: bool) -> None:
    assert meets(asked, held) is expected


def exact(prefix: str, asked: Decimal, low: Decimal, high: Decimal) -> bool:
    """The table of R4, over exact decimals."""
    exponent = asked.as_tuple().exponent
    assert isinstance(exponent, int)
    half, near = Fraction(10) ** exponent / 2, abs(Fraction(asked)) / 10
    number, first, last = Fraction(asked), Fraction(low), Fraction(high)
    within = number - half <= first and last < number + half
    return {
        "": within,
        "eq": within,
        "ne": not within,
        "gt": last > number,
        "lt": first < number,
        "ge": last >= number,
        "le": first <= number,
        "sa": first > number,
        "eb": last < number,
        "ap": first <= number + near and last >= number - near,
    }[prefix]


decimals = st.decimals(-1000, 1000, places=2) | st.decimals(-10, 10, places=1) | st.integers(-50, 50).map(Decimal)


@given(st.sampled_from(["", *PREFIXES]), decimals, st.tuples(decimals, decimals).map(sorted))
def test_every_prefix_agrees_with_exact_decimals(prefix: str, asked: Decimal, held: list[Decimal]) -> None:
    low, high = held

    assert meets(f"{prefix}{asked}", float(low), float(high)) is exact(prefix, asked, low, high)


@given(decimals, decimals)
def test_prefixes_of_a_single_number_complement_each_other(asked: Decimal, held: Decimal) -> None:
    found = {prefix for prefix in PREFIXES if meets(f"{prefix}{asked}", float(held))}

    assert ("eq" in found) is ("ne" not in found)
    assert ("gt" in found) is ("le" not in found)
    assert ("lt" in found) is ("ge" not in found)
    assert ("sa" in found, "eb" in found) == ("gt" in found, "lt" in found)


@pytest.mark.parametrize(
    "text", ["", "x", "1_0", "inf", "nan", "1e999", "1e9999999999", "--1", "1 2", "٣", ".", "0x1", "5,4"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        read_number(text)


@pytest.fixture
async def warm(empty: httpx.AsyncClient) -> httpx.AsyncClient:
    for name, value, unit in (("c", 37, "Cel"), ("f", 98.6, "[degF]"), ("g", 99, "[degF]"), ("o", 37, "odd")):
        quantity = {"value": value, "system": UCUM, "code": unit, "unit": unit}
        body: dict[str, Any] = {"resourceType": "Observation", "id": name, "status": "final", "code": {"text": "t"}}
        assert (await empty.put(f"Observation/{name}", json=body | {"valueQuantity": quantity})).status_code == 201
    return empty


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (f"37.0|{UCUM}|Cel", "c f"),
        (f"ge37|{UCUM}|Cel", "c f g"),
        (f"gt37|{UCUM}|Cel", "g"),
        (f"le37|{UCUM}|Cel", "c f"),
        (f"lt37|{UCUM}|Cel", ""),
        (f"ge98.6|{UCUM}|[degF]", "c f g"),
        (f"le98.6|{UCUM}|[degF]", "c f"),
        (f"310.150|{UCUM}|K", "c f"),
        (f"ne37.0|{UCUM}|Cel", "g"),
        ("37||odd", "o"),
        ("37", "c o"),
        (f"37|{UCUM}|", "c o"),
        (f"37|{UCUM}|mm[Hg]", ""),
    ],
)
async def test_units_that_measure_the_same_compare_exactly(warm: httpx.AsyncClient, asked: str, expected: str) -> None:
    bundle = (await warm.get("Observation", params={"value-quantity": asked})).json()

    assert sorted(entry["resource"]["id"] for entry in bundle.get("entry", ())) == expected.split()
