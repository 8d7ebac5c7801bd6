"""Grouping: periods, identifiers, and one reading an instant."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measured_rows import measured
from pulseweir.errors import MappingError, MessageError
from pulseweir.ingest.catalog import MappingPair, Mappings, catalog_directory
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.device_mapping.tokens import FIRST_INSTANT, LAST_INSTANT, parse_instant
from pulseweir.ingest.grouping import (
    CORRELATION,
    DAILY,
    HOURLY,
    SINGLE,
    Arrival,
    BatchKey,
    batch_groups,
    boundary,
    observation_groups,
    segment,
)
from pulseweir.ingest.identity import Association
from pulseweir.ingest.json_tap import normalized_messages, partition_key

NOON = parse_instant("2030-05-01T12:00:00Z") * 10
KEY = BatchKey("d", "t", "p", None, None)


def test_one_property_never_erases_another_of_the_same_instant() -> None:
    groups = batch_groups(
        [Arrival(KEY, NOON, 2, {"b": "new", "c": "1"}), Arrival(KEY, NOON, 1, {"a": "1", "b": "old"})]
    )

    ((reading,),) = groups.values()
    assert reading.properties == {"a": "1", "b": "new", "c": "1"}
    assert reading.ingested_at == 2


def test_ids_with_dashes_do_not_run_into_each_other() -> None:
    left, right = BatchKey("a-b", "c", None, None, None), BatchKey("a", "b-c", None, None, None)

    assert len(batch_groups([Arrival(left, NOON, 1, {}), Arrival(right, NOON, 1, {})])) == 2


@given(st.integers(FIRST_INSTANT * 10, LAST_INSTANT * 10), st.sampled_from([SINGLE, HOURLY, DAILY]))
def test_a_period_holds_its_instant_and_gives_every_instant_of_it_one_segment(tick: int, interval: int) -> None:
    start, end = boundary(interval, tick)

    assert start <= tick <= end
    assert boundary(interval, start) == boundary(interval, end) == (start, end)
    assert segment(interval, start, None) == segment(interval, tick, None) == segment(interval, end, None)


@pytest.mark.parametrize("correlation", [None, "", " "])
def test_a_blank_correlation_id_is_refused(correlation: str | None) -> None:
    with pytest.raises(MessageError):
        segment(CORRELATION, NOON, correlation)


def test_no_data_makes_no_group() -> None:
    assert observation_groups(HOURLY, [], None) == []


def test_the_tap_writes_the_predecessors_normalized_message() -> None:
    pair = Mappings.load(catalog_directory()).by_kind["blood-pressure-cuff"]
    one = Measurement("cuff-pressure", "d", NOON // 10, None, None, None, {"systolic": "120", "diastolic": "70"})
    rows = measured([one], Association("d", "p", None, None), pair, "m", NOON // 10 + 1)

    ((key, text),) = normalized_messages(rows)

    assert key == partition_key("D")
    assert text == (
        b'{"Type":"cuff-pressure","OccurrenceTimeUtc":"2030-05-01T12:00:00Z",'
        b'"IngestionTimeUtc":"2030-05-01T12:00:00.000001Z","DeviceId":"d","PatientId":"p","EncounterId":null,'
        b'"CorrelationId":null,"Properties":[{"Name":"systolic","Value":"120"},{"Name":"diastolic","Value":"70"}]}'
    )


def test_the_tap_writes_a_measurement_without_values_once_and_without_properties() -> None:
    pair = Mappings.load(catalog_directory()).by_kind["blood-pressure-cuff"]
    one = Measurement("cuff-pressure", "d", NOON // 10, None, None, None, {})

    ((_, text),) = normalized_messages(measured([one], Association("d", "p", None, None), pair, "m", 0))

    assert text.endswith(b'"CorrelationId":null,"Properties":[]}')


def test_a_site_mapping_serves_devices_the_catalog_does_not_know(tmp_path: Path) -> None:
    device, fhir = tmp_path / "devicecontent.json", tmp_path / "fhirmapping.json"
    device.write_text('{"templateType": "CollectionContent", "template": []}', encoding="utf-8")
    fhir.write_text('{"templateType": "CollectionFhir", "template": []}', encoding="utf-8")

    mappings = Mappings.load(catalog_directory(), device, fhir)

    site = mappings.for_kind("")
    assert site is not None
    assert site.name == "site"
    assert mappings.for_kind("thermometer") is mappings.by_kind["thermometer"]
    assert mappings.by_version[site.version] is site


def test_half_a_site_mapping_or_an_unreadable_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="only one of"):
        Mappings.load(catalog_directory(), tmp_path / "a.json")
    with pytest.raises(MappingError, match="cannot be read"):
        Mappings.load(catalog_directory(), tmp_path / "a.json", tmp_path / "b.json")


def test_a_mapping_version_changes_with_either_text() -> None:
    device = '{"templateType": "CollectionContent", "template": []}'
    fhir = '{"templateType": "CollectionFhir", "template": []}'

    versions = {
        MappingPair.loads("x", *texts).version for texts in ((device, fhir), (device + " ", fhir), (device, fhir + " "))
    }

    assert len(versions) == 3
