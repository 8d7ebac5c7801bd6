"""What a message or a mapping can do at worst: it is refused alone, with a reason, within its budget."""

import contextlib
import json
import os
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mapping_strategies import json_texts, mappings
from pulseweir.errors import MappingError, MessageError
from pulseweir.ingest.device_mapping.batch import Tier
from pulseweir.ingest.device_mapping.budget import STEP_LIMIT, Budget
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.expressions import compile_expression
from pulseweir.ingest.device_mapping.located_json import LocatedJsonError, read
from pulseweir.ingest.device_mapping.tokens import ExpressionFault
from tier_comparison import of_one as mapping_of_one
from tier_comparison import query

EXAMPLES = int(os.environ.get("PULSEWEIR_EXAMPLES", "100"))
AFFORDABLE = b'{"a":[{"v":1,"k":"k"}],"b":"b"}'


def of_one(match: object, *values: object) -> DeviceMapping:
    return DeviceMapping.load(mapping_of_one(match, *values))


def doubled(times: int) -> str:
    return "[@,@][] | " * times


def nested(times: int) -> str:
    return "[@,@] | " * times


LETTERS = json.dumps({"a": [{"k": "a" * 250}] * 100}).encode()
TEXTS = json.dumps({"a": ["x" * 100_000, "y" + "x" * 100_000], "b": "x" * 50_000}).encode()
OBJECTS = json.dumps({"a": [{"v": number, "k": "xxxxx"} for number in range(9_000)], "b": 1}).encode()
NUMBERS = json.dumps({"a": list(range(40_000)), "b": 1}).encode()
BOMBS: list[Any] = [
    pytest.param("$..[?(@.k =~ /a*a*a*b/)]", [], LETTERS, id="a pattern of the fourth degree"),
    pytest.param("$..[?(@.k =~ /^" + "a?" * 40 + "a" * 40 + "/)]", [], LETTERS, id="a pattern of many options"),
    pytest.param("$..[?(@.k =~ /" + "(a|a)" * 30 + "b/)]", [], LETTERS, id="a pattern of many choices"),
    pytest.param("$..[?(@ == 'x')]", [], NUMBERS, id="a test of every token"),
    pytest.param("$..[?(@.a == $..v)]", [], OBJECTS, id="everything compared with everything"),
    pytest.param("$..[?(@.k < 'm')]", [], OBJECTS, id="texts ordered as dates"),
    pytest.param("$.Body.a[*]", ["$.Body.b"], OBJECTS, id="thousands of matches"),
    pytest.param("$.Body.a[*]", ["$.Body.b"], NUMBERS, id="more matches than an expression may have"),
    pytest.param("$.Body[" + ",".join(["'a'"] * 900) + "][*]", [], OBJECTS, id="one member a thousand times"),
    pytest.param("$..*..*", [], OBJECTS, id="scans of scans"),
    pytest.param(query("Body.a[*].[Body.a[*].v]"), [], OBJECTS, id="a projection of every element"),
    pytest.param(
        "$.Body", [query(nested(30) + "to_string(@)")], AFFORDABLE, id="a text of the same part a billion times"
    ),
    pytest.param("$.Body", [query(nested(30) + "[?contains(@, `1`)]")], AFFORDABLE, id="a search in it"),
    pytest.param("$.Body", [query(doubled(14) + "length(@)")], AFFORDABLE, id="a list that doubles"),
    pytest.param(
        "$.Body",
        [query("[Body.b] | " + doubled(12) + "join('', @)")],
        TEXTS,
        id="a long text joined often",
    ),
    pytest.param(
        "$.Body", [query("[Body.b] | " + doubled(12) + "map(&reverse(@), @)")], TEXTS, id="long texts reversed"
    ),
    pytest.param("$.Body", [query("Body.a | " + doubled(12) + "sort(@)")], TEXTS, id="long texts sorted"),
    pytest.param(
        "$.Body", [query("Body.a | " + doubled(12) + "[?contains(@, 'zz')]")], TEXTS, id="long texts searched"
    ),
    pytest.param("$.Body", [query("sort_by(Body.a, &add(v, multiply(v, v)))")], OBJECTS, id="a costly sort"),
    pytest.param(
        "$.Body.a[*]",
        ["$.Body.b"] * 20,
        json.dumps({"a": [1] * 3_000, "b": int("9" * 4_000)}).encode(),
        id="a large integer written out often",
    ),
    pytest.param(
        "$.Body.a[*]",
        ["$.Body.b"] * 5,
        json.dumps({"a": [1] * 2_000, "b": "x" * 100_000}).encode(),
        id="a long text in every measurement",
    ),
]


