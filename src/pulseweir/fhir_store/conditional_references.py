"""References that are searches, such as ``Patient?identifier=system|value``: made ids by transactions only. Pure.

Source: HL7 FHIR R4, http://hl7.org/fhir/R4/http.html#transaction ("Conditional References").
"""

import re
from collections.abc import Iterator
from typing import Any

from pulseweir.fhir_store.definitions.tables import reference_choices
from pulseweir.fhir_store.outcomes import Issue, Json, Refusal

_CONDITIONAL = re.compile(r"/?[A-Z][A-Za-z]+/?\?", re.ASCII)
_MOST_NAMED = 50
_DATA = frozenset({"batch", "transaction"})
"""Bundles of these types are kept as they would be sent: their references are for whoever sends them."""


def refuse_conditional_references(tree: Json, text: bytes) -> None:
    """Nothing, if a resource that is to be stored refers to no other by a search.

    Args:
        tree: The resource.
        text: It as compact JSON text.

    Raises:
        Refusal: 422 naming each such reference: as a text it would lead nowhere.
    """
    # Nearly no resource has a question mark; one may be written as an escape.
    if not (b"?" in text or b"\\u003" in text):
        return
    root = str(tree["resourceType"])
    says = "is a conditional reference, which only a transaction resolves; send it in one, or refer to an id"
    issues = [Issue("not-supported", f"{place} {says}.", place) for place in _places(tree, root)][:_MOST_NAMED]
    if issues:
        raise Refusal(422, issues[0].code, issues[0].text, issues=issues)


def _places(node: Any, place: str) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("resourceType") == "Bundle" and node.get("type") in _DATA:
            return
        for name, value in node.items():
            if name == "reference" and isinstance(value, str):
                if _CONDITIONAL.match(value):
                    yield f"{place}.{name}"
            else:
                yield from _places(value, f"{place}.{reference_choices().get(name, name)}")
    elif isinstance(node, list):
        for number, item in enumerate(node):
            yield from _places(item, f"{place}[{number}]")
