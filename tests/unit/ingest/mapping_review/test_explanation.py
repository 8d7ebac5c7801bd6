"""Why a template did not match: the sub-expression, what was there instead, the nearest path."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapping_samples import BODY, device, fhir, value
from pulseweir.errors import MappingError
from pulseweir.mapping import DeviceMapping, Stop, explain

MESSAGE: dict[str, Any] = {
    "heartRate": 61,
    "unit": "beats",
    "vitals": [{"kind": "spo2", "value": 97}, {"kind": "pulse", "value": 61}],
    "empty": [],
    "nothing": None,
    "patient": {"name": "secret-name"},
    "number as text": "61",
}


def stop_of(expression: str, language: str = "JsonPath", message: object = MESSAGE) -> Stop:
    written = {"value": expression, "language": language}
    mapping = device({"kind": "CalculatedContent", "typeMatchExpression": written})
    (template,) = explain(mapping, message).templates
    assert template.matches == 0
    assert template.stop is not None
    return template.stop


@pytest.mark.parametrize(
    ("expression", "stops_at", "nearest"),
    [
        ("$..[?(@Body.heartrate)]", "@Body.heartrate", "Body.heartRate"),
        ("$..[?(@heartrate)]", "@heartrate", "Body.heartRate"),
        ("$..[?(@Body.heartRate && @Body.unit == 'bpm')]", "@Body.unit == 'bpm'", None),
        ("$..[?(@Body.hr)]", "@Body.hr", "Body.heartRate"),
        ("$..[?(@kind == 'hr')]", "@kind == 'hr'", None),
        ("$..[?(@kind == 'pulse' && $.Body.Unit =~ /bpm/)]", "$.Body.Unit =~ /bpm/", "Body.unit"),
        ("$..[?(@kind == 'pulse' && $.Body.unit =~ /bpm/)]", "$.Body.unit =~ /bpm/", None),
        ("$..[?(@kind == 'hr' && $.Body.unit =~ /beats/)]", "@kind == 'hr'", None),
        ("$..[?(@kind == $.Body.unit)]", "@kind == $.Body.unit", None),
        ("$.Body.heart_rate", "$.Body.heart_rate", "Body.heartRate"),
        ("$.body.heartRate", "$.body", "Body.heartRate"),
        ("$.Body.kind", "$.Body.kind", "Body.vitals[*].kind"),
        ("$.heartRate", "$.heartRate", "Body.heartRate"),
        ("$..heartrate", "$..heartrate", "Body.heartRate"),
        ("$.Body.vitals[7]", "$.Body.vitals[7]", None),
        ("$.Body.vitals[?(@.kind == 'hr')].value", "@.kind == 'hr'", None),
        ("$.Body.vitals.kind", "$.Body.vitals.kind", "Body.vitals[*].kind"),
    ],
)
def test_a_jsonpath_stops_at_the_part_that_selects_nothing(expression: str, stops_at: str, nearest: str | None) -> None:
    stop = stop_of(expression)

    assert (stop.expression, stop.nearest) == (stops_at, nearest)


@pytest.mark.parametrize(
    ("expression", "stops_at", "nearest"),
    [
        ("Body.heartrate", "heartrate", "Body.heartRate"),
        ("[Body][?contains(keys(@), `heartrate`)]", "contains(keys(@), 'heartrate')", "Body.heartRate"),
        ("to_array(@)[?Body.heartRate && Body.unit == 'bpm']", "Body.unit == 'bpm'", None),
        ("Body.vitals[?kind == 'hr'].value", "kind == 'hr'", None),
        ("Body.vitals[*].Value", "Value", "Body.vitals[*].value"),
        ("Body.vitals.kind", "kind", "Body.vitals[*].kind"),
        ("Body[?heartRate]", "Body[?heartRate]", None),
        ("Body.vitals[9]", "[9]", None),
        ("Body.nothing", "nothing", None),
        ("Body.empty[*].x", "empty[*]", None),
        ("vitals[?kind == 'pulse'] | [0]", "vitals", "Body.vitals"),
    ],
)
def test_a_jmespath_stops_at_the_part_that_yields_nothing(expression: str, stops_at: str, nearest: str | None) -> None:
    stop = stop_of(expression, "JmesPath")

    assert (stop.expression, stop.nearest) == (stops_at, nearest)


@pytest.mark.parametrize(
    ("expression", "language", "words"),
    [
        ("$.Body[?(@.heartRate)]", "JsonPath", "tries its members, not the object"),
        ("$..[?(@Body.heartrate)]", "JsonPath", "case-sensitive"),
        ("$..[?(@a && @b || @c)]", "JsonPath", "read as @.a && (@.b || @.c)"),
        ("$.Body.vitals.kind", "JsonPath", "write [*] before .kind"),
        ("Body[?heartRate]", "JmesPath", "to_array(@)"),
        ("Body.heartrate", "JmesPath", "case-sensitive"),
    ],
)
def test_a_trap_of_the_language_is_explained(expression: str, language: str, words: str) -> None:
    assert words in " ".join(stop_of(expression, language).hints)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ('$..[?(@unit == "bpm")]', "single quotes"),
        ("$..[?(!@unit)]", "no `!`"),
        ("$..[?(@a > 1&&@b)]", "ends with a space"),
        ("$..[?((@a && @b) || @c)]", "parentheses"),
    ],
)
def test_a_jsonpath_of_another_dialect_is_told_what_this_one_lacks(expression: str, words: str) -> None:
    (template,) = explain(device({"typeMatchExpression": expression}), MESSAGE).templates

    assert template.error is not None
    assert template.stop is not None
    assert words in " ".join(template.stop.hints)


def test_what_was_there_instead_is_told_in_names_and_kinds() -> None:
    assert stop_of("$..[?(@Body.unit == 'bpm')]").because == "@Body.unit is a text: the comparison is not true."
    assert "Body is an object with heartRate, unit, vitals" in stop_of("$.Body.pulse").because
    assert stop_of("$..[?(@heartrate && @unit == 'bpm')]").because.startswith("Body is an object")
    assert "an integer, compared with a text" in stop_of("$..[?(@Body.heartRate == '61')]").because
    assert "the array has 2 elements" in stop_of("$.Body.vitals[2]").because


def test_no_value_is_told_unless_asked_for() -> None:
    mapping = device({"typeMatchExpression": "$..[?(@name == 'x')]"}, {"values": [value("unit"), value("patient")]})

    silent = explain(mapping, MESSAGE | BODY)
    open_hearted = explain(mapping, MESSAGE | BODY, show_values=True)

    assert not [one for one in ("secret", "beats", "61") if one in str(silent.to_json())]
    assert "'secret-name'" in str(open_hearted.to_json())
    assert "device-secret" in str(open_hearted.to_json())


def test_the_verdict_names_the_template_that_came_nearest() -> None:
    mapping = device(
        {"typeMatchExpression": "$..[?(@a && @b && @c)]", "typeName": "far"},
        {"typeMatchExpression": "$..[?(@heartRate && @unit == 'bpm')]", "typeName": "near"},
    )

    found = explain(mapping, MESSAGE)

    assert found.outcome == "unmatched"
    assert found.verdict.startswith("No template matches. Nearest: template 1 (near) fails only at @unit == 'bpm'")


def test_the_verdict_of_a_match_counts_and_of_a_refusal_says_why() -> None:
    assert explain(device(), BODY).verdict == "1 of 1 templates match: 1 measurements (heart-rate)."
    refused = explain(device(), {"rate": 61, "device": "d"})
    assert refused.outcome == "rejected"
    assert "[TimestampExpression]" in refused.verdict
    assert explain(device({}), {}).outcome == "unmatched"


def test_each_field_says_what_it_found() -> None:
    mapping = device(
        {
            "values": [
                value("rate"),
                value("absent", "$.Rate"),
                value("array", "$.list"),
                value("several", "$.list[*]"),
                value("null"),
            ]
        }
    )
    (template,) = explain(mapping, BODY | {"list": [1, 2], "null": None}).templates
    fields = {one.field: one for one in template.fields}

    assert {name: one.found for name, one in fields.items()} == {
        "DeviceIdExpression": "text",
        "TimestampExpression": "text",
        "rate": "integer",
        "absent": "nothing",
        "array": "array",
        "several": "error",
        "null": "null",
    }
    assert fields["absent"].stop is not None
    assert fields["absent"].stop.nearest == "rate"
    assert "left out" in str(fields["array"].error)
    assert "whole message is refused" in str(fields["several"].error)
    assert "| [0]" in str(fields["several"].stop)


def test_a_template_whose_scope_is_the_match_is_told_so() -> None:
    mapping = device({"typeMatchExpression": "$.Body.inner", "deviceIdExpression": "$.Body.device"})

    (template,) = explain(mapping, BODY | {"inner": {"rate": 1}}).templates

    by_name = {one.field: one.stop for one in template.fields}
    assert by_name["DeviceIdExpression"] is not None
    assert "`$` is the matched token (Body.inner)" in str(by_name["DeviceIdExpression"].hints)
    assert "The whole message has Body.at" in str(by_name["TimestampExpression"])


def test_a_boolean_type_match_is_told_to_match_always() -> None:
    written = {"value": "Body.rate == `0`", "language": "JmesPath"}
    mapping = device({"kind": "CalculatedContent", "typeMatchExpression": written, "values": []})

    (template,) = explain(mapping, BODY).templates

    assert template.matches == 1
    assert "even false" in " ".join(template.hints)


def test_the_fhir_side_is_told() -> None:
    mapping = device({"values": [value("rate"), value("Rate", "$.rate")]}, {"typeName": "heart-rates", "values": []})

    found = explain(mapping, BODY, fhir())

    assert [one.fhir for one in found.templates] == [
        "The FHIR mapping has this type.",
        "The FHIR mapping has no template of this type; it has heart-rate.",
    ]
    assert [one.bound for one in found.templates[0].fields] == [None, None, True, False]
    assert explain(mapping, BODY).templates[0].fhir is None


def test_an_envelope_is_taken_as_it_is() -> None:
    assert explain(device(), {"Body": BODY, "Properties": {}, "SystemProperties": {}}).outcome == "accepted"


NAMES = st.sampled_from(["a", "b", "Body", "rate", "x y", "@", "[0]"])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)
EXPRESSIONS = st.sampled_from(
    [
        *(
            "$.a.b",
            "$..a",
            "$..[?(@a)]",
            "$.Body[?(@.a == 1 )]",
            "$.Body[*].a[0:2]",
            "$['a','b']",
            "$..[?(@a[0] > 'x')]",
        ),
        *(
            "$..[?(@a && @b || $.Body.rate > 1 )]",
            "$..[?(@a == $.Body.b)]",
            "$..[?(@.a =~ /x/i)]",
            "$.Body[-1]",
            "$..*",
            "$[?(@)]",
            "$.Body['x y']",
        ),
    ]
)
QUERIES = st.sampled_from(
    [
        *(
            "Body.a",
            "Body[?a > `1`].b | [0]",
            "to_array(Body)[?a && !b].a[]",
            "Body.*.a",
            "Body[*].[a, b]",
            "keys(Body)",
        ),
        *("add(Body.a, `1`)", "Body.a || Body.b", "Body[::2].a", "sort_by(Body, &a)[0]", 'Body."x y"', "{x: Body.a}"),
        *("contains(Body, `a`)", "fromUnixTimestampMs(Body.a)", "Body[0][?a == `null`]", "length(Body.a) > `1`"),
    ]
)


@given(DOCUMENTS, EXPRESSIONS, QUERIES)
def test_any_message_is_explained_and_in_agreement_with_what_happens(body: object, path: str, query: str) -> None:
    written = {"value": query, "language": "JmesPath"}
    try:
        mapping = device(
            {"typeMatchExpression": path},
            {"kind": "CalculatedContent", "typeMatchExpression": written, "values": [value("q", "$.Body")]},
        )
    except MappingError:
        raise AssertionError("the samples are valid") from None

    for template, found in zip(mapping.templates, explain(mapping, {"Body": body}).templates, strict=True):
        assert template.type_match is not None
        if found.error is None:
            assert found.matches == len(template.type_match.matches({"Body": body}))
        assert (found.matches == 0) == (found.stop is not None)


def test_an_empty_mapping_is_explained() -> None:
    empty = DeviceMapping.load({"templateType": "CollectionContent", "template": []})

    assert explain(empty, BODY).verdict == "No template matches: the mapping has none."
