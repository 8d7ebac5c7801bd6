"""Every construct of both languages, one by one, over values of every kind: all tiers equal the interpreter."""

import json
from itertools import product
from typing import Any

import pytest

from pulseweir.ingest.device_mapping.collection import DeviceMapping
from tier_comparison import ANY, TOKEN, assert_equal, of_one, query

KINDS = [
    *("null", "true", "false", "0", "1", "-1", "61", "0.0", "-0.0", "1.0", "7.5", "1e-5", "1e22", "123456789012.25"),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "[]",
        "[1]",
        "[null]",
        "{}",
        '{"v":1}',
        '{"a":null}',
        '{"v":{"v":1}}',
    ),
    *map(json.dumps, ["", " ", "x", "m1", "61", "1.0", "true", "2030-01-02", "2030-01-02T00:00:00Z", "NaN", "größe"]),
]
# Every value alone, so that one that a template refuses does not hide another.
BODIES = [f'{{"list":[{{"v":{text},"k":"x"}},{{"k":1}}],"v":{text},"a":{{"v":{text}}}}}'.encode() for text in KINDS]
MIXED = f'{{"list":[{",".join(KINDS)}],"a":{{"list":[[{",".join(KINDS)}]],"v":1}},"v":2}}'.encode()
MESSAGES = [(body, None, None) for body in (*BODIES, MIXED, b"null", b"[]", b'[{"v":1},[{"v":2}]]', b"{}")]

OPERATORS = ["==", "===", "!=", "!==", "<>", "<", "<=", ">", ">="]
CONSTANTS = ["1", "61", "0", "7.5", "-1", "'x'", "'61'", "''", "'2030-01-02'", "true", "false", "null"]
COMPARISONS = [f"@.v {operator} {constant} " for operator, constant in product(OPERATORS, CONSTANTS)]
OTHER_TESTS = [
    *("@v", "@.v", "@.v.v", "@a.v", "@", "@.*", "@..v", "@.list[0]", "@.list[-1]", "$.Body.v", "@['v']", "@['v','k']"),
    *(
        "@.v.v == 1 ",
        "@.v == @.k",
        "@.v == $.Body.v",
        "@.v != $.Body.v",
        "@ == 61 ",
        "@ != 61 ",
        "'x' == @.v",
        "1 < @.v",
    ),
    *("@.v =~ /^x$/", "@.v =~ /X/i", "@.v =~ /^[0-9]+$/", "@ =~ /x/", "@.v.v =~ /x/", "@..v =~ /1/"),
    *(
        "@.v && @.k",
        "@.v || @.k",
        "@.v == 1 || @.k == 'x' && @.v != null",
        "@.none && @.v || @.k",
        "@.v && @.k || @.none",
    ),
]
STEPS = [
    *(
        "$",
        "$.Body",
        "$.Body.v",
        "$.Body.a.v",
        "$.Body.none",
        "$.Body.v.v",
        "$['Body']['a']['v']",
        "$.Body['v','none','a']",
    ),
    *("$.Body.*", "$.Body.a.*", "$.Body[*]", "$.Body.list[*]", "$.Body.list[*].v", "$.Body.list[0]", "$.Body.list[-1]"),
    *("$.Body.list[0].v", "$.Body.list[-2].v", "$.Body.list[-3]", "$.Body.list[9]", "$.Body.list[0,1,-1]", "$.Body[0]"),
    *(
        "$.Body.list[0:1]",
        "$.Body.list[1:]",
        "$.Body.list[:-1]",
        "$.Body.list[::-1]",
        "$.Body.list[::2]",
        "$.Body.list[5:1:-2]",
    ),
    *(
        "$..v",
        "$..list",
        "$..*",
        "$..[*]",
        "$..['v','k']",
        "$.Body..v",
        "$.Body.list..v",
        "$..a.v",
        "$..v.v",
        "$..list[0]",
    ),
    *(
        "$.matchedToken",
        "$.matchedToken.v",
        "$.Properties",
        "$..[?(@.v)].v",
        "$..[?(@.list)].list[0]",
        "$.Body[?(@.v)].v",
    ),
]
LITERALS = ["`1`", "`0`", "`7.5`", "`-1`", "'x'", "''", "`true`", "`false`", "`null`", "`[]`", "`{}`", "`[1]`", "v"]
QUERY_OPERATORS = ["==", "!=", "<", "<=", ">", ">="]
QUERY_TESTS = [f"v {operator} {literal}" for operator, literal in product(QUERY_OPERATORS, LITERALS)]
PARTS = [
    "v",
    "!v",
    "v && k",
    "v || k",
    "!(v && k)",
    "v.v",
    "@",
    "[v]",
    "{a: v}",
    "v[0]",
    "`1` == v",
    "contains(keys(@), 'v')",
]
QUERIES = [
    *(
        "@",
        "Body",
        "Body.v",
        "Body.a.v",
        "Body.none.v",
        "matchedToken",
        "Body.list[0]",
        "Body.list[-1].v",
        "Body.list[9]",
    ),
    *(
        "Body.list[-3]",
        "Body.list[*]",
        "Body.list[*].v",
        "Body.list[].v",
        "Body.list[]",
        "Body.a.list[][]",
        "Body.*",
        "Body.*.v",
    ),
    *("Body.list[0:1]", "Body.list[::-1].v", "Body.list[::2]", "Body.v[:1]", "Body.[v, a.v]", "Body.{x: v, y: none}"),
    *(
        "Body.none.[v]",
        "Body.list[*].[v, k]",
        "Body.list[*].v | [0]",
        "Body.list[*].v | @",
        "Body | v",
        "Body.v || 'y'",
    ),
    *(
        "Body.v && 'y'",
        "!Body.v",
        "Body.list[?v].v | [0]",
        "Body.list[*].list[*].v",
        "Body.list[?k][?v]",
        "Body.a.list[*][0]",
    ),
    *(
        "(Body.a || Body).v",
        "Body.list[*].(v || k)",
        "`[1, 2]`[0]",
        "'x'",
        "`1.0`",
        "`null`",
        '`{"a": [1]}`.a',
        "Body.list.v",
    ),
]
CALLS = [
    *(
        "abs(@)",
        "avg(@)",
        "ceil(@)",
        "floor(@)",
        "keys(@)",
        "length(@)",
        "max(@)",
        "min(@)",
        "merge(@, @)",
        "not_null(@, 'y')",
    ),
    *("reverse(@)", "sort(@)", "sum(@)", "to_array(@)", "to_number(@)", "to_string(@)", "type(@)", "values(@)"),
    *(
        "add(@, `1`)",
        "subtract(`1`, @)",
        "multiply(@, @)",
        "divide(@, `2`)",
        "divide(`1`, @)",
        "pow(@, `2`)",
        "pow(`2`, @)",
    ),
    *(
        "insertString(@, 'z', `1`)",
        "insertString('abc', @, `0`)",
        "insertString('abc', 'z', @)",
        "fromUnixTimestamp(@)",
    ),
    *("fromUnixTimestampMs(@)", "contains(@, 'x')", "contains(@, `1`)", "starts_with(@, 'x')", "ends_with(@, 'x')"),
    *("join('-', @)", 'join(@, `["a", "b"]`)', "map(&v, @)", "sort_by(@, &v)", "max_by(@, &v)", "min_by(@, &v)"),
]


