"""What the predecessor does and no vector pins: operators and traps, rendering, arithmetic, groups."""

import json
from typing import Any

import pytest

from pulseweir.mapping import DeviceMapping, FhirMapping, MappingError, MessageError

BODY: dict[str, Any] = {
    "device": "d",
    "at": "2030-05-01T12:00:00Z",
    "n": 5,
    "f": 5.0,
    "t": "5",
    "s": "abc",
    "yes": True,
    "null": None,
    "o": {"x": 1},
    "list": [{"k": "a", "n": 1}, {"k": "b", "n": 2}, {"k": "c", "n": 3}],
}


def mapping(match: str, value: Any = "$.Body.n", *, language: str = "JsonPath", **more: Any) -> DeviceMapping:
    template = {
        "typeName": "t",
        "typeMatchExpression": {"value": match, "language": language},
        "deviceIdExpression": "$.Body.device",
        "timestampExpression": "$.Body.at",
        "values": [{"valueName": "v", "valueExpression": value}],
        **more,
    }
    container = {"templateType": "CalculatedContent", "template": template}
    return DeviceMapping.loads(json.dumps({"templateType": "CollectionContent", "template": [container]}))


def matches(text: str, language: str = "JsonPath") -> int:
    return len(mapping(text, language=language).normalize({"Body": BODY}))


def rendered(value: Any, body: dict[str, Any] | None = None) -> str | None:
    (found,) = mapping("$.Body", value).normalize({"Body": BODY | (body or {})})
    return found.properties.get("v")


