"""SMART scopes: which interactions with which resource types a client was given. Pure.

Source: HL7 SMART App Launch 2.2, scopes, http://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html:
version 1 (``patient/Observation.read``) and version 2 (``system/Observation.rs?category=vital-signs``).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pulseweir.fhir_store.parameters import RESOURCE_TYPES, parameters_of

CREATE, READ, UPDATE, DELETE, SEARCH = "c", "r", "u", "d", "s"
EVERYTHING = frozenset("cruds")
_SCOPE = re.compile(r"(patient|user|system)/(\*|[A-Z][A-Za-z]+)\.([a-z]+|\*)(?:\?(.+))?")
_V1 = {"read": frozenset("rs"), "write": frozenset("cud"), "*": EVERYTHING}
_V2 = re.compile(r"(?=.)c?r?u?d?s?")
_NO_GRANT = frozenset({"openid", "profile", "fhirUser", "launch", "offline_access", "online_access"})


@dataclass(frozen=True, slots=True)
class Grant:
    """What one scope allows.

    Attributes:
        level: patient, user or system.
        resource_type: The type, "*" for every one.
        letters: Interactions as SMART abbreviates them: create, read, update, delete, search.
        restriction: (token parameter, value) that a resource must all match; empty for none.
    """

    level: str
    resource_type: str
    letters: frozenset[str]
    restriction: tuple[tuple[str, str], ...] = ()


class ScopeError(ValueError):
    """A text that is no scope this server can hold anybody to."""


def read_scope(text: str) -> Grant | None:
    """The grant of one scope; None for a scope that says nothing about resources, such as ``openid``.

    >>> sorted(read_scope("patient/Observation.read").letters)
    ['r', 's']
    >>> read_scope("system/Observation.rs?category=vital-signs").restriction
    (('category', 'vital-signs'),)

    Raises:
        ScopeError: Neither version 1 nor version 2, an unknown type, or a restriction other than tokens of one type.
    """
    if text in _NO_GRANT or text.startswith("launch/"):
        return None
    match = _SCOPE.fullmatch(text)
    if match is None:
        raise ScopeError("A scope is level/Type.interactions, such as system/Observation.rs or user/*.read.")
    level, resource_type, letters, query = match.groups()
    if resource_type != "*" and resource_type not in RESOURCE_TYPES:
        raise ScopeError(f"A scope names {resource_type}, a type that this server does not serve.")
    if letters not in _V1 and not _V2.fullmatch(letters):
        raise ScopeError("A scope's interactions are read, write, * or letters of cruds in that order, such as rs.")
    return Grant(level, resource_type, _V1.get(letters, frozenset(letters)), _restriction(resource_type, query))


def read_scopes(texts: Iterable[str]) -> tuple[Grant, ...]:
    """The grants of scopes that somebody else issued: one that cannot be held to is worth nothing.

    >>> read_scopes("openid system/Observation.nonsense system/Patient.r".split())[0].resource_type
    'Patient'
    """
    grants = []
    for text in texts:
        try:
            grant = read_scope(text)
        except ScopeError:
            continue
        if grant is not None:
            grants.append(grant)
    return tuple(grants)


def _restriction(resource_type: str, query: str | None) -> tuple[tuple[str, str], ...]:
    if query is None:
        return ()
    pairs = parse_qsl(query, keep_blank_values=True)
    if resource_type == "*" or not pairs:
        raise ScopeError("Only a scope of one type can be restricted, such as system/Observation.rs?category=lab.")
    for name, value in pairs:
        parameter = parameters_of(resource_type).get(name)
        is_plain = bool(value) and "," not in value and "\\" not in value
        if parameter is None or parameter.kind != "token" or not is_plain or any(p.truth for p in parameter.paths):
            text = f"A scope on {resource_type} can be restricted by token parameters with one plain value each only."
            raise ScopeError(f"{text} Example: system/Observation.rs?category=vital-signs.")
    return tuple(sorted(pairs))