@pytest.mark.parametrize("test", [*COMPARISONS, *OTHER_TESTS])
def test_a_filter_selects_the_same(test: str) -> None:
    for match in (f"$..[?({test})]", f"$.Body.list[?({test})]"):
        assert_equal(of_one(match, TOKEN), MESSAGES)


@pytest.mark.parametrize("path", STEPS)
def test_a_path_selects_the_same(path: str) -> None:
    assert_equal(of_one(path, TOKEN), MESSAGES)
    assert_equal(of_one(ANY, path), MESSAGES)


@pytest.mark.parametrize("test", [*QUERY_TESTS, *PARTS])
def test_a_projection_selects_the_same(test: str) -> None:
    assert_equal(of_one(query(f"Body.list[?{test}]"), TOKEN), MESSAGES)
    assert_equal(of_one(ANY, query(f"Body.list[0].[{test}] | [0]")), MESSAGES)


@pytest.mark.parametrize("text", QUERIES)
def test_a_query_results_in_the_same(text: str) -> None:
    assert_equal(of_one(query(text), TOKEN), MESSAGES)
    assert_equal(of_one(ANY, query(text)), MESSAGES)


@pytest.mark.parametrize("call", CALLS)
def test_a_function_results_in_the_same(call: str) -> None:
    assert_equal(of_one(ANY, query(f"Body.v | {call}")), MESSAGES)
    assert_equal(of_one("$.Body.list", query(f"matchedToken | {call} | to_string(@)")), MESSAGES)


