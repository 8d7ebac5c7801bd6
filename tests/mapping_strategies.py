"""Random device mappings and random messages, chosen so that they often meet.

Every construct of both languages can occur. Messages are JSON texts rather than values: texts can repeat a member,
write a number in any form, and hold what no encoder would write.
"""

import json
from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b", "v", "hr", "at", "device", "list", "two words", "größe", "matchedToken", "")
_PLAIN = ("a", "b", "v", "hr", "at", "device", "list")
INSTANTS = (
    "2030-01-02T03:04:05Z",
    "2030-01-02T03:04:05.25Z",
    "2030-01-02T03:04:05.123456Z",
    "2030-01-02T03:04:05.1234567+05:30",
    "2030-01-02T03:04:05",
    "2030-01-02 03:04",
    "2030-01-02",
    "01/02/2030 03:04:05 PM",
    "Wed, 02 Jan 2030 03:04:05 GMT",
)
NO_INSTANTS = ("2030-02-30T00:00:00Z", "2030-01-02T24:00:00Z", "0000-01-01T00:00:00Z", "soon", "1893456000", "२०३०")
_TEXTS = (
    *INSTANTS,
    *NO_INSTANTS,
    "",
    " ",
    "\t\n",
    "x",
    "m1",
    "61",
    " 7 ",
    "36.60",
    "1_0",
    "NaN",
    "1e999",
    "é\u2028",
    "😀",
)
_NUMBERS = (
    *(
        "0",
        "1",
        "-1",
        "61",
        "0.0",
        "-0.0",
        "-0",
        "1.0",
        "7.50",
        "36.6",
        "1e-5",
        "0.0001",
        "1E5",
        "1e22",
        "1e15",
        "1e14",
    ),
    *("123456.789", "12345678901.5", "5e-324", "1.7976931348623157e308", "9007199254740993", "9223372036854775807"),
    *("9223372036854775808", "-9223372036854775809", "123456789012345678901234567890", "9" * 60, "1893456000"),
)

# --- messages ---

scalar_texts = (
    st.sampled_from(("null", "true", "false"))
    | st.sampled_from(_NUMBERS)
    | st.integers(-(2**66), 2**66).map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.sampled_from(_TEXTS).map(json.dumps)
    | st.text(max_size=4).filter(lambda text: text.isprintable()).map(json.dumps)
)


def _objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(st.sampled_from(NAMES), values).map(lambda pair: f"{json.dumps(pair[0])}:{pair[1]}")
    return st.lists(pair, max_size=5).map(lambda pairs: "{" + ",".join(pairs) + "}")


def _arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=4).map(lambda items: "[" + ",".join(items) + "]")


json_texts = st.recursive(scalar_texts, lambda inner: _objects(inner) | _arrays(inner), max_leaves=20)


def often(usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any], times: int = 9) -> st.SearchStrategy[Any]:
    """The usual, and once in a while the other."""
    return st.integers(0, times).flatmap(lambda number: other if number == times else usual)


_OTHER_NAMES = tuple(name for name in NAMES if name not in {"device", "at"})


@st.composite
def measured_bodies(draw: st.DrawFn) -> str:
    """A body as devices send them: an object with a device, an instant, and some values."""
    device = often(st.sampled_from(('"m1"', '"m2"', '"größe"', "7")), scalar_texts)
    moment = often(st.sampled_from(INSTANTS).map(json.dumps), scalar_texts)
    members = [("device", draw(device)), ("at", draw(moment))]
    if draw(st.integers(0, 3)):
        members += [("deviceId", '"central"'), ("enqueuedTime", '"2030-01-02T03:04:05Z"')]
    names = st.lists(often(st.sampled_from(_OTHER_NAMES), st.sampled_from(NAMES)), min_size=1, max_size=5)
    members += [(name, draw(often(scalar_texts, json_texts, 2))) for name in draw(names)]
    if draw(st.booleans()):
        parts = draw(st.lists(_small_objects, max_size=3))
        members.append(("list", "[" + ",".join(parts) + "]"))
    left_out = draw(often(st.none(), st.sampled_from(("device", "at"))))
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in members if name != left_out) + "}"


