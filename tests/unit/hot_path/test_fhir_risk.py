"""Step 13: from a batch of scores to RiskAssessments and Flags, on FHIR servers of every kind."""

from pathlib import Path

import httpx
import msgspec
import pytest

from limited_fhir import limited_server
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, flags
from pulseweir.errors import RetryLater
from risk_rows import fhir_stage, live, record_stage, row, table


async def test_each_final_window_becomes_an_observation_and_a_risk_assessment(
    repository: Repository, bus: EmbeddedBus, fhir: FhirClient
) -> None:
    batch = table(row("p1", 0, 8), row("p1", 1, 1), row("p2", 0, None, missing=["spo2"]))
    await record_stage(repository, bus).handle(batch)

    handled = await fhir_stage(repository, fhir, windows_per_bundle=2).handle(batch)

    assert handled.outcome.tallies == {"written": 3}
    assessments = await fhir.search("RiskAssessment", {})
    observations = await fhir.search("Observation", {})
    [flag] = await fhir.search("Flag", {})
    assert (len(assessments), len(observations)) == (3, 3)
    [high] = [one for one in assessments if one.get("mitigation", "").startswith("Emergency")]
    assert high["prediction"][0]["qualitativeRisk"]["coding"][0]["code"] == "high"
    [unknown] = [one for one in assessments if "qualitativeRisk" not in one["prediction"][0]]
    assert "Missing: oxygen saturation" in unknown["prediction"][0]["rationale"]
    evidence = [part for part in flag["extension"] if part["url"].endswith("flag-detail")]
    assert [part["valueReference"]["reference"] for part in evidence] == [f"RiskAssessment/{high['id']}"]
    assert flag["status"] == "active"
    assert await fhir.read("Device", "model-news2-1") is not None
    assert await repository.read(flags.unwritten, limit=5) == []


async def test_a_closed_flag_is_written_with_its_end(
    repository: Repository, bus: EmbeddedBus, fhir: FhirClient
) -> None:
    record, write = record_stage(repository, bus), fhir_stage(repository, fhir)
    for minute, score in enumerate((8, 1, 1)):
        await record.handle(table(row("p1", minute, score)))
        await write.handle(table(row("p1", minute, score)))

    [flag] = await fhir.search("Flag", {})

    assert flag["status"] == "inactive"
    assert flag["period"] == {"start": "1970-01-01T00:00:00.000Z", "end": "1970-01-01T00:03:00.000Z"}


async def test_a_score_that_is_not_recorded_yet_waits(repository: Repository, fhir: FhirClient) -> None:
    with pytest.raises(RetryLater, match="record"):
        await fhir_stage(repository, fhir, record_wait_seconds=0).handle(table(row("p1", 0, 8)))


async def test_a_revision_amends_and_an_old_one_is_passed_over(
    repository: Repository, bus: EmbeddedBus, fhir: FhirClient
) -> None:
    first, second = row("p1", 0, 1), row("p1", 0, 8, revision=2)
    await record_stage(repository, bus).handle(table(first, second))

    handled = await fhir_stage(repository, fhir).handle(table(first, second))

    [assessment] = await fhir.search("RiskAssessment", {})
    assert assessment["status"] == "amended"
    assert handled.outcome.tallies == {"superseded": 1, "written": 1}


async def test_a_preliminary_assessment_is_written_only_when_the_band_rises(
    repository: Repository, bus: EmbeddedBus, fhir: FhirClient
) -> None:
    batch = table(live("p1", 0, 1), live("p1", 0, 6), live("p1", 0, 6), live("p2", 0, 1))
    await record_stage(repository, bus).handle(batch)
    stage = fhir_stage(repository, fhir)

    handled = await stage.handle(batch)
    await stage.handle(batch)

    assert handled.outcome.tallies == {"live": 3, "written": 1}
    [assessment] = await fhir.search("RiskAssessment", {})
    assert (assessment["status"], assessment["meta"]["versionId"]) == ("preliminary", "1")


