"""FHIRPath expressions of search parameters, as paths of JSON members. Pure.

Understood is what R4's parameters use: member paths, `as`, `.as()`, `.where(resolve() is T)`,
`.where(member='x')`, `.extension('url')`, an index, a member after a choice, and "exists and is not false".
A path is a list of member names; `name[0]` is the first item, `name[member=x]` keeps the items with that member.
"""

import re
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
Types = Mapping[str, Mapping[str, Json]]
"""Elements by name, by the type that owns them, as `elements.json` holds them."""

_CAST = re.compile(r"^\(?([\w.]+) as (\w+)\)?((?:\.\w+)*)$")
_DOT_CAST = re.compile(r"^([\w.]*?)\.?(\w+)\.as\((\w+)\)$")
_TARGET = re.compile(r"^([\w.]+)\.where\(resolve\(\) is (\w+)\)$")
_FILTER = re.compile(r"^([\w.]+)\.where\((\w+)='(\w+)'\)$")
_EXTENSION = re.compile(r"^\w+\.extension\('([^']+)'\)$")
_TRUTH = re.compile(r"^([\w.]+)\.exists\(\) and \1 != false$")
_PLAIN = re.compile(r"^[\w.\[\]]+$")


class NotUnderstoodError(Exception):
    """An expression of a form that `paths` does not know."""


def branches(expression: str) -> list[str]:
    """The alternatives of an expression: cut at bars outside brackets."""
    return [part.strip() for part in re.split(r"\|(?![^(]*\))", expression) if part.strip()]


def paths(expression: str, owner: str, types: Types) -> list[Json]:
    """Where the values of one alternative stand.

    Args:
        expression: One of `branches`.
        owner: The type it starts from; its name may stand first.
        types: All elements.

    Returns:
        One object a JSON path: `path`, `type` (data type of the value), `codes` (its required value set), and
        `target` (type a reference must point to) or `truth` (true unless absent or false) where that is asked.

    Raises:
        NotUnderstoodError: The expression has a form that this module does not know.
    """
    text = expression.strip()
    if match := _TRUTH.match(text):
        return [found | {"truth": True} for found in _resolve(match[1], None, owner, types)]
    if match := _TARGET.match(text):
        return [found | {"target": match[2]} for found in _resolve(match[1], None, owner, types)]
    if match := _FILTER.match(text):
        condition = f"[{match[2]}={match[3]}]"
        return [
            found | {"path": [*found["path"][:-1], found["path"][-1] + condition]}
            for found in _resolve(match[1], None, owner, types)
        ]
    if match := _EXTENSION.match(text):
        extension: Json = {"path": [f"extension[url={match[1]}]"], "type": "Extension"}
        return _step(extension, "value", None, types)
    if match := _CAST.match(text):
        found = _resolve(match[1], match[2], owner, types)
        rest = match[3].removeprefix(".")
        return [step for each in found for step in _step(each, rest, None, types)] if rest else found
    if match := _DOT_CAST.match(text):
        path = f"{match[1]}.{match[2]}".removeprefix(".")
        return _resolve(path, match[3], owner, types)
    if _PLAIN.match(text):
        return _resolve(text, None, owner, types)
    raise NotUnderstoodError(text)


def _resolve(text: str, cast: str | None, owner: str, types: Types) -> list[Json]:
    names = text.split(".")
    if names[0] == owner.partition(".")[0]:
        names = names[1:]
        inside = owner.split(".")[1:]
        if inside and names[: len(inside)] == inside:
            names = names[len(inside) :]
    found: list[Json] = [{"path": [], "type": owner}]
    for place, name in enumerate(names):
        wanted = cast if place == len(names) - 1 else None
        found = [step for each in found for step in _step(each, name, wanted, types)]
    if not found:
        raise NotUnderstoodError(text)
    return found


def _step(found: Json, name: str, cast: str | None, types: Types) -> list[Json]:
    plain, bracket, _ = name.partition("[")
    elements = types.get(found["type"], {})
    element = elements.get(plain) or elements.get(f"{plain}[x]")
    if element is None:
        raise NotUnderstoodError(f"{found['type']}.{name}")
    steps = []
    for kind in element["types"]:
        if cast is not None and kind.lower() != cast.lower():
            continue
        shown = "Quantity" if kind == "SimpleQuantity" else kind
        member = plain + shown[0].upper() + shown[1:] if f"{plain}[x]" in elements else plain
        step = {"path": [*found["path"], member + (bracket and "[0]")], "type": kind}
        if "codes" in element:
            step["codes"] = element["codes"]
        steps.append(step)
    return steps
