"""References that must lead somewhere: what strict validation asks of a resource once it is stored."""

from collections.abc import Iterator
from typing import Any

from pulseweir.fhir_store.definitions.tables import served_types
from pulseweir.fhir_store.outcomes import Issue, Json, Refusal
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.validation import expression


def literal_references(tree: Json) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """(reference, path) of every relative reference in a resource, those of contained resources too."""
    yield from _walk(tree, ())


def check_references(session: WriteSession, tree: Json) -> None:
    """Nothing, if the store holds all that a resource points to.

    Raises:
        Refusal: 422 naming every reference to a resource that this server does not hold.
    """
    resource_type = tree["resourceType"]
    issues = []
    for text, path in literal_references(tree):
        target_type, _, rest = text.partition("/")
        target_id = rest.partition("/")[0]
        held = session.find(target_type, target_id) if target_type in served_types() else None
        if held is None or held.deleted:
            place = expression(resource_type, path)
            issues.append(Issue("not-found", f"{place} points to a resource that this server does not hold.", place))
    if issues:
        raise Refusal(422, issues[0].code, issues[0].text, issues=issues[:50])


def _walk(node: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "reference" and isinstance(value, str):
                if "/" in value and ":" not in value and not value.startswith("#"):
                    yield value, (*path, name)
            else:
                yield from _walk(value, (*path, name))
    elif isinstance(node, list):
        for place, item in enumerate(node):
            yield from _walk(item, (*path, place))
