"""The resource types the store serves and the search parameters it indexes, out of the definitions. Pure.

Parameters that say the same share one index: `phonetic` is `name`, `patient` is `subject` restricted to Patients,
`combo-code` is `code` and `component-code`. Source: HL7 FHIR R4 search parameter registry; Flag's status and
category are of R5, declared here for R4.
"""

from dataclasses import dataclass
from functools import cache

from pulseweir.fhir_store.definitions.tables import (
    ParameterRow,
    Root,
    ValuePath,
    codes_of,
    compartments,
    parameter_rows,
    served_types,
)

RESOURCE_TYPES = served_types()
_ITSELF = "{def}"
"""What R4 writes where a resource is in its own compartment."""
_EVERY = ("_tag", "_profile", "_security", "_source")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter of one type.

    Attributes:
        name: As the client writes it.
        kind: token, reference, date, string, quantity, uri, number, composite or special; id and updated for the
            two that need no index.
        key: Name of the index its values are in; "" when it is in several (`parts`) or in none.
        paths: Where its values stand; empty for a composite.
        target: Only references to this type count; None for all.
        targets: Types that its references may point to; none for any.
        parts: The parameters whose values together are this one's; empty for one with a key.
        roots: Places of a composite with its sides; empty for the others.
        code_systems: Systems that codes without one are of, so that `system|code` finds them.
    """

    name: str
    kind: str
    key: str = ""
    paths: tuple[ValuePath, ...] = ()
    target: str | None = None
    targets: tuple[str, ...] = ()
    parts: tuple["Parameter", ...] = ()
    roots: tuple[Root, ...] = ()
    code_systems: frozenset[str] = frozenset()


@cache
def parameters_of(resource_type: str) -> dict[str, Parameter]:
    """The search parameters of a type by name, `_id` and `_lastUpdated` not included."""
    rows = parameter_rows(resource_type)
    every = {name: row for name, row in parameter_rows("Resource").items() if name in _EVERY}
    places = {name: _places_of(row.paths) for name, row in rows.items() if row.paths}
    found: dict[str, Parameter] = {}
    narrow = {name: any(path.target for path in row.paths) for name, row in rows.items()}
    for name in sorted(places, key=lambda name: (narrow[name], len(places[name]), len(name), name)):
        found[name] = _indexed(resource_type, name, rows[name], found)
    for name, row in rows.items():
        if not row.paths:
            key = f"{resource_type}.{name}" if row.type == "composite" else ""
            found[name] = Parameter(name, row.type, key, roots=row.roots)
    for name, row in every.items():
        found[name] = Parameter(name, row.type, f"{resource_type}.{name}", row.paths)
    return {name: found[name] for name in [*rows, *every]}


def compartment_parameters(compartment: str, resource_type: str) -> tuple[str, ...]:
    """Names of the parameters that bind a type to a compartment; a resource is in it when any of them matches."""
    named = compartments().get(compartment, {}).get(resource_type, ())
    return tuple(name for name in named if name != _ITSELF)


def record_parameters(resource_type: str) -> tuple[str, ...]:
    """Names of the parameters that make something part of a patient's record: its compartment, and its own devices.

    R4 left Device out of the compartment; US Core, the g(10) tests and HAPI take a device by its patient as part of
    the record. It is so for `$everything` and exports alone: what a caller may see goes by R4's compartment.
    """
    return ("patient",) if resource_type == "Device" else compartment_parameters("Patient", resource_type)


Place = tuple[tuple[str, ...], str, bool]


def _places_of(paths: tuple[ValuePath, ...]) -> frozenset[Place]:
    return frozenset((path.members, path.type, path.truth) for path in paths)


def _indexed(resource_type: str, name: str, row: ParameterRow, found: dict[str, Parameter]) -> Parameter:
    """The parameter, on the indexes that are there already where they hold its values."""
    own = _places_of(row.paths)
    narrowed = {path.target for path in row.paths}
    target = next(iter(narrowed)) if len(narrowed) == 1 else None
    if any(path.type == "Resource" for path in row.paths) and row.targets:
        # A resource inside is led to by its type and id, and is of one type: a message is no document.
        return Parameter(name, row.type, f"{resource_type}.{name}", row.paths, row.targets[0], row.targets)
    same_kind = [each for each in found.values() if each.kind == row.type and each.key and each.target is None]
    parts: list[Parameter] = []
    for each in same_kind:
        theirs = _places_of(each.paths)
        if theirs == own and each.key == f"{resource_type}.{each.name}":
            return Parameter(name, row.type, each.key, row.paths, target, row.targets, (), (), each.code_systems)
        if theirs < own and each.key == f"{resource_type}.{each.name}":
            parts.append(each)
    systems = frozenset(system for path in row.paths if path.type == "code" for system in _systems(path))
    covered = frozenset(place for each in parts for place in _places_of(each.paths))
    if target is None and covered == own:
        return Parameter(name, row.type, "", row.paths, None, row.targets, tuple(parts), (), systems)
    key = f"{resource_type}.{name}"
    return Parameter(name, row.type, key, row.paths, target, row.targets, (), (), systems)


def _systems(path: ValuePath) -> tuple[str, ...]:
    known = codes_of(path.codes) if path.codes else {}
    return tuple(known) if isinstance(known, dict) else ()
