"""Steps 5, 7, 13: what a FHIR server's answer says: success, refusal, or nothing that can be believed. Pure.

Source: HL7 FHIR R4, RESTful API, http://hl7.org/fhir/R4/http.html.
"""

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from pulseweir.clock import to_microseconds
from pulseweir.errors import FhirConflict, FhirRefused, FhirUnavailable

Json = dict[str, Any]
_OUTCOME = "OperationOutcome"
_LATER = frozenset({408, 429})
_NOT_SUPPORTED = 501
_TOO_LARGE = 413
_MISSING_STATUSES = frozenset({404, 409, 412})
# Not all servers keep to a status: HAPI refuses with 400, and calls deleted what it is just about to store.
_MISSING = re.compile(r"not found|not known|does not exist|is deleted|unknown reference|referential", re.IGNORECASE)
_TOO_LARGE_CODES = frozenset({"too-long", "too-costly"})
_DAY_SECONDS = 86_400.0
_DECODER = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class BundleAnswer:
    """What became of one entry of a batch or transaction.

    Attributes:
        status: HTTP status of the entry.
        resource: The resource, where the server sent one.
        etag: Entity tag of the stored version, such as ``W/"3"``.
        outcome: OperationOutcome, where the server sent one.
        retry_after_seconds: How long the server asked to wait.
        is_whole: The bundle was refused as a whole; nothing is known about this entry alone.
        location: Where a resource was made, where the server says.
    """

    status: int
    resource: Json | None = None
    etag: str | None = None
    outcome: Json | None = None
    retry_after_seconds: float | None = None
    is_whole: bool = False
    location: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether the entry succeeded: a success status, and no error told beside it."""
        return 200 <= self.status < 300 and (self.outcome is None or not has_error(self.outcome))

    @property
    def is_worth_retrying(self) -> bool:
        """Whether the same entry may succeed later."""
        is_contradiction = 200 <= self.status < 300 and not self.is_done
        return is_contradiction or may_pass(self.status)

    @property
    def is_too_large(self) -> bool:
        """Whether the bundle was refused because it holds too much."""
        codes = {str(issue.get("code")) for issue in _issues(self.outcome)}
        return self.is_whole and (self.status == _TOO_LARGE or bool(codes & _TOO_LARGE_CODES))

    @property
    def lacks_reference(self) -> bool:
        """Whether it was refused for something it refers to that is not there, as servers put it; it may come."""
        is_refused = 400 <= self.status < 500
        return self.status in _MISSING_STATUSES or (is_refused and bool(_MISSING.search(self.issue_text)))

    @property
    def issue_text(self) -> str:
        """What the outcome says, "" when it says nothing; it may quote what was sent."""
        return outcome_text(self.outcome)

    @property
    def issue_expression(self) -> str | None:
        """The element the outcome blames, None when it names none."""
        return _expression_of(self.outcome)


class _ResponsePart(msgspec.Struct):
    status: str | int = ""
    etag: str | None = None
    location: str | None = None
    outcome: Json | None = None
    retryAfter: str | int | None = None  # noqa: N815 - as some servers write it


class EntryPart(msgspec.Struct):
    """``Bundle.entry`` of an answer."""

    response: _ResponsePart = msgspec.field(default_factory=_ResponsePart)
    resource: Json | None = None


class _BundlePart(msgspec.Struct):
    resourceType: str = ""  # noqa: N815 - as FHIR writes it
    entry: list[EntryPart] = msgspec.field(default_factory=list)


_BUNDLE_DECODER = msgspec.json.Decoder(_BundlePart)


def may_pass(status: int) -> bool:
    """Whether a request that was answered so may succeed later."""
    return status in _LATER or (status >= 500 and status != _NOT_SUPPORTED)


def has_error(outcome: Json) -> bool:
    """Whether an OperationOutcome reports an error, rather than only warnings or information."""
    return any(issue.get("severity") in {"error", "fatal"} for issue in _issues(outcome))


def outcome_text(outcome: Json | None) -> str:
    """The sentences of an OperationOutcome, "" when there is none; they may quote what was sent."""
    texts: list[object] = []
    for issue in _issues(outcome):
        details = issue.get("details")
        said = details.get("text") if isinstance(details, dict) else None
        texts.append(said or issue.get("diagnostics") or issue.get("code"))
    return " ".join(str(text) for text in texts if text)[:500]


def _issues(outcome: Json | None) -> list[Json]:
    found = (outcome or {}).get("issue")
    return [issue for issue in found if isinstance(issue, dict)] if isinstance(found, list) else []


def issue_codes(outcome: Json | None) -> str:
    """The issue codes of an outcome, in brackets for the end of a sentence; never its free text."""
    codes = [str(issue.get("code")) for issue in _issues(outcome) if issue.get("code")]
    return f" ({', '.join(codes)[:100]})" if codes else ""


def _expression_of(outcome: Json | None) -> str | None:
    found = [issue.get("expression") or issue.get("location") for issue in _issues(outcome)]
    paths = [path for listed in found if isinstance(listed, list) for path in listed]
    return str(paths[0])[:200] if paths else None


def check_accepted(status: int, content: bytes, resource_type: str) -> None:
    """Nothing, when an answer is a success.

    Raises:
        FhirConflict: 409 or 412.
        FhirRefused: Any other refusal.
    """
    if status < 300:
        return
    outcome = outcome_of(content)
    kind = FhirConflict if status in {409, 412} else FhirRefused
    text = outcome_text(outcome) or "no reason given."
    raise kind(status, resource_type, text, expression=_expression_of(outcome))


def resource_of(content: bytes, resource_type: str) -> Json:
    """The resource in a success.

    Raises:
        FhirUnavailable: The body is cut off, is no JSON, or reports an error instead of being the resource.
    """
    resource = decoded(content)
    if resource is None:
        raise FhirUnavailable("sent an answer that is no JSON object or is cut off")
    if resource.get("resourceType") != resource_type:
        codes = issue_codes(resource) if resource.get("resourceType") == _OUTCOME else ""
        raise FhirUnavailable(f"sent something else than the {resource_type} asked for{codes}")
    return resource


def bundle_of(content: bytes) -> list[EntryPart]:
    """The entries of an answering Bundle, read without building what nobody asks for.

    Raises:
        FhirUnavailable: As `resource_of`.
    """
    try:
        bundle = _BUNDLE_DECODER.decode(content)
    except (msgspec.DecodeError, RecursionError, ValueError):
        bundle = _BundlePart()
    if bundle.resourceType != "Bundle":
        resource_of(content, "Bundle")
        raise FhirUnavailable("sent a Bundle that is malformed")
    return bundle.entry


def decoded(content: bytes) -> Json | None:
    """The JSON object in a body, None when it holds none."""
    try:
        body = _DECODER.decode(content)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def outcome_of(content: bytes) -> Json | None:
    """The OperationOutcome in a body, None when it holds none."""
    body = decoded(content)
    return body if body is not None and body.get("resourceType") == _OUTCOME else None


def bundle_answer(entry: EntryPart, now_microseconds: int) -> BundleAnswer:
    """What one entry of an answering Bundle says."""
    response = entry.response
    status = str(response.status)[:3]
    return BundleAnswer(
        int(status) if status.isdecimal() else 500,
        entry.resource,
        entity_tag(response.etag) if response.etag else None,
        response.outcome,
        retry_after(str(response.retryAfter), None, now_microseconds) if response.retryAfter is not None else None,
        location=response.location,
    )


def entity_tag(text: str) -> str:
    """An entity tag, also of a bare version, which some servers write in the entries of a Bundle.

    >>> entity_tag("3"), entity_tag('W/"3"')
    ('W/"3"', 'W/"3"')
    """
    return text if '"' in text else f'W/"{text}"'


def retry_after(text: str | None, answered_at: str | None, now_microseconds: int) -> float | None:
    """Seconds of a Retry-After in either form, None when it is neither; a day at most.

    Args:
        text: The header.
        answered_at: The answer's own Date header: a date is measured from it, so that clocks need not agree.
        now_microseconds: What it is measured from where the answer has none.
    """
    if not text:
        return None
    if text.strip().isdecimal():
        return min(float(text), _DAY_SECONDS)
    until = _http_date(text)
    if until is None:
        return None
    since = _http_date(answered_at or "")
    return min(max(0.0, (until - (now_microseconds if since is None else since)) / 1_000_000), _DAY_SECONDS)


def _http_date(text: str) -> int | None:
    try:
        return to_microseconds(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
