"""Bytes that are no good HTTP, over a real socket: an answer or the end, nothing stored, and the server goes on."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from served_store import served

BODY = b'{"resourceType":"Basic","id":"b","code":{"text":"x"}}'
JSON = b"Content-Type: application/fhir+json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
LIMIT = 8_192


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = FhirStoreSettings(maximum_body_bytes=LIMIT)
    store = FhirStore.open(tmp_path_factory.mktemp("wire"), Clock(), settings)
    try:
        with served(store) as url:
            yield url
    finally:
        store.close()


@pytest.fixture(autouse=True)
def _goes_on(base_url: str) -> Iterator[None]:
    """Whatever was sent: afterwards the server answers others, and holds nothing."""
    yield
    assert httpx.get(f"{base_url}/_search?_summary=count").json()["total"] == 0


def answer(base_url: str, *parts: bytes, is_cut: bool = False) -> bytes:
    """All that the server says to some bytes until it ends the connection; `is_cut`: they end too early."""
    url = httpx.URL(base_url)
    said = []
    with socket.create_connection((url.host, url.port or 80), timeout=20) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            if is_cut:
                with suppress(OSError):  # the server may have hung up first
                    connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                said.append(part)
        except ConnectionError:
            pass
    return b"".join(said)


def status(said: bytes) -> int:
    """The status of the first answer; 0 when the connection just ended."""
    return int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/1.1 ") else 0


def put(headers: bytes, *, path: bytes = b"/fhir/Basic/b") -> bytes:
    return b"PUT " + path + b" HTTP/1.1\r\nHost: fhir.test\r\nConnection: close\r\n" + JSON + headers + b"\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: -5\r\n",
        b"Content-Length: +53\r\n",
        b"Content-Length: 0x35\r\n",
        b"Content-Length: 5 3\r\n",
        b"Content-Length: 53, 53\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
        b"Content-Length: five\r\n",
        b"Content-Length: 53\r\nContent-Length: 7\r\n",
        b"Content-Length: 53\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"No colon here\r\n",
        b"Bad name: x\r\n",
        b"X: a\x00b\r\n" + LENGTH,
        b" folded: x\r\n" + LENGTH,
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(base_url: str, headers: bytes) -> None:
    said = answer(base_url, put(headers), BODY, is_cut=True)

    assert status(said) in {0, 400, 413, 501}, said[:200]


@pytest.mark.parametrize(
    "chunks",
    [
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"zz\r\nhello\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFFF\r\nhello",
        b"5\r\nhelloworld\r\n0\r\n\r\n",
        b"\r\n\r\n",
        b"1;" + b"x" * 1_000_000 + b"\r\n{\r\n0\r\n\r\n",
        b"1\r\n{\r\n" * 100 + b"0\r\n\r\n",
    ],
)
def test_chunks_that_do_not_add_up_are_refused(base_url: str, chunks: bytes) -> None:
    said = answer(base_url, put(b"Transfer-Encoding: chunked\r\n"), chunks, is_cut=True)

    assert status(said) in {0, 400, 413}, said[:200]


def test_chunks_beyond_the_limit_are_refused_before_they_end(base_url: str) -> None:
    chunk = b"400\r\n" + b" " * 1_024 + b"\r\n"

    said = answer(base_url, put(b"Transfer-Encoding: chunked\r\n"), *([chunk] * 200))

    assert status(said) in {0, 413}, said[:200]


def test_a_body_that_is_announced_too_long_is_refused_before_it_comes(base_url: str) -> None:
    said = answer(base_url, put(b"Content-Length: %d\r\n" % (LIMIT + 1)))

    assert status(said) == 413
    assert b'"code":"too-long"' in said


def test_a_body_that_ends_early_stores_nothing(base_url: str) -> None:
    said = answer(base_url, put(LENGTH), BODY[:-1], is_cut=True)

    assert status(said) in {0, 400}


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"gzip, gzip", b"x"])
def test_a_packed_body_is_refused(base_url: str, coding: bytes) -> None:
    said = answer(base_url, put(b"Content-Encoding: " + coding + b"\r\n" + LENGTH), BODY)

    assert status(said) == 415, said[:300]
    assert b'"resourceType":"OperationOutcome"' in said


@pytest.mark.parametrize(
    "headers",
    [
        b"X-%d: y\r\n",
        b'If-Match: W/"%d"\r\n',
        b"Prefer: return=minimal; %d\r\n",
        b"Accept: text/x%d\r\n",
        b"X-Forwarded-Host: h%d\r\n",
    ],
)
def test_bombs_of_headers_are_refused_or_harmless(base_url: str, headers: bytes) -> None:
    bomb = b"".join(headers % number for number in range(20_000))

    said = answer(base_url, b"GET /fhir/Basic/b HTTP/1.1\r\nHost: fhir.test\r\nConnection: close\r\n", bomb, b"\r\n")

    assert status(said) in {0, 400, 404, 406, 414, 431}, said[:200]


@pytest.mark.parametrize(
    "line", [b"GET /fhir/" + b"x" * 2_000_000, b"G" * 2_000_000, b"GET /fhir/Basic?_id=" + b"%61" * 900_000]
)
def test_an_endless_request_line_is_refused(base_url: str, line: bytes) -> None:
    said = answer(base_url, line, b" HTTP/1.1\r\nHost: fhir.test\r\nConnection: close\r\n\r\n")

    assert status(said) in {0, 400, 414, 431}, said[:200]


@pytest.mark.parametrize(
    "target",
    [
        b"/fhir/../../../etc/passwd",
        b"/fhir/Basic/../../../../etc/passwd",
        b"/fhir/Basic/..%2f..%2f..%2fetc%2fpasswd",
        b"/fhir/%2e%2e/%2e%2e/etc/passwd",
        b"/fhir/Basic/%252e%252e%252fetc",
        b"/fhir/Basic/\\..\\..\\x",
        b"/fhir/Basic/%c0%ae%c0%ae/",
        b"/fhir/Basic/a%00b",
        b"//etc/passwd",
        b"/fhir//../x",
        b"/fhirx/Basic",
        b"/FHIR/Basic/b",
        b"fhir/Basic",
        b"http://elsewhere.test/fhir/../x",
        b"/fhir/Basic/b%0d%0aX-Bad:%20y",
    ],
)
def test_no_path_over_the_wire_leads_anywhere_else(base_url: str, target: bytes) -> None:
    said = answer(base_url, b"GET " + target + b" HTTP/1.1\r\nHost: fhir.test\r\nConnection: close\r\n\r\n")

    assert status(said) in {400, 404}, said[:200]
    assert b"root:" not in said
    assert b"x-bad:" not in said.lower().split(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /fhir/metadata HTTP/9.9\r\nHost: x\r\n\r\n",
        b"\x00" * 10_000,
        b"\xff" * 10_000,
        b"{}" * 10_000,
        b"CONNECT fhir.test:443 HTTP/1.1\r\nHost: fhir.test\r\n\r\n",
        b"GET /fhir/metadata HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n",
        b'GET /fhir/metadata HTTP/1.1\r\nHost: x"><script>\r\nConnection: close\r\n\r\n',
    ],
)
def test_what_is_no_request_gets_no_success(base_url: str, text: bytes) -> None:
    said = answer(base_url, text, is_cut=True)

    assert status(said) in {0, 400, 404, 405, 505}, said[:200]


def test_a_switch_of_protocols_is_passed_over(base_url: str) -> None:
    head = b"GET /fhir/Basic/b HTTP/1.1\r\nHost: fhir.test\r\nConnection: Upgrade, close\r\nUpgrade: %b\r\n\r\n"

    for protocol in (b"websocket", b"h2c"):
        assert status(answer(base_url, head % protocol)) in {0, 400, 404, 426}


def test_a_method_in_a_header_counts_for_nothing(base_url: str) -> None:
    head = b"POST /fhir/Basic/b HTTP/1.1\r\nHost: fhir.test\r\nConnection: close\r\n" + JSON + LENGTH

    for name in (b"X-HTTP-Method-Override", b"X-Method-Override", b"X-HTTP-Method"):
        said = answer(base_url, head + name + b": PUT\r\n\r\n", BODY)
        assert status(said) == 405


def test_every_refusal_of_the_server_itself_is_an_outcome(base_url: str, tmp_path: Path) -> None:
    for target in (b"/", b"/fhirx", b"/fhir/Basic/a_b", b"/fhir/" + b"x" * 9_000):
        said = answer(base_url, b"GET " + target + b" HTTP/1.1\r\nHost: fhir.test\r\nConnection: close\r\n\r\n")
        assert b'"resourceType":"OperationOutcome"' in said, said[:200]


def test_an_answer_says_when_it_was_made(base_url: str) -> None:
    answered = httpx.get(f"{base_url}/metadata")

    assert parsedate_to_datetime(answered.headers["date"]).utcoffset() == timedelta(0)
