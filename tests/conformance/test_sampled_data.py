"""The predecessor's SampledData vectors."""

from typing import Any

from pulseweir.ingest.fhir_mapping.values import build_samples, parse_ticks, read_samples

SECTION = "sampled_data"


def test_samples_come_back_at_their_slots(case: dict[str, Any]) -> None:
    period = (parse_ticks(case["start"]), parse_ticks(case["end"]))
    samples = [(parse_ticks(text), value) for text, value in case["values"]]

    data = build_samples(samples, period, case["period_ms"])

    wanted = [(parse_ticks(text), value) for text, value in case["expected_time_values"]]
    assert read_samples(data, period[0], case["period_ms"]) == wanted
