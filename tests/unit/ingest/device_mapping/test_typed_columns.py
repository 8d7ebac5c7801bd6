"""Columns of the typed decoder say what the tokens say, one by one; the catalog's own messages are decided by it."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET

from pulseweir.ingest.catalog import catalog_directory
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.tokens import (
    ExpressionFault,
    Instant,
    instant_of,
    number_of,
    parse_instant,
    render,
)
from pulseweir.ingest.device_mapping.typed_columns import Column
from pulseweir.ingest.device_mapping.typed_decoder import plan
from pulseweir.ingest.device_mapping.typed_instants import instants_of

MISSING = st.sampled_from([None, UNSET])
FLOATS = st.one_of(
    st.floats(),
    st.floats(-1e16, 1e16).map(lambda number: round(number, 3)),
    st.floats(0, 1e-3),
    st.integers(-(10**16), 10**16).map(float),
)
TOKENS = st.one_of(
    st.integers(), st.booleans(), FLOATS, st.text(max_size=5), MISSING, st.just(Instant(1)), st.just([1])
)
COLUMNS = st.one_of(
    st.lists(FLOATS),
    st.lists(st.one_of(FLOATS, st.integers(-(2**53), 2**53))),
    st.lists(st.integers()),
    st.lists(st.integers(-(2**63), 2**63 - 1)),
    st.lists(st.one_of(st.integers(0, 1), st.booleans())),
    st.lists(st.text(max_size=5)),
    st.lists(st.one_of(FLOATS, MISSING)),
    st.lists(st.one_of(st.text(max_size=5), MISSING)),
    st.lists(TOKENS),
)


def told(token: object) -> str | None:
    try:
        return None if token is None or token is UNSET else render(token)
    except ExpressionFault:
        return None


def moment(token: object) -> int | None:
    try:
        return None if token is None or token is UNSET else instant_of(token)
    except ExpressionFault:
        return None


@given(COLUMNS)
@example([0.0, -0.0, 1e-5, 1e-4, 999_999_999.9, 1e9, 123_456_789_012_345.6, 1e15, 1e16, 5e-324, 1.7976931348623157e308])
@example([1.0, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400])
@example([1, True, 0.0, False])
def test_texts_and_numbers_are_those_of_the_tokens(tokens: list[object]) -> None:
    column = Column(tokens)

    texts = column.texts.to_pylist()
    for place, token in enumerate(tokens):
        expected = told(token)
        assert column.filled[place] == (token is not None and token is not UNSET)
        assert column.told[place] == (expected is not None)
        assert column.blank[place] == (expected is None or not expected.strip())
        if expected is not None:
            row = column.places[place]
            number = number_of(expected)
            assert texts[row] == expected
            assert repr(float(column.numbers[row])) == repr(np.nan if number is None else number)


@given(COLUMNS)
def test_instants_are_those_of_the_tokens(tokens: list[object]) -> None:
    column = Column(tokens)

    instants, bad = column.instants
    for place, token in enumerate(tokens):
        expected = moment(token)
        assert bad[place] == (expected is None)
        if expected is not None:
            assert instants[column.places[place]] == expected


MOMENTS = st.builds(
    lambda naive, minutes, digits, zulu: _written(naive, minutes, digits, zulu=zulu),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001
    st.integers(-14 * 60, 14 * 60),
    st.integers(0, 9),
    st.booleans(),
)


def _written(naive: datetime, minutes: int, digits: int, *, zulu: bool) -> str:
    aware = naive.replace(tzinfo=UTC if zulu else timezone(timedelta(minutes=minutes)))
    seconds, zone = aware.strftime("%Y").zfill(4) + aware.strftime("-%m-%dT%H:%M:%S"), aware.strftime("%z")
    fraction = "." + f"{naive.microsecond:06d}000"[:digits] if digits else ""
    return f"{seconds}{fraction}{'Z' if zulu else f'{zone[:3]}:{zone[3:]}'}"


@st.composite
def spoilt_moments(draw: st.DrawFn) -> str:
    """An instant with one character changed."""
    text = draw(MOMENTS)
    place = draw(st.integers(0, len(text) - 1))
    return text[:place] + draw(st.sampled_from("0123456789-+:. TZz/é")) + text[place + 1 :]


@given(st.lists(st.one_of(MOMENTS, spoilt_moments()), max_size=8))
@example(["2023-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "2023-02-30T00:00:00Z", "2023-13-01T00:00:00Z"])
@example(["2030-01-01T24:00:00Z"])
@example(["2030-01-01T23:59:60Z"])
@example(["2030-01-01T23:60:00Z"])
@example(["0000-01-01T00:00:00Z"])
@example(["0001-01-01T00:00:00+00:01"])
@example(["9999-12-31T23:59:59.999999Z"])
@example(["9999-12-31T23:59:59-00:01"])
@example(["2030-01-01T00:00:00+99:99"])
@example(["2030-01-01T00:00:00+24:00", "2030-01-01T00:00:00+01:60"])
@example(["2030-01-01T00:00:00.Z", "2030-01-01T00:00:00.1234567Z", "2030-01-01T00:00:00", "2030-01-01T00:00:00+0100"])
@example(["2030-01-01T00:00:00Z", "2030-01-01 00:00:00Z", "2030-01-01T00:00:0éZ"])
def test_a_column_of_dates_is_read_as_each_date_is(texts: list[str]) -> None:
    array = pa.concat_arrays([pa.array(["before", *texts], pa.string())]).slice(1)

    instants, bad = instants_of(array)

    for place, text in enumerate(texts):
        try:
            expected: int | None = parse_instant(text)
        except ExpressionFault:
            expected = None
        assert bad[place] == (expected is None)
        assert expected is None or instants[place] == expected


PLANNED = ["bedside-monitor", "blood-pressure-cuff", "pulse-oximeter", "thermometer", "body-scale", "chest-strap"]


@pytest.mark.parametrize("folder", [catalog_directory() / kind for kind in PLANNED], ids=lambda folder: folder.name)
def test_messages_of_the_catalog_are_decided(folder: Path) -> None:
    mapping = DeviceMapping.load(folder / "device_mapping.json")
    message: Any = msgspec.json.decode((folder / "message.json").read_bytes())
    body = message.get("Body", message)
    typed = plan(mapping.templates)
    assert typed is not None

    table, undecided = typed.decode([msgspec.json.encode(body)] * 3)

    expected = mapping.interpret({"Body": body, "Properties": {}, "SystemProperties": {}})
    properties = [(name, text) for each in expected for name, text in each.properties.items()]
    assert undecided == []
    assert expected
    assert list(zip(table["name"].to_pylist(), table["text"].to_pylist(), strict=True)) == properties * 3
