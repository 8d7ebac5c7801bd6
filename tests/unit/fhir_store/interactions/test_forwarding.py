"""Links begin with what a trusted proxy says, and with nothing that anybody else says.

Source: RFC 7239, section 4 and the examples of section 7.
"""

from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.forwarding import forwarded_origin, is_trusted
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

PROXY, INNER, CLIENT = "10.0.0.7", "10.0.0.8", "203.0.113.9"


async def base_of(folder: Path, headers: dict[str, str], address: str = PROXY, **settings: Any) -> tuple[int, str]:
    """Status of a search, and what its self link begins with."""
    store = FhirStore.open(folder, Clock(), FhirStoreSettings.model_validate(settings))
    try:
        transport = httpx.ASGITransport(create_app(store), client=(address, 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://inner.test/fhir/") as http:
            answer = await http.get("Patient", headers=headers)
    finally:
        store.close()
    return answer.status_code, answer.json()["link"][0]["url"].removesuffix(
        "/Patient"
    ) if "link" in answer.json() else ""


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "http://inner.test/fhir"),
        ({"forwarded": "proto=https;host=fhir.example.org"}, "https://fhir.example.org/fhir"),
        (
            {"forwarded": 'for=203.0.113.9;Host="fhir.example.org:8443";PROTO=HTTPS'},
            "https://fhir.example.org:8443/fhir",
        ),
        ({"forwarded": 'host="[2001:db8::1]:80"'}, "http://[2001:db8::1]:80/fhir"),
        # A client's own element comes first; the proxy adds to it.
        ({"forwarded": "host=evil.test, for=203.0.113.9;host=fhir.example.org"}, "http://fhir.example.org/fhir"),
        ({"forwarded": f"host=a.test, for={INNER};host=b.test"}, "http://a.test/fhir"),
        ({"forwarded": f"host=evil.test, for={CLIENT};host=a.test, for={INNER};host=b.test"}, "http://a.test/fhir"),
        ({"forwarded": f'host=evil.test, for="_hidden";host=a.test, for="{INNER}:99"'}, "http://a.test/fhir"),
        ({"forwarded": "host=broken host=x"}, "http://inner.test/fhir"),
        ({"forwarded": "for=1.2.3.4"}, "http://inner.test/fhir"),
        ({"forwarded": "proto=https;host=a.test", "x-forwarded-host": "b.test"}, "https://a.test/fhir"),
        ({"x-forwarded-proto": "https", "x-forwarded-host": "fhir.example.org"}, "https://fhir.example.org/fhir"),
        ({"x-forwarded-host": "evil.test, fhir.example.org"}, "http://fhir.example.org/fhir"),
    ],
)
async def test_only_a_trusted_proxy_is_believed(tmp_path: Path, headers: dict[str, str], expected: str) -> None:
    trusted: dict[str, Any] = {"trusted_proxies": ["10.0.0.0/24"]}

    assert await base_of(tmp_path / "a", headers, **trusted) == (200, expected)
    assert await base_of(tmp_path / "b", headers, CLIENT, **trusted) == (200, "http://inner.test/fhir")
    assert await base_of(tmp_path / "c", headers) == (200, "http://inner.test/fhir")
    told = await base_of(tmp_path / "d", headers, public_base_url="https://told.test/r4", **trusted)
    assert told == (200, "https://told.test/r4")


@pytest.mark.parametrize("header", ['host="a b"', "proto=gopher", 'host="a/../b"', "host=user@evil.test"])
async def test_a_host_that_is_none_is_refused(tmp_path: Path, header: str) -> None:
    assert await base_of(tmp_path, {"forwarded": header}, trusted_proxies=[PROXY]) == (400, "")


@pytest.mark.parametrize("wrong", ["proxy.example.org", "10.0.0.1/8", "10.0.0.0/33", ""])
def test_a_proxy_that_is_no_network_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        FhirStoreSettings(trusted_proxies=(wrong,))


def test_addresses_of_both_families_are_held_to_their_networks() -> None:
    assert is_trusted("::ffff:10.0.0.7", ("10.0.0.0/24",))
    assert is_trusted("2001:db8::7", ("2001:db8::/32",))
    assert not is_trusted("10.0.1.7", ("10.0.0.0/24", "2001:db8::/32"))


@given(text=st.text(max_size=60), trusted=st.sampled_from([(), ("10.0.0.0/8",), ("0.0.0.0/0",)]))
def test_no_header_is_too_odd_to_be_read(text: str, trusted: tuple[str, ...]) -> None:
    for name in ("forwarded", "x-forwarded-host", "x-forwarded-proto"):
        scheme, host = forwarded_origin({name: text}, trusted)

        assert scheme is None or isinstance(scheme, str)
        assert host is None or host in text.replace("\\", "") or "\\" in text


def test_a_quoted_value_loses_its_quotes_and_escapes() -> None:
    assert forwarded_origin({"forwarded": r'host="a\.test"; proto="https"'}, ()) == ("https", "a.test")
