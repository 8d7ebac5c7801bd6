"""Messages through both mappings without a house, and through two versions of them."""

import pytest

from mapping_samples import BODY, component, device, fhir, quantity, samples, value
from pulseweir.errors import RefuseToStart
from pulseweir.mapping import (
    change_lines,
    diff,
    dry_run,
    envelope_of,
    explain,
    explanation_lines,
    read_messages,
    trial_lines,
)


def test_a_message_becomes_measurements_and_observations() -> None:
    (tried,) = dry_run(device({"values": [value("rate"), value("spare")]}), fhir(), [BODY | {"spare": 1}])

    assert tried.rejects == ()
    assert [one["properties"] for one in tried.measurements] == [{"rate": "61", "spare": "1"}]
    assert [one["valueQuantity"]["value"] for one in tried.observations] == [61]  # type: ignore[index]
    assert tried.warnings == (
        "The value [spare] in Device Mapping [heart-rate] is not represented in its Fhir Template.",
    )


def test_nothing_lost_goes_unsaid() -> None:
    unmatched, unknown = dry_run(
        device({}, {"typeName": "x", "typeMatchExpression": "$..[?(@x)]"}), fhir(), [{}, BODY | {"x": 1, "rate": 1}]
    )

    assert "No measurements were produced" in unmatched.warnings[0]
    assert unknown.warnings == ("No matching Fhir Template exists for type [x]: it becomes no Observation.",)
    assert len(unknown.observations) == 1


def test_a_refused_message_and_a_refused_group_are_rejects_of_their_kind() -> None:
    mapping = device({}, {"typeName": "text", "typeMatchExpression": "$..[?(@words)]", "values": [value("words")]})
    both = fhir({}, {"typeName": "text", "value": quantity("words")})

    refused, half = dry_run(mapping, both, [{"rate": 1}, BODY | {"words": "many"}])

    assert [(one.category, one.reason, one.template) for one in refused.rejects] == [
        ("NORMALIZATION", "incompatible-data", "0")
    ]
    assert (refused.measurements, refused.observations) == ((), ())
    assert [(one.category, one.reason, one.template) for one in half.rejects] == [
        ("FHIRTRANSFORMATION", "not-a-quantity", "text")
    ]
    assert len(half.observations) == 1
    assert "many" not in str(half.rejects)


def test_measurements_of_one_period_are_one_observation() -> None:
    mapping = device({"typeMatchExpression": "$.Body.readings[*]"})
    rows = [{"rate": 60 + at, "device": "d", "at": f"2030-01-01T00:0{at}:00Z"} for at in range(3)]

    (tried,) = dry_run(mapping, fhir({"value": samples(period=60_000), "periodInterval": 60}), [{"readings": rows}])

    assert len(tried.measurements) == 3
    (made,) = tried.observations
    assert str(made["valueSampledData"]["data"]).startswith("60 61 62 E")  # type: ignore[index]


def test_without_a_fhir_mapping_only_measurements_are_made() -> None:
    (tried,) = dry_run(device(), None, [BODY])

    assert (len(tried.measurements), tried.observations, tried.warnings) == (1, (), ())


def test_strict_observations_have_periods() -> None:
    (ours,) = dry_run(device(), fhir(), [BODY])
    (strict,) = dry_run(device(), fhir(), [BODY], compatibility="strict")

    assert "effectiveDateTime" in ours.observations[0]
    assert "effectivePeriod" in strict.observations[0]


@pytest.mark.parametrize(
    ("content", "name", "count"),
    [
        (b'{"a": 1}', "m.json", 1),
        (b'\xef\xbb\xbf{"a": 1}', "m.json", 1),
        (b"[1, 2]", "m.json", 1),
        (b'[{"Body": 1}, {"Body": 2}]', "m.json", 2),
        (b'[{"Body": 1}, {"hr": 2}]', "m.json", 1),
        (b"[]", "m.json", 1),
        (b'{"a": 1}\n\n{"a": 2}\n', "m.ndjson", 2),
        (b"[1]\n[2]\n[3]", "m.JSONL", 3),
    ],
)
def test_a_file_holds_one_message_unless_it_says_otherwise(content: bytes, name: str, count: int) -> None:
    assert len(read_messages(content, name)) == count