_small_objects = st.builds(
    lambda device, moment, value: f'{{"device":{device},"at":"{moment}","hr":{value},"v":{value}}}',
    st.sampled_from(('"m1"', '"m2"')),
    st.sampled_from(INSTANTS),
    scalar_texts,
)
_BROKEN = (b"", b" ", b"{", b'{"a":NaN}', b"\xff\xfe", b'{"a":"\xff"}', b'"\\ud800"', b"[" * 100 + b"]" * 100, b"1e400")


def bodies() -> st.SearchStrategy[bytes]:
    """Message bodies: mostly what devices send, sometimes any JSON, sometimes no JSON at all."""
    good = measured_bodies().map(str.encode)
    listed = st.lists(measured_bodies(), max_size=3).map(lambda texts: ("[" + ",".join(texts) + "]").encode())
    nested = measured_bodies().map(lambda text: f'{{"list":[{text}],"a":{text}}}'.encode())
    strange = json_texts.map(str.encode) | st.sampled_from(_BROKEN)
    return often(st.one_of(good, good, nested, listed), strange)


_ENOUGH = '{"iothub-connection-device-id":"d","iothub-enqueuedtime":"2030-01-01T00:00:01Z"}'
property_texts = often(
    st.sampled_from((_ENOUGH, _ENOUGH, _ENOUGH, None, "{}", '{"iothub-creation-time-utc":"2030-01-01T00:00:00.5Z"}')),
    st.sampled_from(('{"hr":"5"}', '{"Body":{"hr":1}}', "[1]", "x{", "null", '{"hr":{"hr":1}}')),
)

# --- JSONPath ---


def _quoted(name: str) -> str:
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"


_places = st.integers(-3, 3)
_slices = st.builds(
    lambda start, stop, step: f"[{'' if start is None else start}:{'' if stop is None else stop}:{step or ''}]",
    st.none() | _places,
    st.none() | _places,
    st.sampled_from((None, 1, 2, -1, -2)),
)
_constants = st.sampled_from(
    ("1", "61", "0", "1.0", "7.5", "-1", "'x'", "'m1'", "'61'", "'true'", "true", "false", "null")
)
_patterns = st.sampled_from(("/^m/", "/M/i", "/[0-9]+/", "/^2030-(01|02)/", "/.*x?/", "/1|2/"))
_paths_in_filters = st.one_of(
    st.sampled_from(_PLAIN).map(lambda name: f"@{name}"),
    st.sampled_from(_PLAIN).map(lambda name: f"@.{name}"),
    st.sampled_from(_PLAIN).map(lambda name: f"@{name}"),
    st.tuples(st.sampled_from(_PLAIN), st.sampled_from(_PLAIN)).map(lambda names: f"@.{names[0]}.{names[1]}"),
    st.sampled_from(
        ("@", "@.*", "@..a", "@.list[0]", "@.list[-1].v", "$.Body.a", "$.a", "@['two words']", "$..v", "@Body.hr")
    ),
)
_operators = st.sampled_from(("==", "===", "!=", "!==", "<>", "<", "<=", ">", ">="))
_tests = st.one_of(
    _paths_in_filters,
    _paths_in_filters,
    st.builds(lambda left, operator, right: f"{left} {operator} {right} ", _paths_in_filters, _operators, _constants),
    st.builds(
        lambda left, operator, right: f"{left} {operator} {right}", _paths_in_filters, _operators, _paths_in_filters
    ),
    st.builds(lambda left, operator, right: f"{left} {operator} {right} ", _constants, _operators, _paths_in_filters),
    st.builds(lambda left, right: f"{left} =~ {right}", _paths_in_filters, _patterns),
)
conditions = st.builds(
    lambda first, rest: first + "".join(f" {joint} {test}" for joint, test in rest),
    _tests,
    st.lists(st.tuples(st.sampled_from(("&&", "||")), _tests), max_size=3),
)
_steps = st.one_of(
    st.sampled_from(_PLAIN).map(lambda name: f".{name}"),
    st.sampled_from(_PLAIN).map(lambda name: f".{name}"),
    st.sampled_from(NAMES).map(lambda name: f"[{_quoted(name)}]"),
    st.lists(st.sampled_from(NAMES), min_size=2, max_size=3).map(lambda names: f"[{','.join(map(_quoted, names))}]"),
    st.sampled_from((".*", "[*]", "..*", "..[*]")),
    _places.map(lambda place: f"[{place}]"),
    st.lists(_places, min_size=2, max_size=3).map(lambda places: f"[{','.join(map(str, places))}]"),
    _slices,
    st.sampled_from(_PLAIN).map(lambda name: f"..{name}"),
    conditions.map(lambda condition: f"[?({condition})]"),
    conditions.map(lambda condition: f"..[?({condition})]"),
)
jsonpaths = st.builds(
    lambda start, steps: start + "".join(steps),
    st.sampled_from(("$", "$", "$.Body", "$.Body.list[*]", "$.matchedToken", "$..[?(@hr)]")),
    st.lists(_steps, max_size=3),
)
plain_jsonpaths = st.sampled_from(_PLAIN).flatmap(
    lambda name: st.sampled_from((f"$.{name}", f"$.Body.{name}", f"$.matchedToken.{name}", f"$['{name}']", f"{name}"))
)
_LIKELY = ("$..[?(@hr)]", "$..[?(@device)]", "$..[?(@at && @device)]", "$..[?(@v || @hr)]", "$..[?(@at == @at)]")
jsonpath_matches = often(
    st.sampled_from((*_LIKELY, "$.Body", "$.Body.list[*]", "$.Body[*]", "$.Body.list[?(@.at)]", "$.Body.list[0]")),
    conditions.map(lambda condition: f"$..[?({condition})]") | jsonpaths | st.just("$") | st.just("$..[?(@Body.hr)]"),
    3,
)