@pytest.mark.parametrize(("match", "values", "body"), BOMBS)
@pytest.mark.parametrize("tier", ["auto", "tier1", "interpreter"])
def test_what_costs_too_much_is_refused_alone(match: object, values: list[object], body: bytes, tier: Tier) -> None:
    mapping = of_one(match, *values)
    alone = mapping.normalize_batch([b'{"b":1}'], tier=tier, body_limit_bytes=10**6)

    made = mapping.normalize_batch([b'{"b":1}', body, b'{"b":1}'], tier=tier, body_limit_bytes=10**6)

    reasons = {row["message"]: row["reason"] for row in made.rejects.to_pylist()}
    assert reasons.pop(1) == "limit-exceeded"
    assert len(reasons) == 2 * alone.rejects.num_rows
    assert made.measurements.num_rows == 2 * alone.measurements.num_rows


@pytest.mark.parametrize("text", ["$..[?(@.k =~ /a*a*a*b/)]", "$..*", "$..[?(@.v == 3)]", "$.a[?(@.k > 'x')].v"])
def test_an_evaluation_stops_when_the_budget_of_its_message_is_spent(text: str) -> None:
    budget = Budget(20)

    with pytest.raises(ExpressionFault, match=str(STEP_LIMIT)):
        compile_expression(text, "JsonPath").find_all(json.loads(LETTERS), budget)


def test_all_expressions_of_a_message_share_one_budget() -> None:
    body = json.dumps({"a": [{"v": 1}] * 1_000}).encode()
    few, many = ([of_one("$.Body", *["$..[?(@.v == 2 )]"] * number)] for number in (2, 60))

    assert few[0].normalize_batch([body]).measurements.num_rows == 1
    assert many[0].normalize_batch([body]).rejects["reason"].to_pylist() == ["limit-exceeded"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" * 10_000 + b"]" * 10_000, "nested-too-deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested-too-deep"),
        (b'{"a":"\xff"}', "not-json"),
        (b'"\\ud800"', "not-json"),
        (b'{"a":"\xed\xa0\x80"}', "not-json"),
        (b'{"a":1}{', "not-json"),
        (b"{'a':1}", "not-json"),
        (b'{"a":NaN}', "not-json"),
        (b"9" * 5_000, "not-json"),
        (b'"' + b"x" * 300_000 + b'"', "body-too-large"),
    ],
)
@pytest.mark.parametrize("tier", ["auto", "tier1", "tier2", "interpreter"])
def test_a_body_that_cannot_be_read_is_refused_alone(body: bytes, reason: str, tier: Tier) -> None:
    made = of_one("$.Body", "$.Body.b").normalize_batch([AFFORDABLE, body, AFFORDABLE], tier=tier)

    assert [(row["message"], row["reason"]) for row in made.rejects.to_pylist()] == [(1, reason)]
    assert made.measurements["message"].to_pylist() == [0, 2]


@pytest.mark.parametrize(
    "body", [b"null", b"[]", b"{}", b"[null]", b'{"a":null}', b'{"a":[]}', b'{"a":[null,[],{}]}', b""]
)
def test_nothing_in_a_message_is_nothing_in_its_measurements(body: bytes) -> None:
    values = ["$.Body.a", "$.Body.a[0]", "$.Body.a[*].v", query("Body.a[0].v"), query("Body.a[].v"), "$..v"]

    made = of_one("$", *values).normalize_batch([body])

    assert (made.measurements["text"].to_pylist(), made.rejects.num_rows) == ([None], 0)


