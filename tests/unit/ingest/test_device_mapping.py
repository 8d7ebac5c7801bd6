"""Device mappings beyond the vectors: the dialect's traps, the loader's faults, the bounds."""

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulseweir.errors import MappingError, MessageError
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.expressions import compile_expression
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, Instant, instant_text, parse_instant, render

DOCUMENT = {
    "a": {"x": 1, "y": None, "text": "abc"},
    "list": [{"n": 1, "k": "one"}, {"n": 2.5, "k": "two"}, {"n": "7", "k": "three"}, 5],
    "deep": {"a": {"x": 2}},
    "My Name": "spaced",
    "when": "2030-01-02T03:04:05Z",
}


def path(text: str) -> list[Any]:
    return compile_expression(text, "JsonPath").matches(DOCUMENT)


def query(text: str, document: object = DOCUMENT) -> object:
    return compile_expression(text, "JmesPath").single(document)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("$", [DOCUMENT]),
        ("a.x", [1]),
        ("$.a.x", [1]),
        ("$['a']['x']", [1]),
        ("$.['My Name']", ["spaced"]),
        ("$.a['x','text','none']", [1, "abc"]),
        ("$.a.*", [1, None, "abc"]),
        ("$.list.*", []),
        ("$.list[*].k", ["one", "two", "three"]),
        ("$.a[*]", []),
        ("$.list[0].n", [1]),
        ("$.list[-1]", [5]),
        ("$.list[9]", []),
        ("$.list[0,3]", [DOCUMENT["list"][0], 5]),  # type: ignore[index]
        ("$.list[1:3].k", ["two", "three"]),
        ("$.list[::-2]", [5, DOCUMENT["list"][1]]),  # type: ignore[index]
        ("$..x", [1, 2]),
        ("$..['x','k']", [1, "one", "two", "three", 2]),
        ("$.list[?(@.n)].k", ["one", "two", "three"]),
        ("$.list[?(@.n == 1)].k", ["one"]),
        ("$.list[?(@.n == 1.0)].k", ["one"]),
        ("$.list[?(@.n > 1.0)].k", ["two", "three"]),
        ("$.list[?(@.k =~ /^T/i)].k", ["two", "three"]),
        ("$.list[?(@.k == 'one' || @.k == 'two' && @.n == 9)].k", ["one"]),
        ("$.list[?(@.k == 'one' && @.n == 9 || @.k == 'two')].k", []),
        ("$.list[?(@.n == $.a.x)].k", ["one"]),
        ("$.list[?(@.k <> 'one')].k", ["two", "three"]),
        ("$.list[?(@ == 5)]", [5]),
        ("$..[?(@x == 2)]", [{"x": 2}]),
        ("$..[?(@a.x)].a.text", ["abc"]),
        ("$.a[?(@.x)]", []),
        ("$.missing.x", []),
        ("$.a[?(@y)]", []),
        ("$..[?(@y == null)].x", [1]),
    ],
)
def test_jsonpath_selects_as_in_the_predecessors_dialect(text: str, found: list[Any]) -> None:
    assert path(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "$.list[",
        "$.list[?(@.n]",
        "$.list[?(@.n == )]",
        '$.list[?(@.k == "one")]',
        "$.list[?(!@.n)]",
        "$.list[?((@.n == 1) && @.k)]",
        "$.list[?(@.n == 1&& @.k)]",
        "$.list[?(@.n = 1)]",
        "$.list[a]",
        "$.list[]",
        "$.list[::0]",
        "$.a..",
        "$.a.",
        "$.a ]",
        "$['a'",
        "$['a'x",
        "$.list[0]x",
        "$.list[?(@.k =~ 'one')]",
        "$.list[?(@.k =~ /(/)]",
        "$.list[?(@.k =~ /(a+)+$/)]",
        "$.list[?(@.k =~ /(a|a)*$/)]",
        "$.list[?(@.k =~ /a*b*c*d*e*/)]",
        "$" + "[?(@" * 40 + ")]" * 40,
        "$." + "a" * 5_000,
    ],
)
def test_bad_jsonpath_is_refused_when_compiled(text: str) -> None:
    with pytest.raises(ExpressionFault):
        compile_expression(text, "JsonPath")


def test_a_filter_on_an_object_selects_members_which_are_no_values() -> None:
    with pytest.raises(ExpressionFault):
        path("$.a[?(@)]")


def test_a_scan_over_a_huge_message_is_bounded() -> None:
    document = {"rows": [{"v": [0] * 100} for _ in range(1_000)]}

    with pytest.raises(ExpressionFault) as caught:
        compile_expression("$..*", "JsonPath").matches(document)
    assert caught.value.reason == "limit-exceeded"


