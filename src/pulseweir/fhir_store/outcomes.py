"""Refusals and the OperationOutcome that tells the client why. Pure."""

import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from pulseweir.errors import RejectRecord

Json = dict[str, Any]
_UNNAMED = re.compile(r"[^\w:.\-*]")
_REQUEST_PLACES = {
    401: "http.Authorization",
    403: "http.Authorization",
    405: "http.method",
    406: "http.Accept",
    408: "Resource",
    413: "Resource",
    429: "http.Authorization",
}


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that is wrong or worth a note.

    Attributes:
        code: FHIR issue type, such as "structure" or "not-found".
        text: One sentence for a person; never patient data.
        expression: FHIRPath of the element at fault, such as "Observation.status"; None when there is none.
        severity: FHIR issue severity.
    """

    code: str
    text: str
    expression: str | None = None
    severity: str = "error"

    def to_json(self) -> Json:
        """The member of ``OperationOutcome.issue``."""
        issue: Json = {"severity": self.severity, "code": self.code, "details": {"text": self.text}}
        if self.expression:
            issue["expression"] = [self.expression]
        return issue


class Refusal(RejectRecord):
    """The request cannot be done as it stands; carries the HTTP status and the issues.

    Attributes:
        status: HTTP status code of the answer.
        issues: What is wrong, most important first.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        text: str,
        expression: str | None = None,
        *,
        issues: list[Issue] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.issues = issues or [Issue(code, text, expression)]
        self.headers = dict(headers or {})
        super().__init__(text, reason=code, expression=expression)

    def located(self, expression: str) -> "Refusal":
        """The refusal, its issues placed here where they name no place of their own.

        Of a request's parameters and headers R4 writes ``http.`` and the name (OperationOutcome.issue.location).
        """
        self.issues = [issue if issue.expression else replace(issue, expression=expression) for issue in self.issues]
        return self

    def outcome(self) -> Json:
        """The OperationOutcome of this refusal."""
        return operation_outcome(self.issues)


def parameter_place(name: str) -> str:
    """Where a refusal of a request's parameter lies, with what only a name has."""
    shown = _UNNAMED.sub("?", name[:64])
    return f"http.{shown}"


def raised_at(error: BaseException) -> str:
    """File and line where an error was raised; its own words could hold a patient's data."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""


@dataclass(slots=True)
class Answer:
    """One HTTP answer, ready to send.

    Attributes:
        status: HTTP status code.
        body: The JSON document, empty for none.
        headers: Headers besides content type and length, lower-case names.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def operation_outcome(issues: list[Issue]) -> Json:
    """An OperationOutcome with these issues."""
    return {"resourceType": "OperationOutcome", "issue": [issue.to_json() for issue in issues]}


def done_outcome(text: str) -> Json:
    """The OperationOutcome of something that went well."""
    return operation_outcome([Issue("informational", text, severity="information")])


def refusal_answer(refusal: Refusal) -> Answer:
    """The HTTP answer that carries a refusal; what names no place lies in the request, or in the server."""
    if refusal.status < 500:
        refusal.located(_REQUEST_PLACES.get(refusal.status, "http.url"))
    return Answer(refusal.status, msgspec.json.encode(refusal.outcome()), dict(refusal.headers))
