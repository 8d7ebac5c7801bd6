"""Checkers of complex types, compiled from the tables of the definitions. Pure.

Objects of one type come with few combinations of members. For each combination seen, what can be told from names
alone (unknown and missing elements, two variants of a choice, rules about presence) is settled once and kept as a
plan; an object of a known combination then costs one look-up and its values.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from operator import call
from typing import Any, Protocol

from pulseweir.fhir_store.definitions.tables import (
    Element,
    codes_of,
    elements_of,
    is_complex,
    json_names,
    known_types,
    primitive_forms,
)
from pulseweir.fhir_store.invariants import presence_faults, value_rules
from pulseweir.fhir_store.json_text import KNOWN_BYTES, KNOWN_TEXTS
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.primitives import Checker, Fault, code_checker, primitive_checker

FAULT_LIMIT = 100
_PLAN_LIMIT = 512
_REFERENCE = re.compile(
    r"#\S*|[A-Za-z][A-Za-z0-9+.\-]*:\S+"
    r"|([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?|([A-Z][A-Za-z]+)\?\S+",
    re.ASCII,
)
"""What a Reference may say (R4, references, "literal"): something inside, any absolute URI, a resource by type and id,
or a search, which a transaction resolves."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://", re.ASCII)
_URL_TYPE = re.compile(r"/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?$", re.ASCII)

Plan = tuple[tuple[str, ...], tuple[Checker, ...], tuple[Callable[[Json], Iterator[Fault]], ...]]
"""(element name of every member in order, their checkers, rules about values)."""


class TextChecker(Protocol):
    """Gives the faults of an object; with the texts of its members, those seen before are not looked at again."""

    def __call__(self, node: Any, texts: Iterable[bytes] = ..., /) -> list[Fault] | None:
        """The faults; None when there are none."""


@cache
def complex_checker(type_name: str) -> TextChecker:
    """The checker of a complex type, a part of a resource, or a resource type."""
    plans: dict[tuple[str, ...], Plan] = {}
    right: set[tuple[Checker, bytes]] = set()
    shape = _Shape(type_name)

    def check(node: Any, texts: Iterable[bytes] = ()) -> list[Fault] | None:
        if type(node) is not dict:
            return [((), "structure", "must be an object")]
        names = (*node,)
        plan = plans.get(names)
        faults: list[Fault] | None = None
        if plan is None:
            plan, faults = shape.plan(node)
            if not faults and len(plans) < _PLAN_LIMIT:
                plans[names] = plan
        path_names, members, rules = plan
        values = node.values()
        below = _check_texts(right, members, values, texts) if texts else [*map(call, members, values)]
        if any(below):
            for name, found in zip(path_names, below, strict=True):
                if found:
                    faults = _prefixed(faults, name, found)
        if rules and not faults:
            for rule in rules:
                faults = [*(faults or ()), *rule(node)]
        return faults

    return check


def _check_texts(
    right: set[tuple[Checker, bytes]], checkers: Iterable[Checker], values: Iterable[Any], texts: Iterable[bytes]
) -> list[list[Fault] | None]:
    """What the checkers find; what was right before in the very same text is right again."""
    found = []
    for checker, value, text in zip(checkers, values, texts, strict=True):
        if type(value) is not dict and type(value) is not list:
            found.append(checker(value))
            continue
        key = (checker, text)
        faults = None if key in right else checker(value)
        if faults is None and len(text) <= KNOWN_BYTES:
            if len(right) >= KNOWN_TEXTS:
                right.clear()
            right.add(key)
        found.append(faults)
    return found


def _prefixed(faults: list[Fault] | None, step: str | int, found: list[Fault]) -> list[Fault]:
    kept = faults or []
    kept.extend(((step, *path), code, text) for path, code, text in found[: max(0, FAULT_LIMIT - len(kept))])
    return kept


