"""What a client sends and wants: content types, formats, form bodies.

Source: HL7 FHIR R4, http://hl7.org/fhir/R4/http.html#mime-type.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl

import msgspec

from pulseweir.fhir_store.binary_content import as_itself, binary_of, is_media_type
from pulseweir.fhir_store.outcomes import Answer, Refusal
from pulseweir.fhir_store.query import Pairs

Headers = Mapping[str, str]
"""The headers of a request by lower-case name."""
FHIR_JSON = "application/fhir+json"
FORM = "application/x-www-form-urlencoded"
_JSON_TYPES = frozenset({FHIR_JSON, "application/json", "text/json", ""})
_WANTED = {
    FHIR_JSON: FHIR_JSON,
    "json": FHIR_JSON,
    "*/*": FHIR_JSON,
    "application/*": FHIR_JSON,
    "text/*": "text/json",
    "application/json": "application/json",
    "text/json": "text/json",
}
_FIELD_LIMIT = 1_000
_KNOWN_LETTERS = 400
_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Presentation:
    """How an answer is written.

    Attributes:
        content_type: Its media type; "" when the client takes no JSON.
        is_pretty: Whether it is indented for a person.
        own_types: Media types of which the client takes a Binary's content rather than JSON.
    """

    content_type: str = FHIR_JSON
    is_pretty: bool = False
    own_types: tuple[str, ...] = ()


PLAIN = Presentation()


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers of a request; one that came several times is joined by commas, as HTTP has it."""
    found: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def presentation(headers: Headers, query: Pairs, *, is_binary: bool = False) -> Presentation:
    """What the client wants the answer to look like: `_format` before Accept, `_pretty`.

    Args:
        headers: Of the request.
        query: Of the request.
        is_binary: Whether a Binary is read, whose content the client may want as it is.

    Raises:
        Refusal: 406 when it wants none of what this server speaks.
    """
    named = next((text for name, text in query if name == "_format"), None)
    accept = headers.get("accept")
    is_pretty = any(pair == ("_pretty", "true") for pair in query)
    if named is None and accept in {None, "*/*", FHIR_JSON}:
        return Presentation(FHIR_JSON, is_pretty) if is_pretty else PLAIN
    # A plus sign in a query is a space once it is decoded.
    wanted = accept or "*/*" if named is None else named.replace("fhir json", "fhir+json")
    best, best_weight = "", 0.0
    others: dict[str, float] = {}
    for part in wanted.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        weight = _weight(parameters)
        if kind in _WANTED and weight > best_weight and not any(map(_is_other_release, parameters)):
            best, best_weight = _WANTED[kind], weight
        elif kind not in _WANTED and weight > 0:
            others[kind] = weight
    own = tuple(kind for kind in others if others[kind] >= best_weight) if is_binary and named is None else ()
    if best or own:
        return Presentation(best, is_pretty, own)
    place = "http.Accept" if named is None else "http._format"
    raise Refusal(406, "not-supported", f"This server speaks {FHIR_JSON} of FHIR 4.0 only.", place)


def _weight(parameters: list[str]) -> float:
    """How much a client wants a media type: its q, 0 for never."""
    for name, _, text in (each.partition("=") for each in parameters):
        if name.strip() == "q":
            return float(text) if _QUALITY.fullmatch(text.strip()) else 0.0
    return 1.0


def presented(answer: Answer, look: Presentation) -> Answer:
    """The answer as the client wants it to look.

    Raises:
        Refusal: 406 for a Binary of a type that it does not take.
    """
    if look is PLAIN or not answer.body:
        return answer
    if look.own_types:
        shown = as_itself(answer, look.own_types, or_json=bool(look.content_type))
        if shown is not answer:
            return shown
    if look.is_pretty:
        answer.body = msgspec.json.format(answer.body, indent=2)
    answer.headers.setdefault("content-type", f"{look.content_type or FHIR_JSON};charset=utf-8")
    return answer


def check_content_type(headers: Headers) -> None:
    """Nothing, if a body is JSON in UTF-8 of this release of FHIR.

    Raises:
        Refusal: 415 when it is not.
    """
    kind, *parameters = (piece.strip() for piece in headers.get("content-type", "").lower().split(";"))
    is_other = any(_is_other_release(each) or _is_other_charset(each) for each in parameters)
    if kind not in _JSON_TYPES or is_other:
        raise Refusal(415, "not-supported", f"Send {FHIR_JSON} of FHIR 4.0 in UTF-8.", "http.Content-Type")


def content_as_binary(headers: Headers, body: bytes, segments: list[str]) -> bytes:
    """The Binary that a raw body is the content of; a body that says it is JSON stays as it is.

    Raises:
        Refusal: 415 when it does not say what it is.
    """
    content_type = headers.get("content-type", "").strip()
    if content_type.partition(";")[0].strip().lower() in _JSON_TYPES:
        check_content_type(headers)
        return body
    if not is_media_type(content_type):
        raise Refusal(415, "not-supported", "Content-Type names no media type, such as image/png.", "http.Content-Type")
    named = segments[1] if len(segments) == 2 else None
    return binary_of(body, content_type, named, headers.get("x-security-context"))


def _is_other_release(parameter: str) -> bool:
    name, _, text = parameter.partition("=")
    return name == "fhirversion" and text.strip('"') not in {"4.0", "4.0.1"}


def _is_other_charset(parameter: str) -> bool:
    name, _, text = parameter.partition("=")
    return name == "charset" and text.strip('"') not in {"utf-8", "utf8", "us-ascii"}


def read_query(text: bytes) -> list[tuple[str, str]]:
    """The names and values of a URL's query.

    Raises:
        Refusal: 400 when there are absurdly many, or one is not UTF-8.
    """
    try:
        if text.count(b"&") < _FIELD_LIMIT:
            parts = text.decode("ascii").split("&")
            return [pair for part in parts for pair in (_known_part if len(part) <= _KNOWN_LETTERS else _part)(part)]
    except ValueError:
        pass
    raise Refusal(400, "structure", f"The query is not UTF-8, or has more than {_FIELD_LIMIT} parts.")


def _part(text: str) -> list[tuple[str, str]]:
    """The name and value of one part of a query; none of an empty one."""
    return parse_qsl(text, keep_blank_values=True, errors="strict")


_known_part = lru_cache(maxsize=4096)(_part)
"""Names, codes and patients come again and again."""


def read_form(headers: Headers, body: bytes) -> list[tuple[str, str]]:
    """The names and values of a search form.

    Raises:
        Refusal: 415 when the body is something else, 400 when it is no UTF-8 or has absurdly many fields.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind != FORM:
        raise Refusal(415, "not-supported", f"Send the search as {FORM}.", "http.Content-Type")
    try:
        return parse_qsl(
            body.removeprefix(BOM_UTF8).decode(), keep_blank_values=True, max_num_fields=_FIELD_LIMIT, errors="strict"
        )
    except ValueError:
        raise Refusal(400, "structure", f"The form is not UTF-8, or has more than {_FIELD_LIMIT} fields.") from None
