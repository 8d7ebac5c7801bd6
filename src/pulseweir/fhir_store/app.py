"""The store as an ASGI application: HTTP in, interactions, HTTP out.

Source: HL7 FHIR R4, RESTful API, http://hl7.org/fhir/R4/http.html.
"""

import asyncio
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

import msgspec
import structlog
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pulseweir.errors import RetryLater
from pulseweir.fhir_store.binary_content import is_read, is_write
from pulseweir.fhir_store.calls import Call
from pulseweir.fhir_store.export.answers import STATUS, answer_export, is_export
from pulseweir.fhir_store.export.exports import Exports
from pulseweir.fhir_store.forwarding import forwarded_origin, is_trusted
from pulseweir.fhir_store.negotiation import (
    PLAIN,
    Headers,
    check_content_type,
    content_as_binary,
    presentation,
    presented,
    read_form,
    read_headers,
    read_query,
)
from pulseweir.fhir_store.outcomes import Answer, Refusal, raised_at, refusal_answer
from pulseweir.fhir_store.parameters import RESOURCE_TYPES
from pulseweir.fhir_store.routes import answer_call
from pulseweir.fhir_store.security.access import Asked, reset_access, set_access
from pulseweir.fhir_store.security.caller import ANYBODY, Caller
from pulseweir.fhir_store.security.discovery import smart_configuration
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.security.limits import check_url
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.telemetry import FHIR_STORE_REFUSED

