"""Which rights each interaction needs: the right scope lets it pass, every other one alone does not."""

import pytest

from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES
from pulseweir.fhir_store.security.caller import Caller
from pulseweir.fhir_store.security.rights import check_rights, check_subscription
from pulseweir.fhir_store.security.scopes import read_scopes


def allowed(scopes: str, method: str, path: str, *, conditional: bool = False, patient: str | None = None) -> bool:
    bare, _, query = path.partition("?")
    pairs = [tuple(part.split("=", 1)) for part in query.split("&") if part]
    caller = Caller("app", read_scopes(scopes.split()), patient)
    try:
        check_rights(caller, method, [part for part in bare.split("/") if part], pairs, is_conditional=conditional)  # type: ignore[arg-type]
    except Refusal as refusal:
        if (refusal.status, refusal.issues[0].code) != (403, "forbidden"):
            raise
        return False
    return True


INTERACTIONS = [
    ("GET", "Observation/1", "r"),
    ("GET", "Observation/1/_history/2", "r"),
    ("GET", "Observation/1/_history", "r"),
    ("GET", "Observation", "s"),
    ("GET", "Observation?code=x", "s"),
    ("POST", "Observation/_search", "s"),
    ("POST", "Observation", "c"),
    ("POST", "Observation?identifier=x", "cs"),
    ("PUT", "Observation/1", "u"),
    ("PUT", "Observation?identifier=x", "us"),
    ("PATCH", "Observation/1", "u"),
    ("PATCH", "Observation?identifier=x", "us"),
    ("DELETE", "Observation/1", "d"),
    ("DELETE", "Observation?identifier=x", "ds"),
    ("GET", "Observation/_history", "s"),
    ("GET", "Observation/$lastn", "s"),
]


@pytest.mark.parametrize(("method", "path", "letters"), INTERACTIONS)
def test_an_interaction_needs_exactly_its_letters(method: str, path: str, letters: str) -> None:
    assert allowed(f"system/Observation.{''.join(each for each in 'cruds' if each in letters)}", method, path)
    for letter in letters:
        others = "".join(each for each in "cruds" if each != letter)
        assert not allowed(f"system/Observation.{others}", method, path)
    assert not allowed("system/Flag.cruds", method, path)


def test_a_conditional_create_needs_search() -> None:
    assert not allowed("system/Observation.c", "POST", "Observation", conditional=True)
    assert allowed("system/Observation.cs", "POST", "Observation", conditional=True)


@pytest.mark.parametrize(
    "path",
    [
        "Observation?subject:Patient.name=x",
        "Observation?patient.name=x",
        "Observation?encounter.subject:Patient.birthdate=x",
        "Observation?_has:Flag:subject:status=active",
        "Observation?subject.name=x",
    ],
)
def test_a_chain_needs_search_on_every_type_it_leads_through(path: str) -> None:
    assert not allowed("system/Observation.rs", "GET", path)
    assert allowed("system/*.rs", "GET", path)


def test_a_chain_through_what_is_seen_in_part_only_is_refused() -> None:
    scopes = "system/Observation.rs system/Patient.rs?active=true"

    assert allowed(scopes, "GET", "Patient")
    assert not allowed(scopes, "GET", "Observation?subject:Patient.birthdate=x")
    assert not allowed("patient/*.rs", "GET", "Observation?subject:Patient.birthdate=x", patient="p1")


@pytest.mark.parametrize("path", ["", "Patient/p1/*", "Patient/p1/Observation"])
def test_a_chain_is_refused_wherever_it_is_asked(path: str) -> None:
    others = " ".join(f"system/{each}.rs" for each in RESOURCE_TYPES if each != "Patient")
    chain = "_has:Provenance:target:patient.birthdate=1950"

    assert allowed(f"{others} system/Patient.rs", "GET", f"{path}?{chain}")
    assert not allowed(f"{others} system/Patient.rs?active=true", "GET", f"{path}?{chain}")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "_history"), ("GET", "?_lastUpdated=gt2020"), ("GET", "$export"), ("GET", "Patient/$export")]
    + [("POST", "$invented"), ("GET", "Observation/$invented")],
)
def test_what_reaches_every_type_needs_every_type(method: str, path: str) -> None:
    assert not allowed("system/Observation.cruds system/Patient.cruds", method, path)
    assert not allowed("patient/*.cruds", method, path, patient="p1")
    assert allowed("system/*.cruds", method, path)


def test_a_search_of_named_types_needs_those() -> None:
    assert allowed("system/Observation.s system/Flag.s", "GET", "?_type=Observation,Flag")
    assert not allowed("system/Observation.s", "GET", "?_type=Observation,Flag")


def test_everything_of_a_patient_needs_to_read_and_search_patients() -> None:
    assert allowed("patient/*.rs", "GET", "Patient/p1/$everything", patient="p1")
    assert allowed("system/Patient.rs", "GET", "Patient/p1/$everything")
    assert not allowed("system/Observation.rs", "GET", "Patient/p1/$everything")


def test_an_operation_nobody_thought_of_needs_everything() -> None:
    assert not allowed("system/*.crud", "POST", "Observation/1/$meta-add")


def test_a_bundle_needs_what_its_entries_need_and_metadata_nothing() -> None:
    assert allowed("", "POST", "")
    assert allowed("", "GET", "metadata")


@pytest.mark.parametrize(
    ("scopes", "criteria", "patient", "passes"),
    [
        ("system/Subscription.c system/Observation.rs", "Observation?code=x", None, True),
        ("system/Subscription.c", "Observation?code=x", None, False),
        ("system/Subscription.c system/Observation.rs?category=lab", "Observation?code=x", None, False),
        ("system/Subscription.c system/Observation.rs", "http://example.org/topic", None, False),
        ("system/*.cruds", "http://example.org/topic", None, True),
        ("patient/*.cruds", "Observation?code=x", "p1", False),
    ],
)
def test_a_subscription_sends_only_what_its_maker_may_see(
    scopes: str, criteria: str, patient: str | None, passes: bool
) -> None:
    caller = Caller("app", read_scopes(scopes.split()), patient)

    if passes:
        check_subscription(caller, {"criteria": criteria})
    else:
        with pytest.raises(Refusal) as refused:
            check_subscription(caller, {"criteria": criteria})
        assert refused.value.status == 403
