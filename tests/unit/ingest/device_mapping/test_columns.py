"""Whole columns become texts, numbers and instants as single values do."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pulseweir.ingest.device_mapping.columns import value_columns
from pulseweir.ingest.device_mapping.timestamps import instants
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, number_of, parse_instant, render

scalars = st.none() | st.integers() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4)
columns = st.one_of(
    st.lists(scalars, min_size=1),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.lists(st.none() | st.floats(), min_size=1),
    st.lists(st.floats(-1e12, 1e12), min_size=1),
    st.lists(st.none() | st.sampled_from(("1", " 1 ", "1_0", "x", "NaN", "-0", "1e400", "")), min_size=1),
)


@settings(deadline=None)
@given(columns)
@example([1e-4, 9999999999.999998, -0.0, 0.1 + 0.2])
@example([0.00009999999999999999])
@example([10000000000.5])
@example([10000000000.0])
@example([5e-324, 1.7976931348623157e308])
@example([math.nan, math.inf, -math.inf])
@example([2**53 + 1, -(2**63), 2**63 - 1])
@example([2**63])
@example([None])
def test_a_column_is_rendered_as_its_values_are(cells: list[object]) -> None:
    texts = [None if cell is None else render(cell) for cell in cells]
    numbers = [None if text is None else number_of(text) for text in texts]

    made = value_columns(cells)

    assert made.texts.to_pylist() == texts
    found = [None if math.isnan(number) else number for number in made.numbers.tolist()]
    assert repr(found) == repr(numbers)


GOOD = ["2030-01-02T03:04:05Z", "1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
FORMS = [
    "2030-01-02T03:04:05.1Z",
    "2030-01-02T03:04:05.123456Z",
    "2030-01-02T03:04:05.1234567Z",
    "2030-01-02",
    "01/02/2030",
]
BAD = [
    "0000-01-01T00:00:00Z",
    "2030-02-30T00:00:00Z",
    "2030-01-02T24:00:00Z",
    "2030-01-02T03:04:60Z",
    "2030-01-02T03:04:05.Z",
    "2030-01-02T03:04:0\u0665Z",
    "2030-01-02T03.04.05Z",
    "",
    "soon",
]


@pytest.mark.parametrize("text", [*GOOD, *FORMS])
@pytest.mark.parametrize("others", [[], GOOD, FORMS])
def test_a_column_of_dates_is_read_as_each_date_is(text: str, others: list[str]) -> None:
    tokens = [text, *others]

    moments, bad = instants(tokens)

    assert (moments.tolist(), bad) == ([parse_instant(token) for token in tokens], [])


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("others", [[], GOOD, BAD[:1]])
def test_what_is_no_date_is_named_by_its_place(text: str, others: list[str]) -> None:
    with pytest.raises(ExpressionFault):
        parse_instant(text)

    _, bad = instants([*others, text])

    assert bad[-1] == len(others)


@settings(deadline=None)
@given(st.lists(st.datetimes().map(lambda moment: moment.isoformat() + "Z") | st.integers(0, 2**50), min_size=1))
def test_instants_of_functions_stand_among_texts(tokens: list[object]) -> None:
    expected = [token if isinstance(token, int) else parse_instant(str(token)) for token in tokens]

    moments, bad = instants(tokens)

    assert bad == []
    assert np.array_equal(moments, expected)