@pytest.mark.parametrize(
    ("content", "name"), [(b'{"secret"', "a.json"), (b'{}\n{"secret"', "b.ndjson"), (b"[" * 99_999, "c.json")]
)
def test_a_file_that_is_no_json_is_refused_without_its_content(content: bytes, name: str) -> None:
    with pytest.raises(RefuseToStart, match=name) as caught:
        read_messages(content, name)

    assert "secret" not in str(caught.value)


def test_an_envelope_is_known_by_its_members() -> None:
    whole: dict[str, object] = {"Properties": {}, "SystemProperties": {}}

    assert envelope_of(whole) is whole
    assert envelope_of({"Properties": {}})["Body"] == {"Properties": {}}
    assert envelope_of([1])["Body"] == [1]


def test_equal_versions_differ_in_nothing() -> None:
    assert diff((device(), fhir()), (device(), fhir()), [BODY, {}, {"rate": 1}]) == []


def test_what_another_version_makes_different_is_told_by_path() -> None:
    old = (device({"values": [value("rate")]}), fhir())
    new = (
        device({"values": [value("rate", "$.speed")]}, {"typeName": "extra"}),
        fhir({"codes": [{"code": "x", "system": "urn:mine"}]}),
    )

    changes = diff(old, new, [BODY | {"speed": 99}, {}])

    assert [(one.message, one.kind, one.what, one.name, one.paths) for one in changes] == [
        (0, "changed", "measurement", "heart-rate", ("properties.rate",)),
        (0, "added", "measurement", "extra", ()),
        (
            0,
            "changed",
            "observation",
            "heart-rate",
            ("code.coding[0].system", "code.coding[0].code", "code.coding[0].display", "valueQuantity.value"),
        ),
        (0, "added", "warning", "No matching Fhir Template exists for type [extra]: it becomes no Observation.", ()),
    ]
    assert "61" not in str(changes)


def test_values_of_a_difference_are_shown_when_asked_for() -> None:
    (change, _) = diff((device(), fhir()), (device({"deviceIdExpression": "$.rate"}), fhir()), [BODY], show_values=True)

    assert (change.old["device_id"], change.new["device_id"]) == ("device-secret", "61")  # type: ignore[index]


def test_a_message_that_only_one_version_refuses_is_told() -> None:
    good, bad = (device(), None), (device({"deviceIdExpression": "$.none"}), None)

    worse, better = diff(good, bad, [BODY]), diff(bad, good, [BODY])

    assert [(one.kind, one.what) for one in worse] == [("removed", "measurement"), ("added", "reject")]
    assert [(one.kind, one.what) for one in better] == [("added", "measurement"), ("removed", "reject")]


def test_reports_are_lines() -> None:
    parts = fhir(
        {"components": [component("8480-6", quantity("systolic"))]}, {"typeName": "wave", "value": samples("w")}
    )
    body = BODY | {"systolic": 120}
    mapping = device(
        {"values": [value("rate"), value("systolic"), value("spare")]},
        {"typeName": "wave", "values": [value("w", "$.rate")]},
        {"typeMatchExpression": "$..[?(@none)]"},
        {"typeName": "odd", "typeMatchExpression": "$.Body.device.x"},
    )

    (tried,) = dry_run(mapping, parts, [body])
    shown = "\n".join(trial_lines(tried))
    explained = "\n".join(explanation_lines(explain(mapping, body, parts)))
    changed = "\n".join(line for one in diff((mapping, parts), (device(), parts), [body]) for line in change_lines(one))

    assert "measurement heart-rate of device-secret\n    at 2030-01-01T00:00:00Z: rate 61, systolic 120" in shown
    assert "Observation 8867-4 Heart rate: 61 beats/minute, 8480-6 120 beats/minute" in shown
    assert "1 samples" in shown
    assert "template 2 (heart-rate, JsonPathContent): no match.\n    $..[?(@none)]\n    stops at @none: " in explained
    assert "spare (optional): nothing (not used by the FHIR mapping)" in explained
    assert "removed measurement wave" in changed
