"""Each deliberate departure that has a switch, in both positions; decision 0027 lists them all."""

from typing import Any

import pytest

from mapping_samples import BODY, device, device_json, fhir, fhir_json, quantity
from pulseweir.mapping import Compatibility, DeviceMapping, FhirMapping, MappingError, MessageError
from tracked_files import ROOT

DECISION = ROOT / "docs" / "decisions" / "0027-departures-from-the-predecessor.md"
BOTH: tuple[Compatibility, ...] = ("strict", "pulseweir")


def group(text: str, at: str = "12:00:00.25") -> dict[str, Any]:
    row = {"occurrenceTimeUtc": f"2030-05-01T{at}Z", "properties": {"rate": text}}
    return {"measureType": "heart-rate", "deviceId": "d", "patientId": "p", "data": [row]}


def made(text: str, compatibility: Compatibility) -> dict[str, Any]:
    observation = fhir().observation(group(text), compatibility=compatibility)
    assert isinstance(observation, dict)
    return observation


@pytest.mark.parametrize("member", ["typeMatchExpression", "deviceIdExpression", "timestampExpression"])
@pytest.mark.parametrize("written", ["$.a[", '$..[?(@a == "b")]', "", " "])
def test_an_expression_that_cannot_work_is_told_at_load_or_by_each_message(member: str, written: str) -> None:
    document = device_json({member: written})

    with pytest.raises(MappingError, match=member):
        DeviceMapping.load(document, compatibility="pulseweir")
    with pytest.raises(MessageError):
        DeviceMapping.load(document).normalize({"Body": BODY})


def test_an_interval_that_cannot_work_is_told_at_load_or_by_each_group() -> None:
    document = fhir_json({"periodInterval": 15})

    with pytest.raises(MappingError, match="periodInterval"):
        FhirMapping.load(document, compatibility="pulseweir")
    with pytest.raises(MessageError) as caught:
        FhirMapping.load(document).observation(group("61"))
    assert caught.value.reason == "unknown-interval"


def test_an_instant_is_a_date_or_a_period() -> None:
    assert made("61", "pulseweir")["effectiveDateTime"] == "2030-05-01T12:00:00.250Z"
    assert made("61", "strict")["effectivePeriod"] == {
        "start": "2030-05-01T12:00:00.2500000Z",
        "end": "2030-05-01T12:00:00.2500000Z",
    }


def test_an_identifier_shows_fractions_or_whole_seconds() -> None:
    shown = {one: made("61", one)["identifier"][0]["value"].rpartition(".heart-rate.")[2] for one in BOTH}

    assert shown == {
        "pulseweir": "20300501120000.25Z.20300501120000.25Z",
        "strict": "20300501120000Z.20300501120000Z",
    }


def test_an_exponent_is_a_number_or_refused() -> None:
    assert made("1E-05", "pulseweir")["valueQuantity"]["value"] == 0.00001
    with pytest.raises(MessageError) as caught:
        made("1E-05", "strict")
    assert (caught.value.reason, caught.value.expression) == ("not-a-quantity", "rate")
    assert made("1,204.50", "strict")["valueQuantity"]["value"] == 1204.5


@pytest.mark.parametrize("compatibility", BOTH)
def test_what_is_better_in_both_modes(compatibility: Compatibility) -> None:
    mapping = DeviceMapping.load(device_json({}, {"timestampExpression": "$.none"}), compatibility=compatibility)
    with pytest.raises(MessageError):
        mapping.normalize({"Body": BODY})

    dated = device({"values": [{"valueName": "rate", "valueExpression": "$.at"}]})
    assert dated.normalize({"Body": BODY})[0].properties == {"rate": "2030-01-01T00:00:00Z"}

    without = {**made("61", compatibility)}
    without.pop("valueQuantity")
    merged = fhir().observation(group("61"), without, compatibility=compatibility)
    assert isinstance(merged, dict)
    assert merged["valueQuantity"]["value"] == 61  # type: ignore[index]
    assert fhir({"value": quantity("other")}).observation(group("61"), compatibility=compatibility)


def test_the_decision_names_the_switch_of_every_departure() -> None:
    rows = [line for line in DECISION.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]

    switches = [row.rstrip(" |").rpartition("| ")[2] for row in rows if not row.startswith("|---")]
    assert len(switches) >= 20
    assert {one.partition(" ")[0] for one in switches} == {"`strict`", "both", "`identity.compatibility`"}
