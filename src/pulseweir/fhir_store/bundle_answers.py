"""What entries of a batch or transaction are answered, and how a refusal names its entry."""

from email.utils import parsedate_to_datetime

import msgspec
import structlog

from pulseweir.clock import to_text
from pulseweir.errors import RetryLater
from pulseweir.fhir_store.bundle_entries import METHODS, Entry
from pulseweir.fhir_store.outcomes import Answer, Issue, Json, Refusal, operation_outcome, raised_at

_log = structlog.get_logger()


def refusal_of(error: Exception, entry: Entry) -> Refusal:
    """What an entry of a batch is answered that raised this; a fault of the server's own is told to its log."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, RetryLater):
        return Refusal(503, "transient", str(error))
    if isinstance(error, RecursionError):
        return Refusal(400, "too-costly", "The entry is nested too deeply; flatten it.")
    method = entry.request.method if entry.request.method in METHODS else ""
    _log.error("fhir_request_failed", error=type(error).__name__, method=method, place=raised_at(error))
    return Refusal(500, "exception", "The server failed on this entry; see its log.")


def answered(entry: Entry, answer: Answer, base_url: str) -> bytes:
    """The entry that carries the answer to a read."""
    response: Json = {"status": str(answer.status)}
    if "etag" in answer.headers:
        response["etag"] = answer.headers["etag"]
    if "last-modified" in answer.headers:
        changed = parsedate_to_datetime(answer.headers["last-modified"])
        response["lastModified"] = to_text(round(changed.timestamp()) * 1_000_000)
    found: Json = {}
    if answer.body and entry.request.method != "HEAD":
        if "etag" in answer.headers:
            found["fullUrl"] = f"{base_url}/{entry.path[0]}/{entry.path[1]}"
        found["resource"] = msgspec.Raw(answer.body)
    return msgspec.json.encode(found | {"response": response})


def placed(refusal: Refusal, entry: Entry) -> Refusal:
    """The refusal with the place of its entry, for a transaction that fails as a whole."""
    where = f"Bundle.entry[{entry.place}]"
    issues = []
    for issue in refusal.issues:
        within = f"{where}.resource.{issue.expression.partition('.')[2]}" if issue.expression else where
        if issue.expression and issue.expression.startswith("http."):
            # What a request of its own says in its URL and headers, an entry says in its request.
            within = f"{where}.request"
        path = issue.expression if issue.expression and issue.expression.startswith("Bundle.") else within
        issues.append(Issue(issue.code, f"{where}: {issue.text}", path.rstrip("."), issue.severity))
    return Refusal(refusal.status, issues[0].code, issues[0].text, issues=issues)


def refused(refusal: Refusal) -> bytes:
    """The entry that carries a refusal."""
    outcome = msgspec.json.encode(operation_outcome(refusal.issues))
    return b'{"response":{"status":"%d","outcome":' % refusal.status + outcome + b"}}"