async def test_a_refused_window_is_set_aside_and_its_neighbours_are_written(
    repository: Repository, bus: EmbeddedBus
) -> None:
    written: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            return httpx.Response(201, json=msgspec.json.decode(request.content))
        bundle = msgspec.json.decode(request.content)
        entries = bundle["entry"]
        if any("Patient/p2" in str(entry) for entry in entries):
            issue = {"severity": "error", "code": "invalid", "diagnostics": "no"}
            return httpx.Response(422, json={"resourceType": "OperationOutcome", "issue": [issue]})
        written.extend(entry["request"]["url"] for entry in entries)
        done = [{"response": {"status": "200"}} for _ in entries]
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "transaction-response", "entry": done})

    fhir = FhirClient("http://faulty/fhir", transport=httpx.MockTransport(answer))
    batch = table(row("p1", 0, 8), row("p2", 0, 1), row("p3", 0, 1))
    await record_stage(repository, bus).handle(batch)

    handled = await fhir_stage(repository, fhir).handle(batch)

    await fhir.close()
    assert handled.outcome.tallies == {"written": 2}
    [refused] = handled.outcome.quarantined
    assert (refused.reason, refused.row["patient_id"].to_pylist()) == ("fhir-refused", ["p2"])
    assert len(written) == 5


@pytest.mark.parametrize("lacking", [("transaction",), ("transaction", "batch"), ("client-ids",), ("versions",)])
async def test_a_server_that_can_less_holds_the_same_assessments_and_flags(
    lacking: tuple[str, ...], repository: Repository, bus: EmbeddedBus, tmp_path: Path
) -> None:
    batch = table(row("p1", 0, 8), row("p1", 1, 1), row("p2", 0, 1))
    await record_stage(repository, bus).handle(batch)

    with limited_server(tmp_path / "limited", *lacking) as (client, whole, _):
        stage = fhir_stage(repository, client)
        handled = await stage.handle(batch)
        await stage.handle(batch)
        assessments = {f"RiskAssessment/{one['id']}": one for one in await whole.search("RiskAssessment", {})}
        observations = await whole.search("Observation", {})
        [device] = await whole.search("Device", {})
        [flag] = await whole.search("Flag", {})

    assert handled.outcome.tallies == {"written": 3}
    assert len(assessments) == len(observations) == 3
    assert {one["performer"]["reference"] for one in assessments.values()} == {f"Device/{device['id']}"}
    [evidence] = [part for part in flag["extension"] if part["url"].endswith("flag-detail")]
    assert assessments[evidence["valueReference"]["reference"]]["mitigation"].startswith("Emergency")


async def test_a_server_that_takes_few_windows_at_once_is_asked_with_fewer_from_then_on(
    repository: Repository, bus: EmbeddedBus, tmp_path: Path
) -> None:
    batch = table(*(row(f"p{number}", 0, 1) for number in range(16)))
    await record_stage(repository, bus).handle(batch)

    with limited_server(tmp_path / "limited", most=5, too_many=400) as (client, whole, transport):
        stage = fhir_stage(repository, client, windows_per_bundle=8)
        await stage.handle(batch)
        learned = len(transport.asked)
        await stage.handle(batch)
        stored = await whole.count("RiskAssessment", {})

    assert stored == 16
    assert len(transport.asked) - learned == 8


@pytest.mark.parametrize("said", ["Resource Observation/o1 not found", "Resource Observation/o1 is deleted"])
async def test_a_window_that_refers_to_what_is_not_there_yet_waits_however_the_server_says_so(
    said: str, repository: Repository, bus: EmbeddedBus
) -> None:
    """HAPI answers 400 where a reference leads nowhere; what is being stored at that moment it calls deleted."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            return httpx.Response(201, json=msgspec.json.decode(request.content))
        issue = {"severity": "error", "code": "processing", "diagnostics": said}
        return httpx.Response(400, json={"resourceType": "OperationOutcome", "issue": [issue]})

    batch = table(row("p1", 0, 8))
    await record_stage(repository, bus).handle(batch)
    fhir = FhirClient("http://strict/fhir", transport=httpx.MockTransport(answer))

    handled = await fhir_stage(repository, fhir).handle(batch)

    await fhir.close()
    assert (len(handled.outcome.parked), handled.outcome.quarantined) == (1, [])
