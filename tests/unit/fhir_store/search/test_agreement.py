"""Any search finds what a plain reading of the same parameters over all resources finds."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
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
SETTINGS = FhirStoreSettings()
DAY = 86_400
CODES = ["a", "b", "c"]
SYSTEMS = ["urn:s", "urn:t", None]
PEOPLE = ["p0", "p1", "p2"]
FAMILIES = ["Ash", "Ashe", "Éclair"]

codings = st.builds(
    lambda code, system: {"code": code} | ({"system": system} if system else {}),
    st.sampled_from(CODES),
    st.sampled_from(SYSTEMS),
)
days = st.integers(1, 3).map(lambda day: f"2024-01-0{day}")
times = st.one_of(days, st.builds("{}T{:02}:00:00Z".format, days, st.sampled_from([0, 23])), st.just("2024-01"))
numbers = st.integers(0, 20).map(lambda tenths: tenths / 10)


@st.composite
def observations(draw: st.DrawFn) -> Json:
    item: Json = {"status": draw(st.sampled_from(["final", "amended"]))}
    item["code"] = {"coding": draw(st.lists(codings, min_size=1, max_size=2))}
    parts = {
        "category": st.lists(st.builds(lambda each: {"coding": [each]}, codings), min_size=1, max_size=2),
        "subject": st.sampled_from(PEOPLE).map(lambda name: {"reference": f"Patient/{name}"}),
        "performer": st.lists(st.sampled_from(PEOPLE).map(lambda name: {"reference": f"Patient/{name}"}), min_size=1),
        "effectiveDateTime": times,
        "valueQuantity": numbers.map(lambda value: {"value": value}),
        "identifier": st.lists(st.builds(lambda each: {"value": each}, st.sampled_from(CODES)), min_size=1, max_size=2),
    }
    return item | {name: draw(part) for name, part in parts.items() if draw(st.booleans())}


def _tokens(item: Json, name: str) -> list[tuple[str, str]]:
    held = item.get(name, [])
    if name == "status":
        return [(held, "")]
    if name == "identifier":
        return [(each["value"], "") for each in held]
    concepts = held if isinstance(held, list) else [held]
    return [(each["code"], each.get("system", "")) for concept in concepts for each in concept["coding"]]


def _has_token(item: Json, name: str, wanted: str) -> bool:
    system, bar, code = wanted.rpartition("|")
    return any(code in {"", held} and (not bar or system == of) for held, of in _tokens(item, name))


def _seconds(text: str) -> tuple[float, float]:
    if len(text) == 7:
        first = datetime.fromisoformat(f"{text}-01").replace(tzinfo=UTC).timestamp()
        return first, first + 31 * DAY
    first = datetime.fromisoformat(text.replace("Z", "")).replace(tzinfo=UTC).timestamp()
    return first, first + (DAY if len(text) == 10 else 1)


def _compares(prefix: str, held: tuple[float, float], asked: tuple[float, float]) -> bool:
    (low, high), (first, beyond) = held, asked
    within = first <= low and high <= beyond
    return {
        "": within,
        "eq": within,
        "ne": not within,
        "gt": high > beyond,
        "lt": low < first,
        "ge": high > first,
        "le": low < beyond,
        "sa": low >= beyond,
        "eb": high <= first,
        "ap": low < beyond and high > first,
    }[prefix]


def _numbered(prefix: str, held: float, text: str) -> bool:
    number = float(text)
    half = 0.5 * 10.0 ** -len(text.partition(".")[2])
    near = 0.1 * number
    return {
        "": number - half <= held < number + half,
        "eq": number - half <= held < number + half,
        "ne": not number - half <= held < number + half,
        "gt": held > number,
        "lt": held < number,
        "ge": held >= number,
        "le": held <= number,
        "sa": held > number,
        "eb": held < number,
        "ap": number - near <= held <= number + near,
    }[prefix]


Meets = Callable[[Json], bool]
Asked = tuple[tuple[str, str], Meets]
prefixes = st.sampled_from(["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"])


@st.composite
def token_asked(draw: st.DrawFn) -> Asked:
    name = draw(st.sampled_from(["code", "category", "identifier", "status"]))
    code, system = draw(st.sampled_from([*CODES, "final"])), draw(st.sampled_from(["", "urn:s|", "urn:t|", "|"]))
    form = st.sampled_from([f"{system}{code}", code])
    values = draw(st.lists(form, min_size=1, max_size=2))
    modifier = draw(st.sampled_from(["", ":not"]))
    return (name + modifier, ",".join(values)), (
        lambda item: any(_has_token(item, name, each) for each in values) is (modifier == "")
    )


@st.composite
def missing_asked(draw: st.DrawFn) -> Asked:
    members = {"category": "category", "subject": "subject", "performer": "performer", "date": "effectiveDateTime"}
    name, member = draw(st.sampled_from([*members.items(), ("value-quantity", "valueQuantity")]))
    text = draw(st.sampled_from(["true", "false"]))
    return (f"{name}:missing", text), lambda item: (member not in item) is (text == "true")


@st.composite
def date_asked(draw: st.DrawFn) -> Asked:
    prefix, text = draw(prefixes), draw(times)

    def meets(item: Json) -> bool:
        held = item.get("effectiveDateTime")
        return held is not None and _compares(prefix, _seconds(held), _seconds(text))

    return ("date", prefix + text), meets


@st.composite
def quantity_asked(draw: st.DrawFn) -> Asked:
    prefix, text = draw(prefixes), draw(st.one_of(numbers.map(str), st.integers(0, 2).map(str)))

    def meets(item: Json) -> bool:
        held = item.get("valueQuantity")
        return held is not None and _numbered(prefix, held["value"], text)

    return ("value-quantity", prefix + text), meets


@st.composite
def reference_asked(draw: st.DrawFn) -> Asked:
    name = draw(st.sampled_from(["subject", "performer"]))
    person, form = draw(st.sampled_from([*PEOPLE, "p9"])), draw(st.sampled_from(["{}", "Patient/{}"]))
    return (name, form.format(person)), lambda item: f"Patient/{person}" in _references(item, name)


@st.composite
def chain_asked(draw: st.DrawFn) -> Asked:
    name, start = draw(st.sampled_from(["subject", "performer"])), draw(st.sampled_from(["ash", "ashe", "e", "x"]))
    met = {f"Patient/p{place}" for place, family in enumerate(["ash", "ashe", "eclair"]) if family.startswith(start)}
    return (f"{name}:Patient.family", start), lambda item: bool(met & set(_references(item, name)))


def _references(item: Json, name: str) -> list[str]:
    held = item.get(name, [])
    return [each["reference"] for each in (held if isinstance(held, list) else [held])]


asked = st.one_of(token_asked(), missing_asked(), date_asked(), quantity_asked(), reference_asked(), chain_asked())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirStore]:
    opened = FhirStore.open(Path(tmp_path_factory.mktemp("agreement")), Clock(), SETTINGS)
    opened.post(_people).result()
    yield opened
    opened.close()


def _people(session: WriteSession) -> None:
    for name, family in zip(PEOPLE, FAMILIES, strict=True):
        _insert(session, "Patient", name, {"name": [{"family": family}]})


def _insert(session: WriteSession, resource_type: str, name: str, item: Json) -> None:
    tree = {"resourceType": resource_type, "id": name} | item
    session.insert(resource_type, name, tree, split_resource(msgspec.json.encode(tree)))


class _UndoneError(Exception):
    """Takes a store of one example away again."""


@settings(max_examples=80, deadline=None)
@given(st.lists(observations(), min_size=1, max_size=8), st.lists(st.lists(asked, min_size=1, max_size=2), min_size=8))
def test_a_search_agrees_with_a_plain_reading(store: FhirStore, items: list[Json], searches: list[list[Asked]]) -> None:
    expected, found = [], []
    for questions in searches:
        expected.append({f"o{place}" for place, item in enumerate(items) if all(meets(item) for _, meets in questions)})
        met = [item for item in items if questions[0][1](item)]
        expected.append(
            {name for name in PEOPLE if any(f"Patient/{name}" in _references(item, "subject") for item in met)}
        )

    def work(session: WriteSession) -> None:
        for place, item in enumerate(items):
            _insert(session, "Observation", f"o{place}", item)
        for questions in searches:
            found.append(_ids(session, "Observation", [pair for pair, _ in questions]))
            name, text = questions[0][0]
            found.append(_ids(session, "Patient", [(f"_has:Observation:subject:{name}", text)]))
        raise _UndoneError

    with pytest.raises(_UndoneError):
        store.post(work).result()

    assert found == expected


def _ids(session: WriteSession, resource_type: str, pairs: list[tuple[str, str]]) -> set[str]:
    request = read_search(resource_type, pairs, strict=True, settings=SETTINGS)
    return {stored.resource_id for stored in run_search(session, request).matches}
