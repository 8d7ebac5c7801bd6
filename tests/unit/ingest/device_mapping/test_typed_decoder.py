"""Tier 2 decides as the interpreter does, or leaves a message undecided."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA
from pulseweir.ingest.device_mapping.typed_decoder import plan
from typed_messages import NESTING_LIMIT, Writer, mapping_of, planned, undecided_after_comparing


@given(st.randoms(use_true_random=False))
def test_what_it_decides_is_what_the_interpreter_says(random: Random) -> None:
    writer = Writer(random)
    mapping = mapping_of(*[writer.template() for _ in range(random.randrange(1, 4))])
    if plan(mapping.templates) is None:
        return
    bodies = [writer.body() for _ in range(random.randrange(6))]

    undecided_after_comparing(mapping, bodies, writer.properties(len(bodies)), writer.properties(len(bodies)))


VITALS = mapping_of(
    *[
        {
            "templateType": "JsonPathContent",
            "template": {
                "typeName": name,
                "typeMatchExpression": f"$..[?(@{name})]",
                "deviceIdExpression": "$.device",
                "timestampExpression": "$.at",
                "values": [{"valueName": name, "valueExpression": f"$.{name}", "required": name == "pulse"}],
            },
        }
        for name in ("pulse", "note")
    ]
)
GOOD = b'{"device":"d1","at":"2030-01-02T03:04:05Z","pulse":61}'


def with_member(member: bytes) -> bytes:
    return GOOD[:-1] + b"," + member + b"}"


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        b" " + GOOD.replace(b",", b" ,\n") + b"\n",
        GOOD.replace(b'"pulse"', b'"\\u0070ulse"'),
        GOOD.replace(b"61", b"36.60"),
        GOOD.replace(b"61", b'" 61"'),
        GOOD.replace(b"61", b"true"),
        GOOD.replace(b"61", b"1e21"),
        GOOD.replace(b"61", b"18446744073709551615"),
        GOOD.replace(b'"d1"', b"12"),
        GOOD.replace(b"05Z", b"05.123456+02:00"),
        GOOD.replace(b"05Z", b"05"),
        b'{"device":"d1","at":"2030-01-02T03:04:05Z"}',
        b"{}",
        with_member(b'"note":null'),
        with_member(b'"note":""'),
        with_member(b'"pulse":62'),
        with_member(b'"unit":"\xc2\xb0C"'),
        with_member(b'"unit":"{"'),
        with_member(b'"id":"7e9999 1e400"'),
        with_member(b'"list":[1,2,[3]]'),
        with_member(b'"list":[{"other":1},{"other":2}]'),
        with_member(b'"more":{"other":{"device":"d2","at":null}}'),
    ],
)
def test_what_devices_send_is_decided(body: bytes) -> None:
    assert undecided_after_comparing(VITALS, [GOOD, body, GOOD]) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"7",
        b"[]",
        GOOD[:-1],
        GOOD + b",1",
        GOOD + GOOD,
        GOOD.replace(b"61", b"null"),
        GOOD.replace(b"61", b'" "'),
        GOOD.replace(b"61", b"[61]"),
        GOOD.replace(b"61", b'{"value":61}'),
        GOOD.replace(b"61", b"1e400"),
        GOOD.replace(b"61", b"18446744073709551616"),
        GOOD.replace(b"61", b"9" * 4_000),
        GOOD.replace(b'"d1"', b"null"),
        GOOD.replace(b'"d1"', b'"\xff"'),
        GOOD.replace(b"01-02", b"02-30"),
        GOOD.replace(b'"2030-01-02T03:04:05Z"', b"1893553445"),
        with_member(b'"x":1e400'),
        with_member(b'"x":1E+0400'),
        with_member(b'"x":' + b"9" * 400 + b".5"),
        with_member(b'"x":' + b"9" * 280 + b"e99"),
        with_member(b'"x":' + b"9" * 5000),
        with_member(b'"x":"\xff"'),
        with_member(b'"\xff":1'),
        with_member(b'"x":"\\ud800"'),
        with_member(b'"x":' + b"[" * NESTING_LIMIT + b"]" * NESTING_LIMIT),
        with_member(b'"x":' + b"[" * 100_000 + b"]" * 100_000),
        with_member(b'"more":{"pulse":60}'),
        with_member(b'"more":{"p\\u0075lse":60}'),
        with_member(b'"more":[{"note":1}]'),
        with_member(b'"pulse":{"pulse":60},"pulse":61'),
        with_member(b'"x":[' + b"0," * 100_000 + b"0]"),
    ],
)
def test_what_raises_a_doubt_stays_undecided_alone(body: bytes) -> None:
    assert undecided_after_comparing(VITALS, [GOOD, body, GOOD]) == [1]


@pytest.mark.parametrize(
    ("text", "is_decided"),
    [
        (None, True),
        ("", True),
        ("{}", True),
        ('{"ward":"A","level":3}', True),
        ('{"pulse":"60"}', False),
        ('{"ward":{"pulse":60}}', False),
        ('{"ward":{}}', False),
        ("[]", False),
        ("{", False),
    ],
)
def test_properties_that_a_template_might_match_leave_a_message_undecided(text: str | None, is_decided: bool) -> None:
    bodies, texts = [GOOD, GOOD], ["{}", text]

    assert undecided_after_comparing(VITALS, bodies, texts) == ([] if is_decided else [1])
    assert undecided_after_comparing(VITALS, bodies, None, texts) == ([] if is_decided else [1])


def calculated(match: Any, *values: tuple[str, Any], **more: Any) -> dict[str, Any]:
    content = {
        "typeName": "one",
        "typeMatchExpression": match,
        "deviceIdExpression": "$.Body.device",
        "timestampExpression": "$.Body.at",
        "values": [{"valueName": name, "valueExpression": value} for name, value in values],
    }
    return {"templateType": "CalculatedContent", "template": content | more}


def query(text: str) -> dict[str, str]:
    return {"value": text, "language": "JmesPath"}


HEAD = b'{"device":"d1","at":"2030-01-02T03:04:05Z",'


@pytest.mark.parametrize(
    ("template", "body", "is_decided"),
    [
        (calculated("$..[?(@a > 1.0)]", ("v", "$.matchedToken.a")), b'"a":2}', True),
        (calculated("$..[?(@a > 1.0)]", ("v", "$.matchedToken.a")), b'"a":"x"}', False),
        (calculated("$..[?(@a =~ /x/)]", ("v", "$.matchedToken.a")), b'"a":"' + b"x" * 300 + b'"}', False),
        (calculated("$..[?(@a =~ /^a*b*c/)]", ("v", "$.matchedToken.a")), b'"a":"' + b"a" * 250 + b'"}', False),
        (calculated("$..[?(@Body)]", ("v", "$.Body.a")), b'"a":2}', True),
        (calculated("$..[?(@Body)]", ("v", "$.Body.a")), b'"Body":2}', False),
        (calculated("$.Body.a", ("v", "$.matchedToken")), b'"a":null}', True),
        (calculated("$.Body.bp", ("v", "$.matchedToken.a")), b'"bp":null}', True),
        (calculated(query("Body.a"), ("v", "$.matchedToken")), b'"a":null}', True),
        (calculated(query("Body.bp"), ("v", "$.matchedToken.a")), b'"bp":null}', True),
        (calculated(query("Body.bp"), ("v", "$.matchedToken.a")), b'"bp":{}}', True),
        (calculated(query("Body.bp"), ("v", "$.matchedToken.a")), b'"bp":{"a":1},"bp":{}}', True),
        (calculated(query("Body.bp"), ("v", "$.matchedToken.a")), b'"bp":7}', False),
        (calculated("$.Body", ("v", "$.Body.a"), ("v", "$.Body.b")), b'"a":1,"b":2}', True),
        (calculated("$.Body", ("v", "$.Body.a"), ("w", "$.Body.b"), ("v", "$.Body.b")), b'"b":2}', True),
        (calculated("$.Body", ("v", query("divide(Body.a, Body.b)"))), b'"a":1.5,"b":0}', True),
        (calculated("$.Body", ("v", query("divide(Body.a, Body.b)"))), b'"a":-0.0,"b":0.0}', True),
        (calculated("$.Body", ("v", query("divide(Body.a, Body.b)"))), b'"a":1,"b":0}', False),
        (calculated("$.Body", ("v", query("divide(Body.a, Body.b)"))), b'"b":1}', False),
        (calculated("$.Body", ("v", query("floor(Body.a)"))), b'"c":1}', False),
        (calculated("$.Body.a", ("v", query("floor(Body.b)"))), b'"c":1}', True),
        (calculated("$.Body", timestampExpression=query("fromUnixTimestamp(Body.b)")), b'"b":1893553445}', True),
        (calculated("$.Body", timestampExpression=query("fromUnixTimestamp(Body.b)")), b'"b":1893553445.5}', False),
        (calculated("$.Body", ("v", query("Body.a || `1`"))), b'"a":1}', False),
    ],
)
def test_an_awkward_case_is_exact_or_left_undecided(template: dict[str, Any], body: bytes, is_decided: bool) -> None:
    mapping = mapping_of(template, calculated(query("Body.never")))

    assert undecided_after_comparing(mapping, [HEAD + body]) == ([] if is_decided else [0])


def test_the_hub_s_own_time_stands_in_for_a_creation_time_that_is_null() -> None:
    template = {
        "typeName": "one",
        "typeMatchExpression": "$..[?(@Body.pulse)]",
        "values": [{"valueName": "pulse", "valueExpression": "$.Body.pulse"}],
    }
    mapping = mapping_of({"templateType": "IotJsonPathContent", "template": template})
    system = '{"iothub-connection-device-id":"d1","iothub-enqueuedtime":"2030-01-02T03:04:06Z"}'
    created = '{"iothub-creation-time-utc":"2030-01-02T03:04:05Z"}'
    spoilt = '{"iothub-creation-time-utc":"yesterday"}'

    properties = [created, '{"iothub-creation-time-utc":null}', "{}", spoilt]
    assert undecided_after_comparing(mapping, [GOOD] * 4, properties, [system] * 4) == [3]


def test_a_batch_that_is_mostly_undecided_loses_nothing() -> None:
    bodies = [GOOD if number % 10 == 3 else with_member(b'"more":{"pulse":60}')[number % 2 :] for number in range(200)]

    undecided = undecided_after_comparing(VITALS, bodies)

    assert undecided == [number for number in range(200) if number % 10 != 3]


def test_nothing_at_all_is_an_empty_table() -> None:
    table, undecided = planned(VITALS).decode([])

    assert table.schema.equals(NORMALIZED_SCHEMA)
    assert (table.num_rows, undecided) == (0, [])


@pytest.mark.parametrize("size", [1_000, 5_000, 20_000, 100_000])
@pytest.mark.parametrize("filler", [b"[],", b"0,", b"{},", b'[[0,"a"]],'])
def test_a_message_that_may_cost_more_than_its_budget_is_undecided(size: int, filler: bytes) -> None:
    pattern = "/^a*b/"
    costly = [
        {
            "templateType": "CalculatedContent",
            "template": {
                "typeName": f"kind-{number}",
                "typeMatchExpression": f"$..[?(@pulse && @pulse > 0 && $.Body.note =~ {pattern})]",
                "deviceIdExpression": "$.Body.device",
                "timestampExpression": "$.Body.at",
                "values": [],
            },
        }
        for number in range(30)
    ]
    note = with_member(b'"note":"' + b"a" * 60 + b'b"')
    filled = note[:-1] + b',"x":[' + (filler * (size // len(filler)))[:-1] + b"]}"

    undecided_after_comparing(mapping_of(*costly), [note, filled])
    undecided_after_comparing(VITALS, [note, filled])


@pytest.mark.parametrize(
    "match",
    ["$..[?(@)]", "$.Body.readings[?(@.pulse)]", "$..pulse", "$..[?(@a == @b)]", "$..[?(@Body.a || @b)]", "$.x.y"],
)
def test_a_match_it_does_not_know_is_not_planned(match: str) -> None:
    template = {
        "typeName": "one",
        "typeMatchExpression": match,
        "deviceIdExpression": "$.Body.device",
        "timestampExpression": "$.Body.at",
        "values": [],
    }

    assert plan(mapping_of({"templateType": "CalculatedContent", "template": template}).templates) is None