_JSON = b"application/fhir+json;charset=utf-8"
_HOST = re.compile(r"[A-Za-z0-9.\-_]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_SMART = ".well-known/smart-configuration"
_PUBLIC = frozenset({"metadata", _SMART})
"""Paths that answer without a token, so that a client learns how to get one."""
_TELLING = frozenset({"metadata", ""})
"""Paths that may answer with the CapabilityStatement: its own, and that of bundles."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9.\-_:]{1,128}")
_log = structlog.get_logger()


def create_app(
    store: FhirStore, *, base_url_path: str = "/fhir", guard: Guard | None = None, exports: Exports | None = None
) -> ASGIApp:
    """The FHIR server of one store, with `/livez` and `/readyz` beside it.

    The caller opens and closes the store.

    Args:
        store: Where the resources are.
        base_url_path: Path of the FHIR base URL.
        guard: Who says which caller a request has; none lets everybody do everything.
        exports: Bulk exports of the store; none makes them here.
    """
    endpoint = FhirEndpoint(store, base_url_path, guard or Guard(), exports or Exports(store))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        match scope["path"]:
            case "/livez":
                await JSONResponse({"status": "live"})(scope, receive, send)
            case "/readyz":
                ready = store.is_ready
                answer = JSONResponse({"status": "ready" if ready else "stopped"}, 200 if ready else 503)
                await answer(scope, receive, send)
            case _:
                await endpoint(scope, receive, send)

    return app


@dataclass(slots=True)
class FhirEndpoint:
    """Everything below the base URL, without a framework's cost per request."""

    store: FhirStore
    base_url_path: str
    guard: Guard
    exports: Exports
    _in_work: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every error leaves as an OperationOutcome."""
        try:
            answer = await self._answer(scope, receive)
        except Refusal as refusal:
            answer = refusal_answer(refusal)
        except RetryLater as error:
            answer = refusal_answer(Refusal(503, "transient", str(error), headers={"retry-after": "1"}))
        except Exception as error:  # noqa: BLE001 - a bug must not leave the client without an answer
            _log.error(
                "fhir_request_failed", error=type(error).__name__, method=scope["method"], place=raised_at(error)
            )
            answer = refusal_answer(Refusal(500, "exception", "The server failed on this request; see its log."))
        await _send(answer, send, with_body=scope["method"] != "HEAD")

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        headers = read_headers(scope["headers"])
        path = self._path(scope["path"])
        check_url(scope["path"].encode(), scope["query_string"], self.store.settings.limits)
        is_public = path in _PUBLIC
        caller = ANYBODY if is_public else await self.guard.caller(scope)
        self._check_room(caller)
        call = await self._call(scope, headers, receive, path)
        # Counted from here on: whoever sends a body slowly takes no place from others.
        self._check_room(caller)
        self._in_work += 1
        try:
            if is_public:
                answer = self._smart_configuration(call) if path == _SMART else await answer_call(self.store, call)
            else:
                answer = await self._audited(caller, call, scope)
        finally:
            self._in_work -= 1
        return presented(answer, call.look)

    def _check_room(self, caller: Caller) -> None:
        if self._in_work >= self.store.settings.limits.concurrent_requests and not caller.is_house:
            FHIR_STORE_REFUSED.labels("throttled").inc()
            text = "The server has too many requests in work; send this one again."
            raise Refusal(503, "throttled", text, headers={"retry-after": "1"})

    async def _audited(self, caller: Caller, call: Call, scope: Scope) -> Answer:
        """The answer to a call within its caller's rights, once it is certain that the audit tells of it."""
        access = self.guard.access(caller)
        if access.trail is not None:
            access.asked = _asked(call, scope)
        before = set_access(access)
        try:
            if is_export(call.segments):
                answer = await answer_export(self.exports, call, needs_token=not self.guard.is_open)
            else:
                answer = await answer_call(self.store, call)
        except Refusal as refusal:
            if refusal.status == 403:
                FHIR_STORE_REFUSED.labels("forbidden").inc()
            answer = refusal_answer(refusal)
        except RetryLater:
            raise
        except Exception:
            if access.trail is not None:
                access.outcome = "8"
                await access.trail.record(access)
            raise
        finally:
            reset_access(before)
        if access.trail is not None:
            if answer.status >= 400:
                access.outcome = "4"
            await access.trail.record(access)
        return answer

    def _path(self, path: str) -> str:
        base = self.base_url_path
        if path != base and not path.startswith(base + "/"):
            raise Refusal(404, "not-found", f"The FHIR base URL of this server ends in {base}.")
        return path[len(base) + 1 :]

    def _smart_configuration(self, call: Call) -> Answer:
        if call.method != "GET" or self.guard.is_open:
            raise Refusal(404, "not-found", "This server has no SMART configuration: it asks nobody who they are.")
        body = msgspec.json.encode(smart_configuration(self.guard.settings))
        return Answer(200, body, {"content-type": "application/json"})

    async def _call(self, scope: Scope, headers: Headers, receive: Receive, path: str) -> Call:
        query = read_query(scope["query_string"]) if scope["query_string"] else []
        # Files of an export are what they are, whatever the client accepts.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        segments = [segment for segment in path.split("/") if segment]
        is_file = path.startswith(STATUS)
        look = PLAIN if is_file else presentation(headers, query, is_binary=is_read(method, segments))
        body = b""
        if method in {"POST", "PUT", "PATCH"}:
            body = await _read_body(headers, receive, self.store.settings)
            if method == "POST" and segments[-1:] == ["_search"]:
                query += read_form(headers, body)
            elif is_write(method, segments):
                body = content_as_binary(headers, body, segments)
            elif method != "PATCH":
                check_content_type(headers)
        if method == "POST" and _is_compartment_form(segments):
            method, segments = "GET", segments[:3]
        return Call(
            method=method,
            segments=segments,
            query=query,
            headers=headers,
            body=body,
            base_url=self._base_url(scope, headers),
            security=self.guard.security if path in _TELLING else {},
            look=look,
        )

    def _base_url(self, scope: Scope, headers: Headers) -> str:
        if self.store.settings.public_base_url:
            return self.store.settings.public_base_url.rstrip("/")
        scheme, host = scope.get("scheme", "http"), headers.get("host", "localhost")
        trusted = self.store.settings.trusted_proxies
        if trusted and is_trusted((scope.get("client") or ("", 0))[0], trusted):
            told = forwarded_origin(headers, trusted)
            scheme, host = told[0] or scheme, told[1] or host
        if scheme not in {"http", "https"} or not _HOST.fullmatch(host):
            raise Refusal(400, "invalid", "The Host header names no host.")
        return f"{scheme}://{host}{self.base_url_path}"


def _is_compartment_form(segments: list[str]) -> bool:
    """Whether a form asks what GET would ask of a compartment, which R4 does not have and clients in use send."""
    return len(segments) == 4 and segments[3] == "_search" and (segments[2] == "*" or segments[2] in RESOURCE_TYPES)


def _asked(call: Call, scope: Scope) -> Asked:
    address = (scope.get("client") or ("", 0))[0]
    request_id = call.headers.get("x-request-id", "")
    request_id = request_id if _REQUEST_ID.fullmatch(request_id) else ""
    condition = parse_qsl(call.headers.get("if-none-exist", "").rpartition("?")[2], keep_blank_values=True)
    return Asked(call.method, call.segments, [*call.query, *condition], call.base_url, address, request_id)


async def _read_body(headers: Headers, receive: Receive, settings: FhirStoreSettings) -> bytes:
    limit = settings.maximum_body_bytes
    if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        unpacked = {"accept-encoding": "identity"}
        raise Refusal(
            415, "not-supported", "Send the body as it is, not packed.", "http.Content-Encoding", headers=unpacked
        )
    declared = headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_long(limit)
    try:
        async with asyncio.timeout(settings.limits.body_seconds):
            return await _whole_body(receive, limit)
    except TimeoutError:
        text = "The body took too long to arrive; send it faster, or less at once."
        raise Refusal(408, "timeout", text, headers={"connection": "close"}) from None


def _too_long(limit: int) -> Refusal:
    return Refusal(413, "too-long", f"The body is longer than {limit} bytes; send less at once.")


async def _whole_body(receive: Receive, limit: int) -> bytes:
    parts = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "incomplete", "The connection ended before the body did.")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_long(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(answer: Answer, send: Send, *, with_body: bool) -> None:
    headers = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in answer.headers.items()]
    if answer.status not in {204, 304}:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    if answer.body and "content-type" not in answer.headers:
        headers.append((b"content-type", _JSON))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})