# --- JMESPath ---


def _identifier(name: str) -> str:
    return name if name.isascii() and name.isidentifier() else json.dumps(name)


_fields = st.sampled_from(NAMES).map(_identifier)
_literals = st.sampled_from(
    (
        "`1`",
        "`0`",
        "`61`",
        "`1.5`",
        "`true`",
        "`false`",
        "`null`",
        "`[]`",
        "`[1, 2]`",
        "`{}`",
        '`"x"`',
        "'x'",
        "''",
        "'m1'",
        "`x`",
    )
)
_bases = st.one_of(
    _fields,
    _fields,
    st.sampled_from(("Body", "Body", "matchedToken", "@", "Body.list", "Body.a", "Body.hr", "Body.v")),
    _literals,
)
_CALLS_OF_ONE = (
    *("abs", "avg", "ceil", "floor", "keys", "length", "max", "min", "not_null", "reverse", "sort", "sum", "to_array"),
    *("to_number", "to_string", "type", "values", "fromUnixTimestamp", "fromUnixTimestampMs", "merge"),
)
_CALLS_OF_TWO = (
    "add",
    "subtract",
    "multiply",
    "divide",
    "pow",
    "contains",
    "starts_with",
    "ends_with",
    "join",
    "not_null",
)


def _longer(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    part = st.one_of(
        _fields.map(lambda name: f".{name}"),
        _places.map(lambda place: f"[{place}]"),
        _slices,
        st.sampled_from(("[*]", "[]", ".*", "[*].v", ".*.v", "[*].a | [0]", " | [0]", "[].list[]")),
        inner.map(lambda test: f"[?{test}]"),
        inner.map(lambda test: f" | {test}"),
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: f".[{', '.join(parts)}]"),
        st.lists(inner, min_size=1, max_size=2).map(
            lambda parts: ".{" + ", ".join(f"k{place}: {text}" for place, text in enumerate(parts)) + "}"
        ),
    )
    two = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(inner, part).map("".join),
        st.tuples(two, st.sampled_from(("==", "!=", "<", "<=", ">", ">=", "&&", "||"))).map(
            lambda found: f"({found[0][0]} {found[1]} {found[0][1]})"
        ),
        inner.map(lambda text: f"!({text})"),
        st.tuples(st.sampled_from(_CALLS_OF_ONE), inner).map(lambda call: f"{call[0]}({call[1]})"),
        st.tuples(st.sampled_from(_CALLS_OF_TWO), two).map(lambda call: f"{call[0]}({', '.join(call[1])})"),
        st.tuples(inner, inner, _places).map(lambda three: f"insertString({three[0]}, {three[1]}, `{three[2]}`)"),
        st.tuples(st.sampled_from(("sort_by", "min_by", "max_by")), inner, inner).map(
            lambda call: f"{call[0]}({call[1]}, &{call[2]})"
        ),
        two.map(lambda both: f"map(&{both[0]}, {both[1]})"),
    )


