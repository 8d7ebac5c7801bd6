"""The codes of a required binding, out of value sets and code systems. Pure.

Only what required bindings of R4 need is expanded: whole code systems, lists, other value sets, `is-a` filters and
exclusions. Sets of codes that live outside FHIR (languages, MIME types, units) are named by the form of a code.
Source: http://hl7.org/fhir/R4/valueset.html#compositions.
"""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
Codes = dict[str, list[str]]
"""Codes by the system they belong to."""

FORMS = {
    "http://hl7.org/fhir/ValueSet/all-languages": "language",
    "http://hl7.org/fhir/ValueSet/mimetypes": "mime",
    "http://www.rfc-editor.org/bcp/bcp13.txt": "mime",
    "http://hl7.org/fhir/ValueSet/ucum-units": "word",
    "http://hl7.org/fhir/ValueSet/currencies": "currency",
}
"""Value sets whose codes other bodies keep, with the name of the form a code of theirs has."""


class ValueSets:
    """The value sets and code systems of a package.

    Args:
        value_sets: ValueSet resources by canonical URL, without version.
        code_systems: CodeSystem resources by canonical URL, without version.
    """

    def __init__(self, value_sets: dict[str, Json], code_systems: dict[str, Json]) -> None:
        self._value_sets = value_sets
        self._code_systems = code_systems

    def codes(self, url: str) -> Codes | None:
        """All codes of a value set, sorted; None when the package does not hold all of them."""
        found = self._expand(url, frozenset())
        if not found:
            return None
        return {system: sorted(codes) for system, codes in sorted(found.items())}

    def _expand(self, url: str, above: frozenset[str]) -> dict[str, set[str]] | None:
        value_set = self._value_sets.get(url.partition("|")[0])
        if value_set is None or url in above:
            return None
        compose = value_set.get("compose", {})
        found: dict[str, set[str]] = {}
        for part in compose.get("include", ()):
            codes = self._part(part, above | {url})
            if codes is None:
                return None
            for system, more in codes.items():
                found.setdefault(system, set()).update(more)
        for part in compose.get("exclude", ()):
            for system, fewer in (self._part(part, above | {url}) or {}).items():
                found.get(system, set()).difference_update(fewer)
        return found

    def _part(self, part: Json, above: frozenset[str]) -> dict[str, set[str]] | None:
        expansions = [self._expand(other, above) for other in part.get("valueSet", ())]
        if any(expansion is None for expansion in expansions):
            return None
        system = part.get("system")
        if system is None:
            merged: dict[str, set[str]] = {}
            for expansion in expansions:
                for name, codes in (expansion or {}).items():
                    merged.setdefault(name, set()).update(codes)
            return merged
        if "concept" in part:
            return {system: {concept["code"] for concept in part["concept"]}}
        tree = self._code_systems.get(system)
        if tree is None or tree.get("content") != "complete":
            return None
        chosen = set(_codes(tree.get("concept", ())))
        for condition in part.get("filter", ()):
            if condition["op"] not in {"is-a", "descendent-of"} or condition["property"] != "concept":
                return None
            chosen &= _descendants(tree, condition["value"], with_self=condition["op"] == "is-a")
        return {system: chosen}


def _codes(concepts: Any) -> Iterator[str]:
    for concept in concepts:
        yield concept["code"]
        yield from _codes(concept.get("concept", ()))


def _descendants(code_system: Json, root: str, *, with_self: bool) -> set[str]:
    """Codes below one, by nesting and by the property `subsumedBy`."""
    parents: dict[str, set[str]] = {}

    def walk(concepts: Any, above: str | None) -> None:
        for concept in concepts:
            named = {
                each["valueCode"] for each in concept.get("property", ()) if each["code"] in {"subsumedBy", "parent"}
            }
            parents[concept["code"]] = named | ({above} if above else set())
            walk(concept.get("concept", ()), concept["code"])

    walk(code_system.get("concept", ()), None)
    found = {root}
    while more := {code for code, above in parents.items() if above & found} - found:
        found |= more
    return found if with_self else found - {root}
