"""Binaries as what they are: stored from a raw body, and read with a content type of their own. Pure.

Source: HL7 FHIR R4, http://hl7.org/fhir/R4/binary.html#rest.
"""

import base64
import binascii
import re

import msgspec

from pulseweir.fhir_store.outcomes import Answer, Json, Refusal

_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+\-]{1,127}/[A-Za-z0-9!#$&^_.+\-]{1,127}", re.ASCII)
_PARAMETERS = re.compile(r"[\x20-\x7e]*", re.ASCII)
_PROTECTION = {"x-content-type-options": "nosniff", "content-security-policy": "default-src 'none'; sandbox"}
"""What a client stored is never run as a page of this server."""


def is_write(method: str, segments: list[str]) -> bool:
    """Whether a request's body may be the content of a Binary."""
    return segments[:1] == ["Binary"] and ((method == "POST" and len(segments) == 1) or method == "PUT")


def is_read(method: str, segments: list[str]) -> bool:
    """Whether a request reads one Binary, or a version of one."""
    is_version = len(segments) == 4 and segments[2] == "_history"
    return segments[:1] == ["Binary"] and method == "GET" and (len(segments) == 2 or is_version)


def is_media_type(text: str) -> bool:
    """Whether a Content-Type names the type of some content, such as image/png."""
    kind, _, parameters = text.partition(";")
    # Blanks only: a line break would end the header that the type is sent in.
    return _TYPE.fullmatch(kind.strip(" \t")) is not None and _PARAMETERS.fullmatch(parameters) is not None


def binary_of(content: bytes, content_type: str, resource_id: str | None, security_context: str | None) -> bytes:
    """The text of the Binary with this content.

    Args:
        content: The raw body.
        content_type: What the request says it is.
        resource_id: Of the URL; None for a create.
        security_context: The X-Security-Context header: whose rights it follows, as a reference; None for none.
    """
    tree: Json = {"resourceType": "Binary"}
    if resource_id is not None:
        tree["id"] = resource_id
    tree["contentType"] = content_type
    if security_context is not None:
        tree["securityContext"] = {"reference": security_context}
    if content:
        tree["data"] = base64.b64encode(content).decode()
    return msgspec.json.encode(tree)


def as_itself(answer: Answer, accepted: tuple[str, ...], *, or_json: bool) -> Answer:
    """The content of a Binary that was read, if its type is one of those accepted.

    Args:
        answer: The Binary as JSON.
        accepted: Media types, lower-case, without parameters.
        or_json: Whether the client takes JSON else.

    Raises:
        Refusal: 406 when the client takes neither the Binary's type nor JSON.
    """
    if answer.status != 200 or not answer.body:
        return answer
    tree = msgspec.json.decode(answer.body)
    # Without validation there may be anything.
    content_type, data = tree.get("contentType"), tree.get("data", "")
    content_type = content_type if isinstance(content_type, str) else ""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in accepted and is_media_type(content_type):
        try:
            content = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError, TypeError):
            content = None
        if content is not None:
            return Answer(200, content, answer.headers | _PROTECTION | {"content-type": content_type})
    if not or_json:
        raise Refusal(406, "not-supported", "The Binary is of another type; accept it, or application/fhir+json.")
    return answer
