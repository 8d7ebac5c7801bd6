"""Contained resources, and the links between them and what contains them. Pure.

Source: HL7 FHIR R4, dom-2 to dom-5 and ref-1, http://hl7.org/fhir/R4/references.html#contained.
"""

from collections.abc import Iterator
from typing import Any

from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.primitives import Fault


def contained_faults(node: Json) -> Iterator[Fault]:
    """Faults of what a resource contains: nests, versions, labels, resources that nothing refers to."""
    referred = set(_local_texts(node))
    for place, inner in enumerate(node["contained"]):
        path = ("contained", place)
        if "contained" in inner:
            yield _broken("dom-2", (*path, "contained"), "a contained resource contains no other")
        meta = inner.get("meta", {})
        if "versionId" in meta or "lastUpdated" in meta:
            yield _broken("dom-4", (*path, "meta"), "a contained resource has no version")
        if "security" in meta:
            yield _broken("dom-5", (*path, "meta", "security"), "a contained resource has no security label")
        if f"#{inner.get('id')}" not in referred and "#" not in set(_local_texts(inner)):
            yield _broken("dom-3", path, "a contained resource is referred to from its container")


def lost_links(tree: Json) -> Iterator[Fault]:
    """References by # to what is not contained here; entries of a Bundle contain resources of their own."""
    yield from _lost(tree, (), _contained_ids(tree))


def may_link(text: bytes) -> bool:
    """Whether a JSON text may hold a reference to a contained resource."""
    return b'"#' in text or b"\\u00" in text


def _lost(node: Any, path: tuple[str | int, ...], held: frozenset[object]) -> Iterator[Fault]:
    if isinstance(node, list):
        for place, item in enumerate(node):
            yield from _lost(item, (*path, place), held)
    elif isinstance(node, dict):
        if path and path[-1] == "resource" and "resourceType" in node:
            held = _contained_ids(node)
        for name, value in node.items():
            if name == "reference" and isinstance(value, str) and "language" not in node:
                if value.startswith("#") and value != "#" and value[1:] not in held:
                    yield _broken("ref-1", (*path, name), "no resource of that id is contained")
            else:
                yield from _lost(value, (*path, name), held)


def _contained_ids(tree: Json) -> frozenset[object]:
    return frozenset(inner.get("id") for inner in tree.get("contained", ()))


def _local_texts(node: Any) -> Iterator[str]:
    """References within the resource: every text that starts with #."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name != "div":
                yield from _local_texts(value)
    elif isinstance(node, list):
        for item in node:
            yield from _local_texts(item)
    elif isinstance(node, str) and node.startswith("#"):
        yield node


def _broken(key: str, path: tuple[str | int, ...], text: str) -> Fault:
    return path, "invariant", f"breaks {key}: {text}"
