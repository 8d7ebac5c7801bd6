"""Resources made by chance from the definitions: right in shape, with some of their parts then made wrong."""

import copy
import json
from random import Random
from typing import Any

from pulseweir.fhir_store.definitions.tables import Element, codes_of, elements_of, is_complex, json_names

Json = dict[str, Any]
SQL = "x' OR 1=1; DROP TABLE resource; --"
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 72.50, 10**30, -(10**400), 1e308, "", " ", "x", "1", "\0", "\x1f", "\ufeff", "\u2028"),
    *("é" * 70, "𝕏", "2023-02-30", "0000-01-01", "9999-12-31T23:59:60Z", "2024-01-01T25:00:00Z", "24:00:00", "final"),
    *("Patient/a", "Patient/a/_history/1", "Patient?identifier=x", "Patient?", "Patient?_id=a&_sort=x", "#", "#c"),
    *("urn:uuid:x", "urn:oid:1.2", "http://fhir.test/fhir/Patient/a", "http://[", "//", "a|b|c", SQL, "W10=", "%"),
    *([], [None], [[]], {}, {"id": "x"}, {"extension": []}, [{}], {"reference": "#c"}, {"resourceType": "Patient"}),
    *("<div>x</div>", '<div xmlns="http://www.w3.org/1999/xhtml"><a href="urn:uuid:x">x</a></div>', "<", "javascript:"),
)
_TEXTS = {
    "date": ("2024", "2024-02", "2024-02-29", "1900-01-01"),
    "dateTime": ("2024", "2024-02-29T10:00:00Z", "2024-02-29T23:59:59.999+14:00", "0001-01-01"),
    "instant": ("2024-02-29T10:00:00Z", "2024-02-29T10:00:00.123456-12:00", "9999-12-31T23:59:59Z"),
    "time": ("10:00:00", "23:59:59.5"),
    "uri": ("urn:uuid:6e5f0c5e-8f3c-4a5e-9a39-1f2bb6b3f6a1", "http://example.org/x", "x"),
    "url": ("http://example.org/x",),
    "canonical": ("http://example.org/x|1.0#y",),
    "oid": ("urn:oid:1.2.3",),
    "uuid": ("urn:uuid:6e5f0c5e-8f3c-4a5e-9a39-1f2bb6b3f6a1",),
    "id": ("a", "b", "c"),
    "code": ("x", "final"),
    "string": ("x", "Ann O'Neil", "a|b,c$d\\e", "%_"),
    "markdown": ("*x*",),
    "base64Binary": ("eHg=", ""),
    "xhtml": ('<div xmlns="http://www.w3.org/1999/xhtml">x</div>',),
}
_NUMBERS = {"integer": -1, "positiveInt": 1, "unsignedInt": 0}


def shaped(random: Random, resource_type: str, faults: int = 0) -> Json:
    """A resource with its required elements, some others, and so many parts replaced by something odd."""
    tree = {"resourceType": resource_type} | _members(random, resource_type, 4)
    for _ in range(faults):
        _spoil(random, tree)
    return tree


def as_json(random: Random, tree: Any) -> bytes:
    """JSON text, now and then with a byte or a member that JSON or FHIR forbids."""
    text = json.dumps(tree, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    if random.random() < 0.05:
        place = random.randrange(len(text) + 1)
        odd = random.choice(
            [b"\0", b"\xff", b"\xef\xbb\xbf", b'"id":"a",', b"1e400", b"\\ud800", b"\\u0000", b",", b"}"]
        )
        text = text[:place] + odd + text[place:]
    return text


def odd(random: Random) -> Any:
    """A value that hardly any element can have."""
    return copy.deepcopy(random.choice(ODD))


def _members(random: Random, type_name: str, depth: int) -> Json:
    tree: Json = {}
    for name, element in elements_of("Quantity" if type_name == "SimpleQuantity" else type_name).items():
        chance = 0.25 if depth > 2 else 0.12 if depth else 0.0
        if element.max == "0" or not (element.min or random.random() < chance):
            continue
        place = random.randrange(len(element.types)) if element.types else 0
        kind = element.types[place] if element.types else "string"
        value = _value(random, kind, element, depth - 1)
        tree[json_names(name, element)[min(place, len(json_names(name, element)) - 1)]] = (
            value if element.max == "1" else [value, *(copy.deepcopy(value) for _ in range(random.choice([0, 0, 1])))]
        )
    return tree


def _value(random: Random, kind: str, element: Element, depth: int) -> Any:
    if kind == "Resource":
        return shaped(random, random.choice(["Patient", "Basic", "Device", "Medication"])) | {"id": "c"}
    if kind == "Reference":
        target = random.choice(element.targets or ("Patient",))
        return random.choice([{"reference": f"{target}/a"}, {"reference": "#c"}, {"display": "x"}, {"type": target}])
    if kind == "Extension":
        return {"url": "http://example.org/x"} | random.choice([{"valueDecimal": 1.50}, {"valueCode": "x"}])
    if is_complex(kind) or kind == "SimpleQuantity":
        return _members(random, kind, depth)
    if element.codes is not None and not isinstance(codes_of(element.codes), str):
        known = codes_of(element.codes)
        assert isinstance(known, dict)
        return random.choice([code for codes in known.values() for code in codes])
    if kind == "boolean":
        return random.random() < 0.5
    if kind == "decimal":
        return random.choice([0, 72.50, 1e-7, -3])
    return _NUMBERS[kind] if kind in _NUMBERS else random.choice(_TEXTS.get(kind, ("x",)))


def _spoil(random: Random, tree: Any) -> None:
    node = tree
    while True:
        steps = list(node) if isinstance(node, dict) else list(range(len(node)))
        steps = [step for step in steps if step != "resourceType" or random.random() < 0.1]
        if not steps:
            return
        step = random.choice(steps)
        below = node[step]
        if isinstance(below, dict | list) and below and random.random() < 0.75:
            node = below
            continue
        match random.randrange(5):
            case 0 if isinstance(node, dict):
                node["_" + str(step)] = odd(random)
            case 1 if isinstance(node, dict):
                del node[step]
            case 2:
                node[step] = [below, odd(random)]
            case 3 if isinstance(node, dict):
                node[random.choice(["extension", "contained", "id", "value", "_id", "div", "x y"])] = odd(random)
            case _:
                node[step] = odd(random)
        return
