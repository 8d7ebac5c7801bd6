"""SMART scopes of both versions, and what they are worth."""

import pytest

from pulseweir.fhir_store.parameters import RESOURCE_TYPES
from pulseweir.fhir_store.security.caller import ANYBODY, Caller
from pulseweir.fhir_store.security.scopes import ScopeError, read_scope, read_scopes


def caller(*scopes: str, patient: str | None = None) -> Caller:
    return Caller("app", read_scopes(scopes), patient)


@pytest.mark.parametrize(
    ("scope", "letters"),
    [
        ("system/Observation.read", "rs"),
        ("user/Observation.write", "cud"),
        ("system/Observation.*", "cruds"),
        ("system/Observation.cruds", "cruds"),
        ("system/Observation.rs", "rs"),
        ("system/Observation.d", "d"),
    ],
)
def test_a_scope_allows_its_letters_and_no_others(scope: str, letters: str) -> None:
    asks = caller(scope)

    assert {letter for letter in "cruds" if asks.may("Observation", letter)} == set(letters)
    assert not any(asks.may("Flag", letter) for letter in "cruds")


@pytest.mark.parametrize(
    "scope",
    [
        "Observation.read",
        "system/Observation",
        "system/Observation.sr",
        "system/Observation.",
        "system/observation.read",
        "system/Nonsense.read",
        "admin/*.read",
        "system/*.rs?category=lab",
        "system/Observation.rs?",
        "system/Observation.rs?nonsense=x",
        "system/Observation.rs?subject=Patient/1",
        "system/Observation.rs?category:not=lab",
        "system/Observation.rs?category=a,b",
        "system/Patient.rs?deceased=true",
    ],
)
def test_a_scope_that_cannot_be_held_to_is_refused_and_worth_nothing(scope: str) -> None:
    with pytest.raises(ScopeError):
        read_scope(scope)

    assert read_scopes([scope]) == ()


@pytest.mark.parametrize("scope", ["openid", "fhirUser", "launch", "launch/patient", "offline_access"])
def test_scopes_about_other_things_grant_nothing(scope: str) -> None:
    assert read_scope(scope) is None


def test_a_patient_scope_without_a_patient_is_worth_nothing() -> None:
    asks = caller("patient/*.cruds")

    assert not any(asks.may(name, letter) for name in RESOURCE_TYPES for letter in "cruds")


def test_a_caller_of_one_patient_is_held_to_the_compartment() -> None:
    asks = caller("patient/*.cruds", patient="p1")

    assert asks.is_narrowed("Observation", "r")
    assert asks.may("Patient", "r")
    assert not asks.may("Practitioner", "r")
    assert not asks.may("Device", "r")


def test_user_scopes_of_a_caller_of_one_patient_open_the_directory_for_reading_only() -> None:
    asks = caller("patient/*.rs", "user/*.cruds", patient="p1")

    assert asks.may("Practitioner", "r")
    assert not asks.may("Practitioner", "u")
    assert not asks.may("Device", "r")
    assert asks.is_narrowed("Observation", "r")


def test_a_free_scope_beside_a_restricted_one_is_free() -> None:
    asks = caller("system/Observation.rs?category=vital-signs", "system/Observation.read")

    assert asks.may("Observation", "r")
    assert not asks.is_narrowed("Observation", "rs")


def test_nobody_is_bounded_while_nobody_is_asked() -> None:
    assert ANYBODY.may("*", "d")
    assert not ANYBODY.is_narrowed("*")
