"""Units: what people write, and conversion there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulseweir.records.units import UNITS, convert, written_unit


@pytest.mark.parametrize(
    ("number", "source", "target", "wanted"),
    [
        (310.15, "K", "[degF]", 98.6),
        (98.6, "[degF]", "K", 310.15),
        (-40, "[degF]", "Cel", -40),
        (1, "mm[Hg]", "kPa", 0.133322),
        (154, "[lb_av]", "kg", 69.853),
        (1, "[stone_av]", "[lb_av]", 14),
        (6, "[ft_i]", "cm", 182.88),
        (1, "[mi_i]", "km", 1.609344),
        (0.97, "1", "%", 97),
        (8, "L/s", "L/min", 480),
        (1, "mV", "uV", 1_000),
        (1, "h", "min", 60),
        (100, "kJ", "kcal", 23.9006),
    ],
)
def test_a_number_in_another_unit(number: float, source: str, target: str, wanted: float) -> None:
    assert convert(number, source, target) == pytest.approx(wanted, rel=1e-5)


@given(st.floats(-1e6, 1e6), st.sampled_from(UNITS), st.sampled_from(UNITS))
def test_a_number_comes_back_or_cannot_be_converted(number: float, one: object, other: object) -> None:
    source, target = one.code, other.code  # type: ignore[attr-defined]
    there = convert(number, source, target)

    if there is None:
        assert one.dimension != other.dimension  # type: ignore[attr-defined]
    else:
        assert convert(there, target, source) == pytest.approx(number, rel=1e-6, abs=1e-3)


def test_no_writing_means_two_units() -> None:
    written = [text for unit in UNITS for text in (*unit.written, unit.code)]

    assert len(written) == len(set(written))
    assert all(text == text.casefold() for unit in UNITS for text in unit.written)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("BPM", "/min"),
        ("°C", "Cel"),
        ("degF", "[degF]"),
        ("mm Hg", "mm[Hg]"),
        ("lbs", "[lb_av]"),
        ("µV", "uV"),
        ("", None),
    ],
)
def test_what_people_write_is_known(text: str, code: str | None) -> None:
    found = written_unit(text)

    assert (found.code if found else None) == code