@pytest.mark.parametrize(
    "text", ["list[*].k", "@.list[*].k", "wrap.list[*].k", "wrap.list[].k", "wrap.list[?k].k", "wrap.wrap.list[:3].k"]
)
def test_a_jmespath_projection_counts_each_element_however_deep_it_begins(text: str) -> None:
    document: dict[str, object] = {**DOCUMENT, "wrap": {**DOCUMENT, "wrap": DOCUMENT}}

    assert compile_expression(text, "JmesPath").matches(document) == ["one", "two", "three"]
    with pytest.raises(ExpressionFault, match="Multiple tokens"):
        query(text, document)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("add(`9223372036854775807`, `1`)", -(2**63)),
        ("subtract(`-9223372036854775808`, `1`)", 2**63 - 1),
        ("multiply(`4611686018427387904`, `2`)", -(2**63)),
        ("multiply(`2`, `1.5`)", 3.0),
        ("divide(`7`, `2`)", 3),
        ("divide(`-7`, `2`)", -3),
        ("divide(`7`, `2.0`)", 3.5),
        ("divide(`1.0`, `0`)", float("inf")),
        ("pow(`2`, `-1`)", 0),
        ("pow(`2`, `0.5`)", 2**0.5),
        ("pow(`10.0`, `400`)", float("inf")),
        ("insertString('abcd', 'X', `4`)", "abcdX"),
        ("fromUnixTimestamp(`-1`)", Instant(-1_000_000)),
        ("fromUnixTimestampMs(`1500`)", Instant(1_500_000)),
        ("a.y", None),
        ("list[*].k | [0]", "one"),
        ("list[?k==`one`].k | [0]", "one"),
        ("length(list)", 4),
    ],
)
def test_jmespath_functions_count_in_64_bits(text: str, result: object) -> None:
    assert query(text) == result


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("divide(`1`, `0`)", "divide-by-zero"),
        ("pow(`40`, `50`)", "overflow"),
        ("add(a.text, `1`)", "invalid-type"),
        ("add(`true`, `1`)", "invalid-type"),
        ("add(missing, `1`)", "invalid-type"),
        ("length(a.x)", "invalid-type"),
        ("fromUnixTimestamp(`1.5`)", "invalid-type"),
        ("fromUnixTimestamp(`999999999999999`)", "out-of-range"),
        ("insertString('a', 'b', `-1`)", "out-of-range"),
        ("list[*].k", "multiple-tokens"),
        ("[@,@][] | " * 15 + "[@,@][]", "limit-exceeded"),
    ],
)
def test_jmespath_errors_have_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ExpressionFault) as caught:
        query(text)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "text", ["unknown(@)", "add(`1`)", "length(@, @)", "a[", "not_null()", "(" * 70 + "a" + ")" * 70]
)
def test_bad_jmespath_is_refused_when_compiled(text: str) -> None:
    with pytest.raises(ExpressionFault):
        compile_expression(text, "JmesPath")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2030-01-02T03:04:05Z", "2030-01-02T03:04:05Z"),
        ("2030-01-02T03:04:05", "2030-01-02T03:04:05Z"),
        ("2030-01-02T03:04:05.1234567+05:30", "2030-01-01T21:34:05.123456Z"),
        ("2030-01-02 03:04", "2030-01-02T03:04:00Z"),
        ("2030-01-02", "2030-01-02T00:00:00Z"),
        ("01/02/2030 03:04:05 PM", "2030-01-02T15:04:05Z"),
        ("Wed, 02 Jan 2030 03:04:05 GMT", "2030-01-02T03:04:05Z"),
    ],
)
def test_dates_are_read_in_many_forms_and_without_a_zone_as_utc(text: str, instant: str) -> None:
    assert instant_text(parse_instant(text)) == instant