FIELD_TEXTS = [
    *KINDS,
    '"2030-01-02T03:04:05Z"',
    '"2030-01-02T03:04:05.5Z"',
    '"0000-01-01T00:00:00Z"',
    '"2030-02-30T00:00:00Z"',
]
FIELD_TEXTS += [
    '"2030-01-02T24:00:00Z"',
    '"2030-01-02T03:04:05.1234567+05:30"',
    '"01/02/2030"',
    '"2030-01-02T03:04:05.Z"',
]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("kind", ["JsonPathContent", "CalculatedContent"])
def test_a_field_is_converted_alike(kind: str, required: bool) -> None:
    prefix = "$" if kind == "JsonPathContent" else "$.matchedToken"
    base: dict[str, Any] = {"typeName": "t", "typeMatchExpression": "$..[?(@device)]"}
    base |= {"deviceIdExpression": f"{prefix}.device", "timestampExpression": f"{prefix}.at"}
    value = {"valueName": "v", "valueExpression": f"{prefix}.v", "required": required}
    twin = {"valueName": "v", "valueExpression": f"{prefix}.w"}
    content = base | {"patientIdExpression": f"{prefix}.patient", "values": [value, {**value, "valueName": "w"}, twin]}
    other = base | {"typeName": "u", "correlationIdExpression": f"{prefix}.c", "encounterIdExpression": f"{prefix}.e"}
    mapping = {
        "templateType": "CollectionContent",
        "template": [{"templateType": kind, "template": each} for each in (content, other)],
    }
    good = {
        "device": '"m"',
        "at": '"2030-01-01T00:00:00Z"',
        "v": "1",
        "w": '"w"',
        "patient": '"p"',
        "e": '"e"',
        "c": '"c"',
    }
    changed = [good | {name: text} for name in good for text in FIELD_TEXTS]
    missing = [{name: text for name, text in good.items() if name != left_out} for left_out in good]
    bodies = ["{" + ",".join(f'"{name}":{text}' for name, text in each.items()) + "}" for each in (*changed, *missing)]

    assert_equal(mapping, [(body.encode(), None, None) for body in bodies])


@pytest.mark.parametrize("kinds", [("CalculatedContent", "JsonPathContent"), ("JsonPathContent", "CalculatedContent")])
def test_templates_that_read_alike_share_only_what_is_the_same(kinds: tuple[str, str]) -> None:
    contents = [
        {
            "typeName": "t",
            "typeMatchExpression": "$..[?(@v)]",
            "deviceIdExpression": "$.d",
            "timestampExpression": "$.at",
        },
        {
            "typeName": "u",
            "typeMatchExpression": "$..[?(@v)]",
            "deviceIdExpression": "$.d",
            "timestampExpression": "$.at",
        },
    ]
    templates = [
        {"templateType": kind, "template": content}
        for kind, content in zip((*kinds, *kinds), contents * 2, strict=True)
    ]
    moment = '"at":"2030-01-01T00:00:00Z"'
    body = f'{{"d":"1",{moment},"v":1,"a":[{{"d":"2",{moment},"v":1}},{{"d":"3",{moment},"v":1}}]}}'.encode()

    assert_equal({"templateType": "CollectionContent", "template": templates[:2]}, [(body, None, None)])
    calculated = [{"templateType": "JsonPathContent", "template": content} for content in contents]
    assert_equal({"templateType": "CollectionContent", "template": calculated}, [(body, None, None)] * 3)


def test_templates_of_two_kinds_read_one_match_in_their_own_way() -> None:
    content = {"typeMatchExpression": "$.Body", "deviceIdExpression": "$.Body.d", "timestampExpression": "$.Body.at"}
    kinds = ("JsonPathContent", "CalculatedContent", "JsonPathContent")
    mapping = {
        "templateType": "CollectionContent",
        "template": [{"templateType": kind, "template": {"typeName": kind, **content}} for kind in kinds],
    }
    inner = '{"d":"inner","at":"2030-01-01T00:00:00Z"}'
    body = f'{{"d":"outer","at":"2031-01-01T00:00:00Z","Body":{inner}}}'.encode()

    made = DeviceMapping.load(mapping).normalize_batch([body], tier="tier1").measurements

    assert made["device_id"].to_pylist() == ["inner", "outer", "inner"]
    assert_equal(mapping, [(body, None, None)])


@pytest.mark.parametrize("kind", ["JsonPathContent", "CalculatedContent"])
def test_what_one_template_finds_on_the_way_is_not_taken_for_known_in_the_next(kind: str) -> None:
    prefix = "$" if kind == "JsonPathContent" else "$.matchedToken"
    content = {
        "typeMatchExpression": "$..[?(@device)]",
        "deviceIdExpression": f"{prefix}.device.id.text",
        "timestampExpression": f"{prefix}.device.at",
        "values": [{"valueName": "v", "valueExpression": f"{prefix}.device.id.model"}],
    }
    mapping = {
        "templateType": "CollectionContent",
        "template": [{"templateType": kind, "template": {"typeName": name, **content}} for name in ("t", "u")],
    }
    body = b'{"device":{"id":{"text":"m","model":"x"},"at":"2030-01-01T00:00:00Z"}}'

    made = DeviceMapping.load(mapping).normalize_batch([body], tier="tier1").measurements

    assert made["text"].to_pylist() == ["x", "x"]
    assert_equal(mapping, [(body, None, None)] * 2)


def test_names_in_one_branch_are_not_known_in_another() -> None:
    values = [query("Body.v && Body.a.v"), query("Body.v || Body.a.v"), "$.Body.a.v", query("Body.a.[v, list] | [0]")]

    assert_equal(of_one(ANY, *values), MESSAGES)