def check_resource_shape(node: Any, texts: Iterable[bytes] = ()) -> list[Fault] | None:
    """The faults of a resource of any R4 type; `texts` are those of its members, in order, where they are known."""
    if type(node) is not dict:
        return [((), "structure", "must be an object")]
    resource_type = node.get("resourceType")
    if not isinstance(resource_type, str) or resource_type not in known_types():
        return [(("resourceType",), "structure", "must be a resource type of R4")]
    return complex_checker(resource_type)(node, texts)


class _Shape:
    """What the definition says of one type, ready to make plans."""

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        self.is_resource = type_name in known_types()
        self.elements = elements_of("Quantity" if type_name == "SimpleQuantity" else type_name)
        self.members: dict[str, tuple[str, Element, str]] = {}
        for name, element in self.elements.items():
            for member, kind in zip(json_names(name, element), element.types, strict=False):
                self.members[member] = (name.removesuffix("[x]"), element, kind)
                if not is_complex(kind) and kind in primitive_forms():
                    self.members["_" + member] = (name.removesuffix("[x]"), element, "")

    def plan(self, node: Json) -> tuple[Plan, list[Fault]]:
        """The plan for the members of an object, and what their names alone say is wrong."""
        faults: list[Fault] = []
        steps: list[tuple[str, Checker]] = []
        for name in node:
            step = self._step(name, node)
            if step is None:
                shown: tuple[str, ...] = (name,) if name.isidentifier() and len(name) <= 64 else ()
                faults.append((shown, "structure", "is not an element of its type" if shown else "has an odd member"))
            steps.append(step or (name, _accept))
        present = {self.members[name][0] for name in node if name in self.members}
        faults.extend(self._cardinality_faults(node, present))
        faults.extend(presence_faults(self.type_name, present))
        pairs = [name for name in node if "_" + name in node]
        rules = [rule for needs, rule in value_rules(self.type_name) if needs <= present]
        lonely = [name for name in node if name.startswith("_") and name[1:] not in node and name in self.members]
        own = (*map(self._pair_rule, pairs), *map(self._lonely_rule, lonely))
        path_names, checkers = tuple(name for name, _ in steps), tuple(checker for _, checker in steps)
        return (path_names, checkers, (*own, *rules)), faults[:FAULT_LIMIT]

    def _step(self, name: str, node: Json) -> tuple[str, Checker] | None:
        if name == "resourceType" and self.is_resource:
            return name, _accept
        if name not in self.members:
            return None
        path_name, element, kind = self.members[name]
        if not kind:
            one: Checker = complex_checker("Element")
        elif self.is_resource and name == "id":
            one = primitive_checker("id")
        elif self.type_name == "Reference" and name == "reference":
            one = _check_reference_text
        else:
            one = _value_checker(kind, element)
        if element.max != "1":
            is_one_of_two = not kind or "_" + name in node
            return path_name, _list_checker(one, element.max, nulls=is_one_of_two)
        return path_name, one

    def _cardinality_faults(self, node: Json, present: set[str]) -> Iterator[Fault]:
        # A bare id is enough beside a primitive's value; without the value, `_lonely_rule` asks for more.
        if not node or (node.keys() == {"id"} and not self.is_resource and self.type_name != "Element"):
            yield (), "structure", "must not be empty"
        for name, element in self.elements.items():
            plain = name.removesuffix("[x]")
            if element.min and plain not in present:
                yield (plain,), "required", "is required"
            elif plain != name and plain in present:
                variants = sum(member in node or "_" + member in node for member in json_names(name, element))
                if variants > 1:
                    yield (plain,), "structure", "appears in more than one variant"

    def _pair_rule(self, name: str) -> Callable[[Json], Iterator[Fault]]:
        path_name = self.members[name][0] if name in self.members else name

        def rule(node: Json) -> Iterator[Fault]:
            values, extras = node[name], node["_" + name]
            if isinstance(values, list) and isinstance(extras, list):
                for place in range(max(len(values), len(extras))):
                    if all(place >= len(side) or side[place] is None for side in (values, extras)):
                        yield (path_name, place), "structure", "must not be null on both sides"

        return rule

    def _lonely_rule(self, name: str) -> Callable[[Json], Iterator[Fault]]:
        path_name = self.members[name][0]

        def rule(node: Json) -> Iterator[Fault]:
            extras = node[name] if isinstance(node[name], list) else [node[name]]
            if not all(isinstance(extra, dict) and "extension" in extra for extra in extras):
                yield (path_name,), "structure", "has neither a value nor an extension"

        return rule