@pytest.mark.parametrize(
    "text", ["", "soon", "2030-13-01", "20300102", "2030-W01-1", "1893456000", "2030-01-02T25:00:00Z"]
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ExpressionFault):
        parse_instant(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_rendered_float_is_the_same_number(number: float) -> None:
    assert float(render(number)) == number
    assert re.fullmatch(r"-?\d+(\.\d+)?(E[+-]\d{2,3})?", render(number))


TEMPLATE = """{
  "templateType": "CollectionContent",
  "template": [
    {"templateType": "CalculatedContent", "template": {
      "typeName": "t", "typeMatchExpression": "$.Body", "deviceIdExpression": "$.Body.d",
      "timestampExpression": "$.Body.at", "values": [%s]}}
  ]
}"""


def faults(text: str, compatibility: Any = "pulseweir") -> list[str]:
    with pytest.raises(MappingError) as caught:
        DeviceMapping.loads(text, compatibility=compatibility)
    return [f"{fault.line}:{fault.column} {fault.member} {fault.problem}" for fault in caught.value.faults]


def test_every_fault_is_listed_with_its_place_and_member() -> None:
    text = TEMPLATE % (
        '{"valueName": "a"},\n'
        '{"valueName": "b", "valueExpression": "$.x", "requird": true},\n'
        '{"valueName": "c", "valueExpression": {"value": "add(x)", "language": "JmesPath"}},'
        '{"valueName": "d", "valueExpression": "$.x["}'
    )

    found = faults(text)

    assert len(found) == 4
    assert found[0].startswith(
        "6:54 template[0].template.values[0].valueExpression Required property 'ValueExpression'"
    )
    assert found[1].startswith("7:57 template[0].template.values[1].requird Could not find member 'requird'")
    assert "add(x)" in found[2]
    assert "values[3].valueExpression" in found[3]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "1:1 document"),
        ('{"a": 1, "a": 2}', "given twice"),
        ("[" * 200, "nested deeper"),
        ('{"templateType": "CollectionContent", "template": []} x', "after the end"),
        ('{"templateType": "CollectionContent", "template": {}}', "is not an array"),
        ('{"templateType": "Other", "template": []}', "Expected TemplateType value CollectionContentTemplate"),
        (
            '{"templateType": "CollectionContent", "template": [{"templateType": "X", "template": {}}]}',
            "No match found",
        ),
        ('{"templateType": "CollectionContent", "template": [5]}', "template[0] is not an object"),
        ('{"templateType": NaN, "template": []}', "a value is expected"),
        (TEMPLATE % '{"valueName": "a", "valueExpression": ""}', "An expression must be set"),
        (TEMPLATE % '{"valueName": "a", "valueExpression": "$.x", "required": "maybe"}', "neither true nor false"),
    ],
)
def test_a_bad_mapping_is_refused_with_the_place(text: str, fragment: str) -> None:
    assert any(fragment in fault for fault in faults(text))


def test_a_bad_jsonpath_loads_strictly_and_fails_on_each_message() -> None:
    text = TEMPLATE % '{"valueName": "a", "valueExpression": "$.x["}'

    mapping = DeviceMapping.loads(text)

    with pytest.raises(MessageError) as caught:
        mapping.normalize({"Body": {"d": "1", "at": "2030-01-01"}})
    assert (caught.value.template, caught.value.expression) == ("0", "$.x[")


def test_a_mapping_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "device.json"
    file.write_text(TEMPLATE % '{"valueName": "a", "valueExpression": "$.Body.v"}', encoding="utf-8")

    (found,) = DeviceMapping.load(file).normalize({"Body": {"d": 1, "at": "2030-01-01", "v": True}})

    assert (found.device_id, found.properties, found.occurred_at.isoformat()) == (
        "1",
        {"a": "True"},
        "2030-01-01T00:00:00+00:00",
    )


def test_a_fault_in_a_later_template_keeps_earlier_measurements_back() -> None:
    good = {"typeName": "g", "typeMatchExpression": "$", "deviceIdExpression": "$.d", "timestampExpression": "$.at"}
    bad = good | {"typeName": "b", "timestampExpression": "$.never"}
    templates = [{"templateType": "JsonPathContent", "template": template} for template in (good, bad)]
    mapping = DeviceMapping.load({"templateType": "CollectionContent", "template": templates})

    with pytest.raises(MessageError) as caught:
        mapping.normalize({"d": "1", "at": "2030-01-01"})
    assert caught.value.template == "1"


@settings(deadline=None)
@given(st.text(alphabet="$@.[]()?'\"*:,&|=<>!~/ ab01-\\", max_size=40))
def test_any_text_compiles_or_is_refused_and_never_crashes(text: str) -> None:
    for language in ("JsonPath", "JmesPath"):
        try:
            expression = compile_expression(text, language)
            expression.matches(DOCUMENT)
            expression.single(DOCUMENT)
        except ExpressionFault:
            continue


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from("abdv"), children, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(json_values)
def test_any_body_normalizes_or_is_refused(body: object) -> None:
    mapping = DeviceMapping.loads(TEMPLATE % '{"valueName": "a", "valueExpression": "$..v"}')

    with contextlib.suppress(MessageError):
        assert mapping.normalize({"Body": body}) is not None
