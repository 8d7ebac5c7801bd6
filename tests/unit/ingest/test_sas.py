"""Shared access signatures: fixed vectors, every rule of the dialect, and no way around them."""

from base64 import b64encode
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulseweir.errors import DeviceRefused
from pulseweir.ingest.hub.sas import TokenRules, make_token, parse_token, sign, verify

KEY = b64encode(b"pulseweir-test-key-of-32-bytes!!").decode()
OTHER_KEY = b64encode(b"another-key-of-exactly-32-bytes!").decode()
EXPIRY = 1_900_000_000
NOW = EXPIRY - 3_600
RULES = TokenRules(frozenset({"hub.example", "localhost"}))
RESOURCE = "hub.example/devices/monitor-1"


def token(resource: str, key: str = KEY, expiry: object = EXPIRY) -> str:
    signature = sign(key, resource, EXPIRY)
    return f"SharedAccessSignature sr={resource}&sig={quote(signature, safe='')}&se={expiry}"


def reason_of(text: str, resource: str = RESOURCE, now: float = NOW, rules: TokenRules = RULES) -> str:
    with pytest.raises(DeviceRefused) as raised:
        verify(text, resource, (KEY, OTHER_KEY), rules, now)
    return raised.value.reason


@pytest.mark.parametrize(
    ("resource", "signature"),
    [
        # Signatures made with: printf 'RESOURCE\n1900000000' | openssl dgst -sha256 -hmac KEY -binary | base64
        ("hub.example%2fdevices%2fmonitor-1", "UzbDKjqCtP5ZpYrb8RdcQ+UooOmcvW7p8j6HmuiHuTI="),
        ("hub.example%2Fdevices%2Fmonitor-1", "VpKRxNQ/jjUv3pMDU95RavmLgf0+fg1/sto+UgtsAZU="),
    ],
)
def test_the_resource_is_signed_as_sent(resource: str, signature: str) -> None:
    assert sign(KEY, resource, EXPIRY) == signature

    _, slot = verify(token(resource), RESOURCE, (OTHER_KEY, KEY), RULES, NOW)
    assert slot == 1


def test_fields_may_come_in_any_order() -> None:
    fields = make_token("hub.example", "monitor-1", KEY, EXPIRY).removeprefix("SharedAccessSignature ").split("&")
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        text = "SharedAccessSignature " + "&".join(fields[place] for place in order)
        verify(text, RESOURCE, (KEY,), RULES, NOW)


@pytest.mark.parametrize(
    "resource",
    [
        "hub.example/devices/monitor-1",
        quote_plus("hub.example/devices/monitor-1"),
        quote("hub.example/devices/monitor-1/api-version=2016-11-14", safe=""),
        quote("HUB.example/devices/monitor-1", safe=""),
        quote("localhost/devices/monitor-1", safe=""),
        quote("hub.example/devices", safe=""),
    ],
)
def test_a_token_for_the_device_or_what_is_above_it_holds(resource: str) -> None:
    verify(token(resource), RESOURCE, (KEY,), RULES, NOW)
    verify(token(resource), RESOURCE + "/messages/events", (KEY,), RULES, NOW)


@pytest.mark.parametrize(
    "resource",
    [
        "hub.example/devices/monitor-11",
        "hub.example/devices/monitor",
        "hub.example/devices/Monitor-1",
        "hub.example/devices/monitor-1/modules/m",
        "other.example/devices/monitor-1",
        "hub.example/messages",
        "devices/monitor-1",
    ],
)
def test_a_token_for_something_else_is_refused(resource: str) -> None:
    assert reason_of(token(quote(resource, safe=""))) == "wrong-resource"


def test_both_keys_hold_and_a_third_does_not() -> None:
    third = b64encode(bytes(32)).decode()
    for slot, key in enumerate((KEY, OTHER_KEY)):
        assert verify(token(RESOURCE, key), RESOURCE, (KEY, OTHER_KEY), RULES, NOW)[1] == slot
    assert reason_of(token(RESOURCE, third)) == "wrong-key"


def test_an_unknown_device_has_no_key_that_holds() -> None:
    with pytest.raises(DeviceRefused) as raised:
        verify(token(RESOURCE, b64encode(bytes(32)).decode()), RESOURCE, (), RULES, NOW)
    assert raised.value.reason == "wrong-key"


def test_a_token_expires_after_the_skew() -> None:
    verify(token(RESOURCE), RESOURCE, (KEY,), RULES, EXPIRY + 300)
    assert reason_of(token(RESOURCE), now=EXPIRY + 301) == "expired-token"


def test_a_token_may_not_live_longer_than_the_hub_allows() -> None:
    rules = TokenRules(RULES.host_names, skew_seconds=0, longest_life_seconds=3_600)
    verify(token(RESOURCE), RESOURCE, (KEY,), rules, EXPIRY - 3_600)
    assert reason_of(token(RESOURCE), now=EXPIRY - 3_601, rules=rules) == "token-lives-too-long"


def test_a_changed_expiry_is_refused() -> None:
    assert reason_of(token(RESOURCE, expiry=EXPIRY + 1)) == "wrong-key"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer x",
        "SharedAccessSignature ",
        "SharedAccessSignature sr=a&sig=b",
        "SharedAccessSignature sr=a&sig=b&se=",
        "SharedAccessSignature sr=a&sig=b&se=1e9",
        "SharedAccessSignature sr=a&sig=b&se=-5",
        "SharedAccessSignature sr=a&sig=b&se=١٢",
        "SharedAccessSignature sr=a&sig=b&se=1&se=2",
        "SharedAccessSignature sr=a&sig=b&se=1&skn=owner",
        "SharedAccessSignature sr=a&sig=b&se=1&extra=1",
        "SharedAccessSignature sr=a&sig=&se=1",
        "SharedAccessSignature " + "x" * 5_000,
    ],
)
def test_a_malformed_token_is_refused(text: str) -> None:
    assert reason_of(text) == "malformed-token"


@given(st.text(max_size=200))
def test_no_text_is_taken_for_a_token_or_breaks_the_parser(text: str) -> None:
    assert reason_of("SharedAccessSignature " + text) in {
        "malformed-token",
        "wrong-resource",
        "expired-token",
        "wrong-key",
    }


@given(
    st.text("abcXYZ019-.%_*?!(),:=@$'", min_size=1, max_size=128),
    st.binary(min_size=16, max_size=64),
    st.integers(NOW, 10**11),
)
def test_a_token_made_here_holds_here(device_id: str, key: bytes, expiry: int) -> None:
    encoded = b64encode(key).decode()
    text = make_token("localhost", device_id, encoded, expiry)

    parsed, _ = verify(text, f"localhost/devices/{device_id}", (encoded,), RULES, NOW)

    assert parsed == parse_token(text)
    assert unquote(parsed.resource) == f"localhost/devices/{device_id}"
