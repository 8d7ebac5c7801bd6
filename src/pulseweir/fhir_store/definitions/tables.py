"""The tables of this directory, read when they are first asked for. Pure but for that reading.

Source: HL7 FHIR R4 definitions, http://hl7.org/fhir/R4; see `make_definitions`.
"""

import hashlib
from functools import cache
from pathlib import Path

import msgspec

_HERE = Path(__file__).parent


class Element(msgspec.Struct, frozen=True, gc=False):
    """One element of a type.

    Attributes:
        types: Data types it may have; a part of a resource has its path as type, such as "Observation.component".
        min: Fewest values.
        max: Most values: "1", another number, or "*".
        summary: Whether `_summary=true` shows it.
        modifier: Whether it changes the meaning of others.
        targets: Types a Reference may point to; none for any.
        codes: Name of the value set whose codes alone are allowed; None without a required binding.
    """

    types: tuple[str, ...]
    min: int = 0
    max: str = "1"
    summary: bool = False
    modifier: bool = False
    targets: tuple[str, ...] = ()
    codes: str | None = None


class ValuePath(msgspec.Struct, frozen=True, gc=False, rename={"members": "path"}):
    """Where values of a search parameter stand in a resource.

    Attributes:
        members: JSON member names from the resource (or the composite's root) on; `name[0]` is the first item
            alone, `name[member=x]` only the items with that member.
        type: Data type of the value.
        target: Only references to this type count; None for all.
        codes: Value set of the codes found there, whose system a token search may name; None when they carry it.
        truth: Indexed is whether the element is there and not false.
    """

    members: tuple[str, ...]
    type: str
    target: str | None = None
    codes: str | None = None
    truth: bool = False


class Component(msgspec.Struct, frozen=True, gc=False):
    """One side of a composite parameter: its kind, and its values below the root."""

    type: str
    paths: tuple[ValuePath, ...]


class Root(msgspec.Struct, frozen=True, gc=False):
    """Where the sides of a composite parameter meet: a member of the resource, "" for the resource itself."""

    path: str
    components: tuple[Component, ...]


class ParameterRow(msgspec.Struct, frozen=True, gc=False):
    """One search parameter of one type.

    Attributes:
        type: token, reference, date, string, quantity, uri, number, composite or special.
        targets: Types a reference parameter points to.
        paths: Where its values stand; empty for a composite.
        roots: The places of a composite; empty for the others.
    """

    type: str
    targets: tuple[str, ...] = ()
    paths: tuple[ValuePath, ...] = ()
    roots: tuple[Root, ...] = ()


class _ElementTable(msgspec.Struct):
    resources: tuple[str, ...]
    primitives: dict[str, str]
    types: dict[str, msgspec.Raw]


class _ParameterTable(msgspec.Struct):
    served: tuple[str, ...]
    parameters: dict[str, dict[str, ParameterRow]]
    compartments: dict[str, dict[str, tuple[str, ...]]]


class _CodeTable(msgspec.Struct):
    codes: dict[str, dict[str, tuple[str, ...]] | str]


@cache
def _element_table() -> _ElementTable:
    return msgspec.json.decode((_HERE / "elements.json").read_bytes(), type=_ElementTable)


@cache
def _parameter_table() -> _ParameterTable:
    return msgspec.json.decode((_HERE / "parameters.json").read_bytes(), type=_ParameterTable)


@cache
def _code_table() -> dict[str, dict[str, tuple[str, ...]] | str]:
    return msgspec.json.decode((_HERE / "codes.json").read_bytes(), type=_CodeTable).codes


@cache
def parameters_digest() -> str:
    """A name for this version of the search parameters: an index made with another one must be made anew."""
    return hashlib.sha256((_HERE / "parameters.json").read_bytes()).hexdigest()


def served_types() -> tuple[str, ...]:
    """The resource types the store serves, by name."""
    return _parameter_table().served


@cache
def known_types() -> frozenset[str]:
    """Every concrete resource type of R4."""
    return frozenset(_element_table().resources)


def primitive_forms() -> dict[str, str]:
    """The regular expression of every primitive type, "" where R4 gives none."""
    return _element_table().primitives


@cache
def elements_of(type_name: str) -> dict[str, Element]:
    """The elements of a resource, a part of one, or a data type, in the order of the definition; choices as `x[x]`.

    >>> elements_of("Period")["start"].types
    ('dateTime',)
    """
    return msgspec.json.decode(_element_table().types[type_name], type=dict[str, Element])


def is_complex(type_name: str) -> bool:
    """Whether a type has elements of its own."""
    return type_name in _element_table().types


def json_names(name: str, element: Element) -> tuple[str, ...]:
    """The JSON members that may hold an element.

    >>> json_names("occurrence[x]", Element(("dateTime", "Period")))
    ('occurrenceDateTime', 'occurrencePeriod')
    """
    if not name.endswith("[x]"):
        return (name,)
    kinds = ("Quantity" if kind == "SimpleQuantity" else kind for kind in element.types)
    return tuple(name[:-3] + kind[0].upper() + kind[1:] for kind in kinds)


@cache
def reference_choices() -> dict[str, str]:
    """The JSON members of choices that hold a Reference, with the common name of each.

    >>> reference_choices()["valueReference"]
    'value'
    """
    return {
        f"{name[:-3]}Reference": name[:-3]
        for type_name in _element_table().types
        for name, element in elements_of(type_name).items()
        if name.endswith("[x]") and "Reference" in element.types
    }


def codes_of(value_set: str) -> dict[str, tuple[str, ...]] | str:
    """The codes of a value set by their system, or the name of the form that a code of it has."""
    return _code_table()[value_set]


def parameter_rows(resource_type: str) -> dict[str, ParameterRow]:
    """The search parameters of a type, or of `Resource`, by name."""
    return _parameter_table().parameters[resource_type]


def compartments() -> dict[str, dict[str, tuple[str, ...]]]:
    """The parameters that bind a type to a compartment, by compartment and type."""
    return _parameter_table().compartments
