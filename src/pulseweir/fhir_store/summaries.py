"""Parts of resources: what ``_summary`` and ``_elements`` leave of one, marked as SUBSETTED. Pure.

Source: http://hl7.org/fhir/R4/search.html#summary, #elements.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import msgspec

from pulseweir.fhir_store.definitions.tables import Element, elements_of, is_complex, json_names
from pulseweir.fhir_store.outcomes import Refusal

Members = dict[str, msgspec.Raw]
_ALWAYS = frozenset({"resourceType", "id", "meta", "implicitRules"})
_MEMBERS = msgspec.json.Decoder(Members)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_SUBSETTED = b'{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}'


@dataclass(frozen=True, slots=True)
class Shape:
    """What is shown of resources.

    Attributes:
        summary: "true", "text" or "data"; "" for all.
        elements: Elements asked for: "subject" of what matches, "Observation.subject" of every Observation.
    """

    summary: str = ""
    elements: tuple[str, ...] = ()

    def apply(self, text: bytes, resource_type: str, *, is_match: bool = True) -> bytes:
        """The part of a resource's text that is to be shown; all other text stays as it was, digits and all."""
        named = frozenset(
            name for each in self.elements for owner, name in [_owned(each)] if owner in {"", resource_type}
        )
        is_cut = any(is_match if "." not in each else each.startswith(f"{resource_type}.") for each in self.elements)
        if not (self.summary or (is_cut and named)):
            return text
        members = _MEMBERS.decode(text)
        if self.summary == "data":
            members.pop("text", None)
        elif self.summary == "text":
            members = _kept(members, resource_type, lambda _, element: element.min > 0, frozenset({"text"}))
        elif self.summary == "true":
            members = _summary(members, resource_type)
        if is_cut and named:
            members = _kept(members, resource_type, lambda _, element: element.min > 0 or element.modifier, named)
        members["meta"] = _marked(members.get("meta"))
        return msgspec.json.encode(members)


def read_shape(pairs: Iterable[tuple[str, str]]) -> Shape | None:
    """What a read or a history shows by its `_summary` and `_elements`; None for all.

    Raises:
        Refusal: 400 for a summary that a resource does not have.
    """
    summary, elements = "", list[str]()
    for name, text in pairs:
        if name == "_summary" and text:
            if text not in {"true", "text", "data", "false"}:
                raise Refusal(
                    400,
                    "invalid",
                    "_summary is true, text, data or false; count is for searches only.",
                    "http._summary",
                )
            summary = "" if text == "false" else text
        elif name == "_elements":
            elements += read_elements(text)
    return Shape(summary, tuple(elements)) if summary or elements else None


def read_elements(text: str) -> list[str]:
    """The elements that one `_elements` names."""
    return [name for name in map(str.strip, text.split(",")) if name]


def _owned(element: str) -> tuple[str, str]:
    owner, dot, name = element.partition(".")
    return (owner, name.partition(".")[0]) if dot else ("", owner)


Test = Callable[[str, Element], bool]


@cache
def _elements(type_name: str) -> dict[str, tuple[str, Element]]:
    """(name in the definition, element) by JSON member."""
    found = {}
    for name, element in elements_of(type_name).items():
        for member in json_names(name, element):
            found[member] = found[f"_{member}"] = (name, element)
    return found


def _kept(members: Members, type_name: str, test: Test, named: frozenset[str]) -> Members:
    known = _elements(type_name)
    kept = {}
    for member, value in members.items():
        name, element = known.get(member, (member, None))
        is_named = member.removeprefix("_") in named or name.removesuffix("[x]") in named
        if member in _ALWAYS or is_named or (element is not None and test(member, element)):
            kept[member] = value
    return kept


def _summary(members: Members, type_name: str) -> Members:
    known = _elements(type_name)
    kept = {}
    for member, value in members.items():
        _, element = known.get(member, ("", None))
        if member in _ALWAYS:
            kept[member] = value
        elif element is not None and element.summary:
            part = element.types[0] if len(element.types) == 1 else ""
            # Only parts of the resource itself say which of their elements belong to the summary.
            kept[member] = _part(value, part) if "." in part and is_complex(part) else value
    return kept


def _part(value: msgspec.Raw, type_name: str) -> msgspec.Raw:
    text = bytes(value).lstrip()
    if text.startswith(b"["):
        items = [_part(item, type_name) for item in _ITEMS.decode(text)]
        return msgspec.Raw(msgspec.json.encode(items))
    if not text.startswith(b"{"):
        return value
    return msgspec.Raw(msgspec.json.encode(_summary(_MEMBERS.decode(text), type_name)))


def _marked(meta: msgspec.Raw | None) -> msgspec.Raw:
    members = _MEMBERS.decode(meta) if meta is not None else {}
    # Without validation there may be anything.
    held = bytes(members.get("tag", b"[]"))
    tags = _ITEMS.decode(held) if held.startswith(b"[") else []
    if not any(b'"SUBSETTED"' in bytes(tag) for tag in tags):
        tags.append(msgspec.Raw(_SUBSETTED))
    members["tag"] = msgspec.Raw(msgspec.json.encode(tags))
    return msgspec.Raw(msgspec.json.encode(members))