def _accept(_: Any) -> None:
    return None


def _value_checker(kind: str, element: Element) -> Checker:
    if kind == "Resource":
        return check_resource_shape
    if kind == "Reference":
        return _reference_checker(element.targets)
    if element.codes is not None and kind in {"code", "string", "uri"}:
        return code_checker(element.codes)
    if is_complex(kind) or kind == "SimpleQuantity":
        if element.codes is not None and kind in {"Coding", "CodeableConcept"}:
            return _coded_checker(kind, element.codes)
        return complex_checker(kind)
    return primitive_checker(kind)


def _list_checker(one: Checker, most: str, *, nulls: bool) -> Checker:
    limit = int(most) if most.isdigit() else None

    def check(value: Any) -> list[Fault] | None:
        if type(value) is not list:
            return [((), "structure", "must be an array")]
        if not value:
            return [((), "structure", "must not be an empty array")]
        faults: list[Fault] | None = None
        for place, item in enumerate(value):
            found = None if nulls and item is None else one(item)
            if found:
                faults = _prefixed(faults, place, found)
                if len(faults) >= FAULT_LIMIT:
                    break
        if limit is not None and len(value) > limit:
            faults = [*(faults or ()), ((), "structure", f"has more than {limit} values")]
        return faults

    return check


def _check_reference_text(value: Any) -> list[Fault] | None:
    if type(value) is not str:
        return [((), "structure", "has the wrong JSON type")]
    match = _REFERENCE.fullmatch(value)
    if match is None:
        return [((), "value", "is no reference, such as Patient/1 or an absolute URL")]
    named = match[1] or match[2]
    if named is not None and named not in known_types():
        return [((), "value", "names no resource type of R4")]
    return None


@cache
def _reference_checker(targets: tuple[str, ...]) -> Checker:
    base = complex_checker("Reference")
    allowed = frozenset(targets)

    def check(node: Any) -> list[Fault] | None:
        found = base(node)
        if found or not allowed:
            return found
        text = node.get("reference", "")
        if text.partition("/")[0] not in allowed and _target_type(text) not in allowed | {None}:
            return [(("reference",), "value", "points to a type that is not allowed here")]
        named = node.get("type")
        if named is not None and named in known_types() and named not in allowed:
            return [(("type",), "value", "names a type that is not allowed here")]
        return None

    return check


def _target_type(text: str) -> str | None:
    """The resource type a reference text names, None when it tells none."""
    is_url = _URL.match(text) is not None
    match = _URL_TYPE.search(text) if is_url else _REFERENCE.fullmatch(text)
    if match is None:
        return None
    found = match[1] or (None if is_url else match[2])
    return found if found in known_types() else None


@cache
def _coded_checker(kind: str, value_set: str) -> Checker:
    base = complex_checker(kind)
    known = codes_of(value_set)
    if isinstance(known, str):
        return base
    allowed = frozenset((system, code) for system, codes in known.items() for code in codes)

    def check(node: Any) -> list[Fault] | None:
        found = base(node)
        if found:
            return found
        codings = node.get("coding", ()) if kind == "CodeableConcept" else (node,)
        if any((coding.get("system"), coding.get("code")) in allowed for coding in codings):
            return None
        return [((), "code-invalid", "has no code of its required value set")]

    return check
