"""Composites, components, strings, periods and orders agree with a plain reading of the same over all resources."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulseweir.clock import Clock
from pulseweir.fhir_store.json_text import split_resource
from pulseweir.fhir_store.query import read_search
from pulseweir.fhir_store.searching import run_search
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
Meets = Callable[[Json], bool]
Asked = tuple[tuple[str, str], Meets]
SETTINGS = FhirStoreSettings()
CODES, SYSTEMS, WORDS = ["a", "b"], ["urn:s", "urn:t"], ["Ash", "ashen", "Beech, tall", "Élm"]
UNITS = ["mg", "ml"]
SYSTEM = "http://unitsofmeasure.org"

concepts = st.lists(
    st.builds(lambda code, system: {"code": code, "system": system}, st.sampled_from(CODES), st.sampled_from(SYSTEMS)),
    min_size=1,
    max_size=2,
).map(lambda codings: {"coding": codings})
amounts = st.builds(
    lambda number, unit: {"value": number, "system": SYSTEM, "code": unit}, st.integers(0, 3), st.sampled_from(UNITS)
)
days = st.integers(1, 4).map(lambda day: f"2024-05-0{day}")
instants = st.builds(
    "{}T{:02}:30:00{}".format, days, st.sampled_from([0, 12, 23]), st.sampled_from(["Z", "+02:00", "-05:00"])
)
moments = days | instants | st.just("2024-05") | st.just("2024")
valued = st.one_of(
    st.just({}),
    amounts.map(lambda each: {"valueQuantity": each}),
    concepts.map(lambda each: {"valueCodeableConcept": each}),
    st.sampled_from(WORDS).map(lambda each: {"valueString": each}),
    moments.map(lambda each: {"valueDateTime": each}),
)
parts = st.builds(lambda code, value: {"code": code} | value, concepts, valued)
periods = st.builds(
    lambda start, end: {name: day for name, day in (("start", start), ("end", end)) if day},
    st.none() | moments,
    st.none() | moments,
).filter(bool)
times = st.one_of(
    st.just({}),
    moments.map(lambda each: {"effectiveDateTime": each}),
    periods.map(lambda each: {"effectivePeriod": each}),
    st.lists(moments, min_size=1, max_size=2).map(lambda each: {"effectiveTiming": {"event": each}}),
    periods.map(lambda each: {"effectiveTiming": {"repeat": {"boundsPeriod": each}}}),
)


@st.composite
def observations(draw: st.DrawFn) -> Json:
    item: Json = {"status": "final", "code": draw(concepts)} | draw(valued) | draw(times)
    components = draw(st.lists(parts, max_size=2))
    return item | ({"component": components} if components else {})


Concept = tuple[str, Callable[[Json], bool]]


@st.composite
def token(draw: st.DrawFn, member: str) -> Concept:
    code, system = draw(st.sampled_from([*CODES, "z"])), draw(st.sampled_from(["", *SYSTEMS]))
    held: Meets = lambda node: any(  # noqa: E731 - the two belong together
        each["code"] == code and system in {"", each["system"]} for each in node.get(member, {}).get("coding", ())
    )
    return (f"{system}|{code}" if system else code), held


@st.composite
def quantity(draw: st.DrawFn) -> Concept:
    prefix, number = draw(st.sampled_from(["", "ne", "gt", "le"])), draw(st.integers(0, 3))
    unit = draw(st.sampled_from(["", *UNITS]))

    def held(node: Json) -> bool:
        value = node.get("valueQuantity")
        if value is None or unit not in {"", value["code"]}:
            return False
        amount = int(value["value"])
        return {"": amount == number, "ne": amount != number, "gt": amount > number, "le": amount <= number}[prefix]

    return f"{prefix}{number}" + (f"|{SYSTEM}|{unit}" if unit else ""), held


@st.composite
def words(draw: st.DrawFn) -> Concept:
    start, plain = draw(st.sampled_from([("ash", "ash"), ("beech\\, t", "beech, t"), ("elm", "elm"), ("x", "x")]))
    folded = {"Ash": "ash", "ashen": "ashen", "Beech, tall": "beech, tall", "Élm": "elm"}
    return start, lambda node: folded.get(node.get("valueString", ""), "").startswith(plain)


@st.composite
def moment(draw: st.DrawFn, low_high: Callable[[Json], tuple[datetime, datetime] | None]) -> Concept:
    prefix, text = draw(st.sampled_from(["", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"])), draw(moments)
    first, beyond = ends(text)

    def held(node: Json) -> bool:
        found = low_high(node)
        if found is None:
            return False
        low, high = found
        within = first <= low and high <= beyond
        return {
            "": within,
            "ne": not within,
            "gt": high > beyond,
            "lt": low < first,
            "ge": high > first,
            "le": low < beyond,
            "sa": low >= beyond,
            "eb": high <= first,
            "ap": low < beyond and high > first,
        }[prefix]

    return prefix + text, held


def ends(text: str) -> tuple[datetime, datetime]:
    """The first moment of a date and the first one after it."""
    if len(text) > 10:
        start = datetime.fromisoformat(text)
        return start, start + timedelta(seconds=1)
    year, month, day = (*map(int, text.split("-")), 0, 0)[:3]
    start = datetime(year, month or 1, day or 1, tzinfo=UTC)
    if day:
        return start, start + timedelta(days=1)
    return start, datetime(year, month + 1, 1, tzinfo=UTC) if month else datetime(year + 1, 1, 1, tzinfo=UTC)


EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def effective(item: Json) -> tuple[datetime, datetime] | None:
    """From when to when something was, by a date, a period or the outer ends of a schedule."""
    timing = item.get("effectiveTiming", {})
    if "event" in timing:
        held = [ends(each) for each in timing["event"]]
        return min(low for low, _ in held), max(high for _, high in held)
    period = item.get("effectivePeriod") or timing.get("repeat", {}).get("boundsPeriod")
    if period:
        return (
            ends(period["start"])[0] if "start" in period else EARLIEST,
            ends(period["end"])[1] if "end" in period else LATEST,
        )
    return ends(item["effectiveDateTime"]) if "effectiveDateTime" in item else None


def value_date(item: Json) -> tuple[datetime, datetime] | None:
    return ends(item["valueDateTime"]) if "valueDateTime" in item else None


def nodes(item: Json, where: str) -> list[Json]:
    return [*([item] if where != "component" else []), *(item.get("component", []) if where != "code" else [])]


@st.composite
def composite_asked(draw: st.DrawFn) -> Asked:
    place, kind = draw(
        st.sampled_from(
            [
                *(("code", each) for each in ("concept", "date", "quantity", "string")),
                *((where, each) for where in ("combo", "component") for each in ("concept", "quantity")),
            ]
        )
    )
    text, has_code = draw(token("code"))
    by_kind = {
        "concept": token("valueCodeableConcept"),
        "quantity": quantity(),
        "string": words(),
        "date": moment(value_date),
    }
    wanted, has_value = draw(by_kind[kind])
    name = {"code": "code", "combo": "combo-code", "component": "component-code"}[place]
    return (f"{name}-value-{kind}", f"{text}${wanted}"), lambda item: any(
        has_code(node) and has_value(node) for node in nodes(item, place)
    )


@st.composite
def part_asked(draw: st.DrawFn) -> Asked:
    place = draw(st.sampled_from(["code", "combo", "component"]))
    kind = draw(st.sampled_from(["code", "concept", "quantity"]))
    strategies = {"code": token("code"), "concept": token("valueCodeableConcept"), "quantity": quantity()}
    wanted, held = draw(strategies[kind])
    name = {"code": "", "combo": "combo-", "component": "component-"}[place]
    name += "code" if kind == "code" else f"value-{kind}"
    modifier = draw(st.sampled_from(["", ":not"])) if kind != "quantity" else ""
    return (name + modifier, wanted), (lambda item: any(held(node) for node in nodes(item, place)) is (not modifier))


@st.composite
def value_asked(draw: st.DrawFn) -> Asked:
    name, strategy = draw(
        st.sampled_from([("value-string", words()), ("value-date", moment(value_date)), ("date", moment(effective))])
    )
    wanted, held = draw(strategy)
    return (name, wanted), held


asked = st.one_of(composite_asked(), part_asked(), value_asked(), value_asked())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirStore]:
    opened = FhirStore.open(Path(tmp_path_factory.mktemp("parts")), Clock(), SETTINGS)
    yield opened
    opened.close()


class _UndoneError(Exception):
    """Takes the resources of one example away again."""


def _with(store: FhirStore, items: list[Json], ask: Callable[[WriteSession], None]) -> None:
    def work(session: WriteSession) -> None:
        for place, item in enumerate(items):
            tree = {"resourceType": "Observation", "id": f"o{place}"} | item
            session.insert("Observation", f"o{place}", tree, split_resource(msgspec.json.encode(tree)))
        ask(session)
        raise _UndoneError

    with pytest.raises(_UndoneError):
        store.post(work).result()


@settings(max_examples=120, deadline=None)
@given(st.lists(observations(), min_size=1, max_size=6), st.lists(asked, min_size=8, max_size=12))
def test_each_part_agrees_with_a_plain_reading(store: FhirStore, items: list[Json], questions: list[Asked]) -> None:
    def ask(session: WriteSession) -> None:
        for pair, meets in questions:
            request = read_search("Observation", [pair], strict=True, settings=SETTINGS)
            found = {stored.resource_id for stored in run_search(session, request).matches}
            assert (pair, found) == (pair, {f"o{place}" for place, item in enumerate(items) if meets(item)})

    _with(store, items, ask)


def _codes(item: Json) -> list[str]:
    return [each["code"] for each in item["code"]["coding"]]


KEYS: dict[str, Callable[[Json, bool], Any]] = {
    "value-quantity": lambda item, _: item.get("valueQuantity", {}).get("value"),
    "value-string": lambda item, _: (
        {"Élm": "elm"}.get(item.get("valueString", ""), item.get("valueString", "").lower()) or None
    ),
    "date": lambda item, _: (effective(item) or (None,))[0],
    "value-date": lambda item, _: (value_date(item) or (None,))[0],
    "component-value-quantity": lambda item, down: (max if down else min)(
        (each["valueQuantity"]["value"] for each in item.get("component", ()) if "valueQuantity" in each), default=None
    ),
}
"""What each parameter sorts by: the least value upwards, the greatest downwards; None where there is none."""


@settings(max_examples=60, deadline=None)
@given(
    st.lists(observations(), min_size=2, max_size=9),
    st.lists(st.tuples(st.sampled_from([*KEYS]), st.booleans()), min_size=1, max_size=3, unique_by=lambda key: key[0]),
    st.integers(1, 4),
)
def test_pages_of_any_order_are_the_whole_in_that_order(
    store: FhirStore, items: list[Json], keys: list[tuple[str, bool]], count: int
) -> None:
    names = [f"o{place}" for place in range(len(items))]
    expected = names[::-1] if keys[-1][1] else names
    for key, down in reversed(keys):
        held = {name: KEYS[key](item, down) for name, item in zip(names, items, strict=True)}
        there = sorted((name for name in expected if held[name] is not None), key=held.__getitem__)
        if down:
            # Equal ones stay in the order they have.
            there = sorted((name for name in expected if held[name] is not None), key=held.__getitem__, reverse=True)
        expected = [*there, *(name for name in expected if held[name] is None)]
    sort = ",".join(f"{'-' if down else ''}{key}" for key, down in keys)

    def ask(session: WriteSession) -> None:
        found: list[str] = []
        after: list[Any] | None = []
        while after is not None:
            pairs = [("_sort", sort), ("_count", str(count))]
            request = read_search("Observation", pairs, strict=True, settings=SETTINGS)
            request.after = after or None
            page = run_search(session, request)
            found += [stored.resource_id for stored in page.matches]
            after = page.next_after
        assert (sort, found) == (sort, expected)

    _with(store, items, ask)