jmespaths = st.recursive(_bases, _longer, max_leaves=6)
plain_jmespaths = st.sampled_from(_PLAIN).flatmap(
    lambda name: st.sampled_from((f"Body.{name}", f"matchedToken.{name}", name, f"Body.list[0].{name}"))
)
_LIKELY_QUERIES = ("Body", "[Body][?hr]", "to_array(Body)[?device]", "Body.list[*]", "Body.list[?at]", "[Body, Body][]")
jmespath_matches = often(
    st.sampled_from(
        (*_LIKELY_QUERIES, "[Body][?contains(keys(@), 'hr')]", "Body.list[?v > `1`]", "Body.a || Body.list")
    ),
    jmespaths,
    3,
)

# --- mappings ---


@st.composite
def _expression(draw: st.DrawFn, paths: Any, queries: Any, *, calculated: bool) -> Any:
    """An expression as a mapping writes it; only CalculatedContent may choose the language."""
    if not calculated or draw(st.booleans()):
        return draw(paths)
    return {"value": draw(queries), "language": draw(st.sampled_from(("JmesPath", "jmespath")))}


@st.composite
def templates(draw: st.DrawFn) -> dict[str, Any]:
    """One template of any kind."""
    kinds = ("JsonPathContent", "JsonPathContent", "CalculatedContent", "CalculatedContent", "CalculatedContent")
    kind = draw(st.sampled_from((*kinds, *kinds, "IotJsonPathContent", "IotCentralJsonPathContent")))
    calculated = kind == "CalculatedContent"
    prefix = "$.matchedToken" if calculated else "$"
    matches = jsonpath_matches
    if kind == "IotJsonPathContent":
        matches = often(st.sampled_from(("$", "$..[?(@Body.hr)]", "$..[?(@Body)]")), jsonpath_matches)
    wanted = _expression(
        often(plain_jsonpaths, jsonpaths, 3), often(plain_jmespaths, jmespaths, 3), calculated=calculated
    )
    device = often(st.just(f"{prefix}.device"), plain_jsonpaths)
    moment = often(st.just(f"{prefix}.at"), plain_jsonpaths)
    devices = often(st.sampled_from(("matchedToken.device", "to_string(type(@))")), jmespaths)
    some = st.sampled_from(
        ("fromUnixTimestamp(Body.v)", "fromUnixTimestampMs(`1893456000000`)", "Body.at", "Body.list[0].at")
    )
    flags = often(st.sampled_from((False, "false")), st.sampled_from((True, "true")))
    value = st.fixed_dictionaries(
        {"valueName": st.sampled_from(("one", "two", "größe")), "valueExpression": wanted}, optional={"required": flags}
    )
    content: dict[str, Any] = {
        "typeName": draw(st.sampled_from(("t", "u", "größe"))),
        "typeMatchExpression": draw(_expression(matches, jmespath_matches, calculated=calculated)),
        "deviceIdExpression": draw(_expression(device, devices, calculated=calculated)),
        "timestampExpression": draw(
            _expression(moment, often(st.just("matchedToken.at"), some, 3), calculated=calculated)
        ),
        "values": draw(st.lists(value, max_size=4)),
    }
    for name in draw(st.sampled_from(((), (), ("patientId",), ("encounterId",), ("patientId", "correlationId")))):
        content[f"{name}Expression"] = draw(wanted if name != "correlationId" else device)
    return {"templateType": kind, "template": content}


def mappings() -> st.SearchStrategy[dict[str, Any]]:
    """Whole mappings; what does not compile as JSONPath loads and fails later, what does not as JMESPath is refused."""
    return st.lists(templates(), min_size=1, max_size=2).map(
        lambda found: {"templateType": "CollectionContent", "template": found}
    )