@pytest.mark.parametrize(
    ("filter_text", "holds"),
    [
        ("@.n == 5", True),
        ("@.n == 5.0", True),
        ("@.f == 5", True),
        ("@.n === 5.0", True),
        ("@.n == '5'", False),
        ("@.t == '5'", True),
        ("@.t === '5'", True),
        ("@.n != 5", False),
        ("@.n <> 6", True),
        ("@.n !== 5.0", False),
        ("@.n !== '5'", True),
        ("@.o != 1", True),
        ("@.o !== 1", False),
        ("@.o == 1", False),
        ("@.n < 6", True),
        ("@.n <= 5", True),
        ("@.n > 5", False),
        ("@.n >= 5.0", True),
        ("@.t > 4", True),
        ("@.s > 'abb'", True),
        ("@.at > '2030-01-01T00:00:00Z'", True),
        ("@.at == '2030-05-01T12:00:00Z'", True),
        ("@.s =~ /^A.C$/i", True),
        ("@.s =~ /^A.C$/", False),
        ("@.n =~ /5/", False),
        ("@.yes == true", True),
        ("@.yes", True),
        ("@.null", True),
        ("@.null == null", True),
        ("@.missing", False),
        ("@.missing != 1", False),
        ("@.missing == null", False),
        ("@n", True),
        ("@['n']", True),
        ("@.list[1].n == 2", True),
        ("@.list[*].n == 3", True),
        ("@.n == $.Body.f", True),
        ("@.N", False),
        ("@.missing && @.n || @.s", False),
        ("@.n || @.missing && @.missing", True),
        ("@.n && @.missing || @.s", True),
    ],
)
def test_a_filter_holds_as_in_the_predecessor(filter_text: str, holds: bool) -> None:
    envelope: dict[str, object] = {"Body": BODY, "One": [BODY]}

    assert len(mapping(f"$.One[?({filter_text})]").normalize(envelope)) == holds


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("$.Body.list[*]", 3),
        ("$.Body.list[?(@.n > 1)]", 2),
        ("$.Body[?(@.n)]", 0),
        ("$[?(@.n)]", 0),
        ("$..[?(@Body.n)]", 1),
        ("$..[?(@k)]", 3),
        ("$.Body.list[-1]", 1),
        ("$.Body.list[0,2]", 2),
        ("$.Body.list[-2:]", 2),
        ("$.Body['n','s']", 2),
        ("$..k", 3),
        ("$..['k','n']", 7),
        ("$.Body.o.*", 1),
        ("$.Body.o[*]", 0),
        ("$.Body.*.x", 1),
        ("$.Missing.x", 0),
        ("Body.n", 1),
        ("$", 1),
    ],
)
def test_a_path_selects_as_in_the_predecessor(path: str, count: int) -> None:
    assert matches(path) == count


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("Body.list[*]", 3),
        ("Body.list[*].k | [0]", 1),
        ("Body.list[?n > `1`]", 2),
        ("[Body][?contains(keys(@), `n`)]", 1),
        ("to_array(@)[?Body.missing]", 0),
        ("Body.missing", 0),
        ("Body.n == `6`", 1),
        ("Body.list", 1),
        ("to_array(`[]`)", 1),
        ("''", 1),
        ("Body.list[?k == 'none'] | @", 1),
        ("Body.list | [*]", 3),
        ("Body.o.*", 1),
    ],
)
def test_a_jmespath_matches_as_often_as_in_the_predecessor(query: str, count: int) -> None:
    assert matches(query, "JmesPath") == count


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        (120, "120"),
        (120.0, "120"),
        (-0.5, "-0.5"),
        (0.1, "0.1"),
        (0.0001, "0.0001"),
        (0.00001, "1E-05"),
        (1.5e-10, "1.5E-10"),
        (123456789012345.0, "123456789012345"),
        (1e15, "1E+15"),
        (1.25e20, "1.25E+20"),
        (9223372036854775807, "9223372036854775807"),
        (-0.0, "-0"),
        (True, "True"),
        (False, "False"),
        ("", ""),
        ("2030-05-01T12:00:00+02:00", "2030-05-01T12:00:00+02:00"),
        (None, None),
        ([1], None),
        ({"x": 1}, None),
    ],
)
def test_a_value_is_rendered_as_in_the_predecessor(value: object, text: str | None) -> None:
    assert rendered("$.Body.shown", {"shown": value}) == text


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("add(`9223372036854775807`, `1`)", "-9223372036854775808"),
        ("subtract(`-9223372036854775808`, `1`)", "9223372036854775807"),
        ("multiply(`9223372036854775807`, `2`)", "-2"),
        ("divide(`40`, `50`)", "0"),
        ("divide(`-7`, `2`)", "-3"),
        ("divide(`40.0`, `50`)", "0.8"),
        ("divide(`1.0`, `0.0`)", "Infinity"),
        ("pow(`2`, `62`)", "4611686018427387904"),
        ("pow(`2`, `-1`)", "0"),
    ],
)
def test_integers_have_64_bits(query: str, text: str) -> None:
    assert rendered({"value": query, "language": "JmesPath"}) == text


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("divide(Body.n, `0`)", "divide-by-zero"),
        ("pow(`10`, `19`)", "overflow"),
        ("add(Body.s, `1`)", "invalid-type"),
        ("add(Body.missing, `1`)", "invalid-type"),
        ("Body.list[*].n", "multiple-tokens"),
    ],
)
def test_a_fault_refuses_the_message_although_the_value_is_optional(query: str, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        rendered({"value": query, "language": "JmesPath"})

    assert (caught.value.reason, caught.value.expression, caught.value.template) == (reason, query, "0")


def test_a_projection_of_one_element_is_no_value() -> None:
    assert rendered({"value": "Body.list[?n == `1`].k", "language": "JmesPath"}) is None
    assert rendered({"value": "Body.list[?n == `1`].k | [0]", "language": "JmesPath"}) == "a"


def test_a_missing_correlation_id_refuses_the_message_when_it_is_asked_for() -> None:
    asked = mapping("$.Body", correlationIdExpression="$.Body.session")

    (found,) = asked.normalize({"Body": BODY | {"session": 7}})
    with pytest.raises(MessageError, match=r"\[CorrelationIdExpression\]"):
        asked.normalize({"Body": BODY})

    assert found.correlation_id == "7"


@pytest.mark.parametrize("blank", ["", " ", None])
def test_a_group_by_correlation_id_needs_one(blank: str | None) -> None:
    with pytest.raises(MessageError) as caught:
        fhir(-1).observation(group(("12:00:00", "1"), correlation=blank))

    assert caught.value.reason == "correlation-id-missing"


def test_a_day_is_one_observation_in_utc() -> None:
    made = fhir("Daily").observation(group(("00:00:00", "1"), ("12:30:00", "2"), ("23:59:59.9999999", "3")))

    assert isinstance(made, dict)
    assert made["effectivePeriod"] == {"start": "2030-05-01T00:00:00.0000000Z", "end": "2030-05-01T23:59:59.9999999Z"}
    assert made["identifier"][0]["value"] == "p.d.t.20300501000000Z.20300501235959Z"  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("JsonPathContent", True),
        ("jsonpathcontenttemplate", True),
        ("IotJsonPathContentTemplate", True),
        ("IotCentralJsonPathContent", True),
        ("IotCentralJsonPathContentTemplate", False),
        ("CALCULATEDCONTENT", True),
        ("CalculatedContentTemplate", False),
        ("CollectionContent", False),
    ],
)
def test_template_types_have_the_names_of_the_predecessor(name: str, accepted: bool) -> None:
    members = {"TypeName": "t", "typematchexpression": "$", "deviceIdExpression": "$.a", "timestampExpression": "$.b"}
    document = {
        "TemplateType": "collectioncontenttemplate",
        "Template": [{"templatetype": name, "TEMPLATE": members | {"Values": []}}],
    }
    if accepted:
        assert len(DeviceMapping.load(document).templates) == 1
        return
    with pytest.raises(MappingError, match="No match found for template type"):
        DeviceMapping.load(document)


def fhir(interval: object) -> FhirMapping:
    value = {"valueType": "SampledData", "valueName": "v", "unit": "u", "defaultPeriod": 3_600_000}
    template = {"typeName": "t", "codes": [], "periodInterval": interval, "value": value}
    container = {"templateType": "CodeValueFhir", "template": template}
    return FhirMapping.load({"templateType": "CollectionFhir", "template": [container]})


def group(*data: tuple[str, str], correlation: str | None = None) -> dict[str, Any]:
    rows = [{"occurrenceTimeUtc": f"2030-05-01T{at}Z", "properties": {"v": text}} for at, text in data]
    return {"measureType": "t", "deviceId": "d", "patientId": "p", "correlationId": correlation, "data": rows}
