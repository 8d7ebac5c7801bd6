"""Red, steps 12 to 15: a RiskAssessment a window, Flags exactly where they belong, rows for the screens, no alerts."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from paths.journey import Journey, Json
from paths.recorded_scores import instant, windows_of
from paths.recount import MINUTE, Patient
from paths.reference_scores import ExpectedScore, expected_scores
from pulseweir.backends.repository import flags, scores
from pulseweir.backends.repository.rows import LiveRow
from pulseweir.clock import to_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MEANT = {"low": "low", "low-medium": "moderate", "medium": "moderate", "high": "high"}
RISK = "http://terminology.hl7.org/CodeSystem/risk-probability"


@dataclass
class Expected:
    """One Flag episode as the rules of its opening and closing make it."""

    start: int
    end: int | None = None
    windows: list[int] = field(default_factory=list)


def expected_episodes(windows: Iterable[ExpectedScore]) -> list[Expected]:
    """Opened by a window outside, closed by the second of two in a row inside; too little data decides nothing."""
    episodes: list[Expected] = []
    inside = 0
    for window in windows:
        is_open = bool(episodes) and episodes[-1].end is None
        if window.status == "insufficient-data":
            continue
        if window.band in ("medium", "high") or window.single_red:
            if not is_open:
                episodes.append(Expected(window.start))
            episodes[-1].windows.append(window.start)
            inside = 0
        elif is_open:
            inside += 1
            if inside == 2:
                episodes[-1].end = window.start + MINUTE
                inside = 0
    return episodes


def replayed(journey: Journey) -> str:
    """The search value for what lies before the replay's end."""
    return f"lt{to_text(journey.start - 10 * MINUTE)}"


def assessments_of(journey: Journey, patient: Patient) -> list[Json]:
    return journey.search("RiskAssessment", patient=patient.patient_id, date=replayed(journey))


def some(journey: Journey) -> Iterator[tuple[Patient, list[Json], dict[int, ExpectedScore]]]:
    """A few patients with what FHIR holds and what the reference expects, by window start."""
    for patient in list(journey.patients.values())[::12]:
        expected = expected_scores(patient.measured, patient.shift(journey.start))
        yield patient, assessments_of(journey, patient), {one.start: one for one in expected}


def test_every_closed_window_that_had_data_became_one_risk_assessment(journey: Journey) -> None:
    expected = {one.patient_id: len(one.measured) for one in journey.patients.values()}

    found = {patient: journey.count("RiskAssessment", patient=patient, date=replayed(journey)) for patient in expected}

    assert found == expected


def test_a_risk_assessment_says_its_window_its_model_and_its_risk(journey: Journey) -> None:
    statuses: Counter[str] = Counter()
    for patient, assessments, expected in some(journey):
        for one in assessments:
            start, end = (instant(one["occurrencePeriod"][name]) for name in ("start", "end"))
            window = expected[start]
            (prediction,) = one["prediction"]
            assert end - start == MINUTE
            assert one["subject"]["reference"] == f"Patient/{patient.patient_id}"
            assert one["method"]["coding"][0]["code"] == "news2"
            assert one["identifier"][0]["value"] == one["id"]
            assert one["status"] in ("final", "amended")
            assert "probabilityDecimal" not in prediction
            statuses[window.status] += 1
            if window.status == "insufficient-data":
                assert "qualitativeRisk" not in prediction
                continue
            codes = {coding["system"]: coding["code"] for coding in prediction["qualitativeRisk"]["coding"]}
            assert codes.pop(RISK) == MEANT[str(window.band)]
            assert set(codes.values()) == {window.band}
            assert one["mitigation"]
    assert set(statuses) == {"complete", "partial", "insufficient-data"}


def test_whatever_a_risk_assessment_refers_to_is_there(journey: Journey) -> None:
    looked = 0
    for patient, assessments, expected in some(journey):
        for one in assessments[:: max(len(assessments) // 3, 1)]:
            device = journey.read(*one["performer"]["reference"].split("/"))
            assert device is not None
            assert device["deviceName"][0]["type"] == "model-name"
            basis = [journey.read(*reference["reference"].split("/")) for reference in one["basis"]]
            score, *vitals = basis
            assert score is not None
            window = expected[instant(one["occurrencePeriod"]["start"])]
            assert score.get("valueQuantity", {}).get("value") == window.score
            assert score["category"][0]["coding"][0]["code"] == "survey"
            for vital in vitals:
                assert vital is not None
                assert vital["subject"]["reference"] == f"Patient/{patient.patient_id}"
                assert vital["effectiveDateTime"] < one["occurrencePeriod"]["end"]
            assert vitals or window.status == "insufficient-data"
            looked += 1
    assert looked > 0


def test_flags_stand_exactly_where_the_scores_left_the_acceptable_range(journey: Journey) -> None:
    total = 0
    for patient in journey.patients.values():
        shift = patient.shift(journey.start)
        expected = expected_episodes(expected_scores(patient.measured, shift))
        starts = {one["id"]: instant(one["occurrencePeriod"]["start"]) for one in assessments_of(journey, patient)}

        found = {}
        for flag in journey.search("Flag", patient=patient.patient_id):
            start, end = instant(flag["period"]["start"]), flag["period"].get("end")
            if start >= journey.start - 10 * MINUTE:
                continue
            assert (flag["status"] == "active") is (end is None)
            evidence = [
                starts[one["valueReference"]["reference"].partition("/")[2]]
                for one in flag["extension"]
                if one["url"].endswith("/flag-detail")
            ]
            found[start] = Expected(start, None if end is None else instant(end), evidence)

        assert [found[start] for start in sorted(found)] == expected, patient.patient_id
        total += len(expected)
    assert total > 0


def test_the_repository_holds_the_same_flags_and_links_every_window_outside(journey: Journey) -> None:
    for patient in journey.patients.values():
        shift = patient.shift(journey.start)
        expected = expected_episodes(expected_scores(patient.measured, shift))
        with journey.repository.reading() as transaction:
            rows = flags.episodes(transaction, patient.patient_id, "news2")
        recorded = [row for row in rows if row.start_at < journey.start - 10 * MINUTE]
        linked: dict[str, list[int]] = {}
        for window in windows_of(journey, patient):
            if window.flag_id is not None:
                linked.setdefault(window.flag_id, []).append(window.window_start)

        assert [Expected(row.start_at, row.end_at, linked[row.flag_id]) for row in recorded] == expected


def test_every_patient_is_on_the_board_with_the_care_team_of_the_ward(journey: Journey) -> None:
    planned = {one.patient_id: one for one in journey.plan.patients}

    def routed() -> list[LiveRow] | None:
        with journey.repository.reading() as transaction:
            rows = [row for row in scores.live_rows(transaction) if row.patient_id in planned]
        return rows if all(row.care_team_id for row in rows) else None

    rows = {row.patient_id: row for row in journey.until(routed, "every live row has a care team", 30)}
    assert rows.keys() == planned.keys()
    for patient_id, row in rows.items():
        team = journey.read("CareTeam", str(row.care_team_id))
        assert team is not None
        assert (row.ward, row.bed) == (planned[patient_id].ward, planned[patient_id].bed)
        assert row.care_team == team["name"] == f"Care team {row.ward}"


def test_backfill_never_alerts(journey: Journey) -> None:
    assert sum(len(patient.measured) for patient in journey.patients.values()) > 0
    assert journey.alerts_after_replay == 0
    assert journey.notices_after_replay == {}