def test_an_integer_with_too_many_digits_to_be_written_is_refused() -> None:
    body = b"[" + b"9" * 4_300 + b"," + b"9" * 4_300 + b"]"

    (row,) = of_one("$", query("to_array(sum(Body))[0]")).normalize_batch([body]).measurements.to_pylist()
    assert row["text"] is None

    required = {"valueName": "v", "valueExpression": query("sum(Body)"), "required": True}
    content = {
        "typeName": "t",
        "typeMatchExpression": "$",
        "deviceIdExpression": query("'m1'"),
        "timestampExpression": query("fromUnixTimestamp(`1`)"),
        "values": [required],
    }
    template = {"templateType": "CalculatedContent", "template": content}
    mapping = DeviceMapping.load({"templateType": "CollectionContent", "template": [template]})
    with pytest.raises(MessageError) as caught:
        mapping.normalize({"Body": json.loads(body)})
    assert caught.value.reason == "not-convertible"


@pytest.mark.parametrize(
    "text",
    [
        '{"templateType": "CollectionContent", "TemplateType": "CollectionContent", "template": []}',
        '{"templateType": "CollectionContent", "template": [], "\\u0074emplate": []}',
        '{"templateType": "\\ud800", "template": []}',
        '{"templateType": "CollectionContent", "template": [-Infinity]}',
        '{"templateType": "CollectionContent", "template": [1e999]}',
        '{"templateType": "CollectionContent", "template": [' + "9" * 5_000 + "]}",
        '{"templateType": "CollectionContent", "template": ' + "[" * 100_000,
        '{"templateType": "CollectionContent", "template": [' + '"' + "x" * 2_000_000 + '"]}',
    ],
)
def test_a_mapping_that_no_reader_agrees_on_is_refused(text: str) -> None:
    with pytest.raises(LocatedJsonError):
        read(text)
    with pytest.raises(MappingError):
        DeviceMapping.loads(text)


@pytest.mark.parametrize("document", [{"a": 1, "A": 2}, {"a": "\ud800"}, {"\ud800": 1}, {"a": float("nan")}])
def test_a_decoded_mapping_is_held_to_the_same_rules(document: dict[str, Any]) -> None:
    with pytest.raises(MappingError):
        DeviceMapping.load(document)


@pytest.mark.parametrize("literal", ['`"\\ud800"`', '`["\\ud800"]`', '`{"\\ud800": 1}`', '"\\ud800"'])
def test_half_a_character_in_a_query_is_refused_when_it_loads(literal: str) -> None:
    with pytest.raises(MappingError):
        of_one("$", query(literal))


MEMBERS = ("templateType", "template", "typeName", "typeMatchExpression", "deviceIdExpression", "values", "valueName")
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(("$.a", "JsonPath")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=3), inner),
    max_leaves=12,
)


def load_or_refuse(text: str) -> None:
    for compatibility in ("strict", "pulseweir"):
        try:
            mapping = DeviceMapping.loads(text, compatibility=compatibility)
        except MappingError:
            continue
        made = mapping.normalize_batch([AFFORDABLE, b"[1]", b"null", b"{"])
        assert made.rejects["message"].to_pylist()[-1] == 3


@settings(max_examples=EXAMPLES, deadline=None)
@given(documents)
def test_any_document_loads_or_is_refused(document: object) -> None:
    load_or_refuse(json.dumps(document))
    if isinstance(document, dict):
        with contextlib.suppress(MappingError):
            DeviceMapping.load(document)


@settings(max_examples=EXAMPLES, deadline=None)
@given(mappings(), st.lists(st.tuples(st.integers(0, 10_000), st.text(max_size=2)), max_size=4))
@example({"templateType": "CollectionContent", "template": []}, [(0, "\ufeff")])
def test_a_damaged_mapping_loads_or_is_refused(mapping: dict[str, Any], damages: list[tuple[int, str]]) -> None:
    text = json.dumps(mapping, ensure_ascii=False)
    for place, letters in damages:
        at = place % (len(text) + 1)
        text = text[:at] + letters + text[at + 1 :]

    load_or_refuse(text)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.binary(max_size=40) | json_texts.map(str.encode), max_size=4))
def test_any_bytes_are_measurements_nothing_or_a_refusal(batch: list[bytes]) -> None:
    made = of_one("$..[?(@.a || @.v)]", "$.matchedToken.v", query("Body.a[].v | [0]")).normalize_batch(batch)

    told = {*made.measurements["message"].to_pylist(), *made.rejects["message"].to_pylist()}
    assert told <= set(range(len(batch)))
