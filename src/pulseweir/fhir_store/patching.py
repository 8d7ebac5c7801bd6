"""Patches of a resource: JSON Patch and JSON Merge Patch, on its text, so that untouched digits stay. Pure.

Source: RFC 6902, RFC 7396; HL7 FHIR R4, http://hl7.org/fhir/R4/http.html#patch.
"""

import json
from codecs import BOM_UTF8
from dataclasses import dataclass
from typing import Any

import jsonpatch
import jsonpointer
import msgspec

from pulseweir.fhir_store.json_text import Document, check_depth, parse_object
from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.validation import expression

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH)
_LENIENT_TYPES = frozenset({"application/json", "text/json", ""})
_OPERATION_LIMIT = 1_000
_COPIED_LIMIT = 100_000
"""Most values that the copy operations of one patch may add: each may double the resource."""


class _Number(float):
    """A number that remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> "_Number":
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __deepcopy__(self, memo: Any) -> "_Number":
        return self


@dataclass(frozen=True, slots=True)
class Patch:
    """What a request changes.

    Attributes:
        operations: Of a JSON Patch; None for a merge patch.
        merged: Of a merge patch.
    """

    operations: list[Any] | None
    merged: Json

    @property
    def tests(self) -> bool:
        """Whether its outcome tells a value of the resource."""
        return any(isinstance(each, dict) and each.get("op") == "test" for each in self.operations or ())


def read_patch(content_type: str, body: bytes, settings: FhirStoreSettings) -> Patch:
    """Read the body of a PATCH.

    Clients in use send a merge patch as ``application/json``, which counts as one here.

    Raises:
        Refusal: 415 for another content type, 400 when the body is none of that type.
    """
    body = body.removeprefix(BOM_UTF8)
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in PATCH_TYPES and kind not in _LENIENT_TYPES:
        raise Refusal(415, "not-supported", f"Send the patch as {JSON_PATCH} or {MERGE_PATCH}.", "http.Content-Type")
    if kind == JSON_PATCH or (kind in _LENIENT_TYPES and body.lstrip()[:1] == b"["):
        return Patch(_read_operations(body, settings), {})
    document = parse_object(body)
    check_depth(document.tree, document.text, settings.maximum_depth_levels)
    return Patch(None, _with_digits(document.text))


def patch_text(text: bytes, resource_type: str, patch: Patch) -> Document:
    """The text of a resource with the patch applied; nothing of the result is checked but that it is an object.

    Raises:
        Refusal: 422 when an operation cannot be done or a test fails, 400 when one makes no sense.
    """
    tree = _with_digits(text)
    found = _merge(tree, patch.merged) if patch.operations is None else _apply(tree, resource_type, patch.operations)
    if not isinstance(found, dict):
        raise Refusal(422, "business-rule", "The patch would leave no resource.", resource_type)
    patched = msgspec.json.encode(_raw(found))
    return Document(msgspec.json.decode(patched), patched)


def _read_operations(body: bytes, settings: FhirStoreSettings) -> list[Any]:
    # An object around it, so that one reader holds all bodies to the same rules.
    document = parse_object(b'{"patch":' + body + b"}")
    operations = document.tree.get("patch")
    if not isinstance(operations, list) or len(document.tree) != 1:
        raise Refusal(400, "structure", "A JSON Patch is one array of operations.", "Resource")
    if len(operations) > _OPERATION_LIMIT:
        raise Refusal(
            400, "too-costly", f"A patch may have {_OPERATION_LIMIT} operations at most; send several.", "Resource"
        )
    check_depth(document.tree, document.text, settings.maximum_depth_levels)
    return list(_with_digits(document.text)["patch"])


def _apply(tree: Any, resource_type: str, operations: list[Any]) -> Any:
    left = _COPIED_LIMIT
    for place, operation in enumerate(operations):
        where = f"Operation {place + 1} of the patch"
        try:
            if isinstance(operation, dict) and operation.get("op") == "copy" and isinstance(operation.get("from"), str):
                left -= _values_in(jsonpointer.resolve_pointer(tree, operation["from"]))
                if left < 0:
                    raise Refusal(400, "too-costly", f"{where} copies too much.", _path(resource_type, operation))
            tree = jsonpatch.apply_patch(tree, [operation], in_place=True)
        except jsonpatch.InvalidJsonPatch:
            path = _path(resource_type, operation)
            raise Refusal(400, "invalid", f"{where} is none that JSON Patch knows.", path) from None
        except jsonpatch.JsonPatchTestFailed:
            path = _path(resource_type, operation)
            raise Refusal(422, "business-rule", f"{where} tests a value that is another.", path) from None
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException):
            path = _path(resource_type, operation)
            raise Refusal(422, "invalid", f"{where} has a path that leads nowhere.", path) from None
    return tree


def _path(resource_type: str, operation: Any) -> str:
    """The place of an operation as FHIRPath, as far as it is made of names and positions."""
    steps: list[str | int] = []
    text = operation.get("path", "") if isinstance(operation, dict) else ""
    for part in str(text).split("/")[1:]:
        if part.isascii() and part.isdigit() and len(part) < 10:
            steps.append(int(part))
        elif part.isidentifier() and len(part) <= 64:
            steps.append(part)
        else:
            break
    return expression(resource_type, steps)


def _merge(target: Any, patch: Any) -> Any:
    """JSON Merge Patch as RFC 7396 defines it."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


def _with_digits(text: bytes) -> Json:
    found: Json = json.loads(text, parse_float=_Number, parse_int=_Number)
    return found


def _raw(node: Any) -> Any:
    """The tree with every number as it was written."""
    if isinstance(node, dict):
        return {name: _raw(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_raw(item) for item in node]
    return msgspec.Raw(node.text.encode()) if isinstance(node, _Number) else node


def _values_in(node: Any) -> int:
    if isinstance(node, dict):
        return 1 + sum(_values_in(value) for value in node.values())
    return 1 + sum(_values_in(item) for item in node) if isinstance(node, list) else 1
