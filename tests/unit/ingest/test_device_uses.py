"""Spans of DeviceUseStatements, and who wore a device then."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulseweir.ingest.device_mapping.tokens import FIRST_INSTANT, LAST_INSTANT, parse_instant
from pulseweir.ingest.device_uses import KnownDevice, Use, read_use, wearer


@pytest.mark.parametrize(
    ("timing", "start", "end"),
    [
        ({"start": "2030", "end": "2030"}, "2030-01-01T00:00:00Z", "2030-12-31T23:59:59.999999Z"),
        ({"start": "2030-02", "end": "2030-02"}, "2030-02-01T00:00:00Z", "2030-02-28T23:59:59.999999Z"),
        ({"start": "2030-02-03", "end": "2030-02-03"}, "2030-02-03T00:00:00Z", "2030-02-03T23:59:59.999999Z"),
        (
            {"start": "2030-02-03T08:00:00+02:00", "end": "2030-02-03T08:00:00.5Z"},
            "2030-02-03T06:00:00Z",
            "2030-02-03T08:00:00.500000Z",
        ),
    ],
)
def test_a_period_covers_all_that_its_texts_may_mean(timing: dict[str, str], start: str, end: str) -> None:
    statement = {"status": "active", "subject": {"reference": "Patient/p"}, "timingPeriod": timing}

    assert read_use(statement) == Use("p", parse_instant(start), parse_instant(end))


@pytest.mark.parametrize(
    "statement",
    [
        {"status": "entered-in-error", "subject": {"reference": "Patient/p"}, "timingPeriod": {}},
        {"status": "active", "subject": {"reference": "Group/p"}, "timingPeriod": {}},
        {"status": "active", "subject": {"reference": "Patient/not legal"}, "timingPeriod": {}},
        {"status": "active", "subject": {"reference": "Patient/p"}},
        {"status": "active", "subject": {"reference": "Patient/p"}, "timingPeriod": {"start": "soon"}},
    ],
)
def test_a_statement_that_does_not_say_who_and_when_says_nothing(statement: dict[str, Any]) -> None:
    assert read_use(statement) is None


spans = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.integers(0, 50)).map(
        lambda span: Use(span[0], min(span[1:]), max(span[1:]))
    ),
    min_size=1,
    max_size=6,
)


@given(spans, st.integers(-5, 55), st.randoms())
def test_nobody_is_named_who_did_not_have_the_device_at_that_instant(
    uses: list[Use], instant: int, random: Any
) -> None:
    shuffled = list(uses)
    random.shuffle(shuffled)

    found = wearer(KnownDevice("d", tuple(uses), "someone-else", 0.0), instant)

    assert found == wearer(KnownDevice("d", tuple(shuffled), None, 0.0), instant)
    if found is not None:
        assert any(use.patient_id == found and use.start <= instant <= use.end for use in uses)
        inside = {use.patient_id for use in uses if use.start < instant < use.end}
        assert inside <= {found}


def test_an_open_span_reaches_from_the_first_instant_to_the_last() -> None:
    use = read_use({"status": "active", "subject": {"reference": "Patient/p"}, "timingPeriod": {}})

    assert use == Use("p", FIRST_INSTANT, LAST_INSTANT)
