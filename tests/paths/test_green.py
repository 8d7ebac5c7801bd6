"""Green, steps 6 to 11: measurements and scores in the lake, history from it, trends, and scores that are right."""

from collections import Counter

import pytest

from paths.journey import Journey, Json
from paths.recorded_scores import inputs_of, told, windows_of
from paths.recount import MINUTE
from paths.reference_scores import ExpectedScore, expected_scores, theil_sen_per_hour, usable_readings
from pulseweir.backends.lake import PATIENT_MEASUREMENTS, RISK_SCORES
from pulseweir.clock import to_microseconds, to_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TREND_VITALS = ("heart_rate", "respiratory_rate", "spo2", "temperature")


def lake_rows(journey: Journey, sql: str) -> list[Json]:
    """The answer of the lake's own SQL."""
    table = PATIENT_MEASUREMENTS if PATIENT_MEASUREMENTS.name in sql else RISK_SCORES
    found = journey.lake.query(table, sql)
    return [] if found is None else found.to_pylist()


def before_start(column: str, journey: Journey) -> str:
    """The condition that a row is the replay's."""
    return f"{column} < to_timestamp_micros({journey.start - 10 * MINUTE}) AND patient_id LIKE 'mimic3-patient-%'"


def test_the_lake_holds_every_measurement_of_every_patient_once(journey: Journey) -> None:
    rows = lake_rows(
        journey,
        "SELECT patient_id, count(*) AS held, count(DISTINCT concat(device_id, '|', type, '|', name, '|', "
        "cast(occurred_at AS text))) AS distinct_ones FROM patient_measurements "
        f"WHERE {before_start('occurred_at', journey)} GROUP BY patient_id",
    )

    expected = {one.patient_id: sum(at.values for at in one.charted) for one in journey.patients.values()}
    assert {row["patient_id"]: row["held"] for row in rows} == expected
    assert {row["patient_id"]: row["distinct_ones"] for row in rows} == expected


def test_measurements_in_the_lake_carry_their_patient(journey: Journey) -> None:
    rows = lake_rows(
        journey,
        "SELECT patient_id, min(age_years) AS age, max(sex) AS sex, max(ward) AS ward, max(bed) AS bed, "
        f"min(context_version) AS version FROM patient_measurements WHERE {before_start('occurred_at', journey)} "
        "GROUP BY patient_id",
    )

    planned = {one.patient_id: one for one in journey.plan.patients}
    assert {row["patient_id"] for row in rows} == set(planned)
    for row in rows:
        setup = planned[row["patient_id"]]
        assert (row["sex"], row["ward"], row["bed"]) == (setup.gender, setup.ward, setup.bed)
        assert row["version"] > 0
        assert 0 <= row["age"] <= 90


def test_the_lake_holds_a_copy_of_every_window_s_score_once(journey: Journey) -> None:
    rows = lake_rows(
        journey,
        "SELECT patient_id, window_start, max(revision) AS newest, count(*) AS held, "
        "count(DISTINCT revision) AS revisions, bool_or(live) AS live FROM risk_scores "
        f"WHERE {before_start('window_start', journey)} GROUP BY patient_id, window_start",
    )

    assert Counter(row["patient_id"] for row in rows) == {
        one.patient_id: len(one.measured) for one in journey.patients.values()
    }
    assert all(row["held"] == row["revisions"] == row["newest"] and not row["live"] for row in rows)


def test_every_window_of_every_patient_has_the_score_of_an_independent_recomputation(journey: Journey) -> None:
    wrong: list[tuple[str, ExpectedScore, ExpectedScore | None]] = []
    compared: Counter[str] = Counter()
    for patient in journey.patients.values():
        expected = expected_scores(patient.measured, patient.shift(journey.start))
        found = {row.window_start: told(row) for row in windows_of(journey, patient)}
        wrong += [(patient.patient_id, one, found.get(one.start)) for one in expected if found.get(one.start) != one]
        compared.update(one.status for one in expected)
        assert len(found) == len(expected)
    assert wrong[:3] == []
    assert set(compared) == {"complete", "partial", "insufficient-data"}


def test_scores_in_the_lake_say_what_the_repository_says(journey: Journey) -> None:
    rows = lake_rows(
        journey,
        "SELECT patient_id, window_start, revision, score, status, band FROM risk_scores "
        f"WHERE {before_start('window_start', journey)}",
    )
    newest: dict[tuple[str, int], Json] = {}
    for row in rows:
        key = row["patient_id"], to_microseconds(row["window_start"])
        if key not in newest or newest[key]["revision"] < row["revision"]:
            newest[key] = row

    for patient in journey.patients.values():
        for window in windows_of(journey, patient):
            held = newest[window.patient_id, window.window_start]
            assert (held["score"], held["status"], held["band"]) == (window.score, window.status, window.band)


def test_each_vital_with_enough_readings_has_a_trend_fitted_to_them(journey: Journey) -> None:
    fitted = 0
    for patient in list(journey.patients.values())[::7]:
        usable = {
            vital: usable_readings(patient.measured, vital, patient.shift(journey.start)) for vital in TREND_VITALS
        }
        for row in windows_of(journey, patient)[::11]:
            for entry in inputs_of(row):
                if entry["vital"] in TREND_VITALS:
                    expected = theil_sen_per_hour(usable[entry["vital"]], row.window_end)
                    assert entry["slope_per_hour"] == pytest.approx(expected, abs=0.000_6), (row.patient_id, entry)
                    fitted += expected is not None
    assert fitted > 20


def test_11647_mmhg_is_kept_and_marked_and_never_scored(journey: Journey) -> None:
    patient = journey.patients[42_075]
    (at,) = [one.at for one in patient.charted if one.numbers.get(("cuff-pressure", "systolic")) == 11_647]
    measured = at + patient.shift(journey.start)

    found = journey.search("Observation", patient=patient.patient_id, code="85354-9", date=to_text(measured)[:19] + "Z")

    marked = [
        component
        for observation in found
        for component in observation["component"]
        if component["valueQuantity"]["value"] == 11_647
    ]
    assert [one["interpretation"][0]["coding"][0]["code"] for one in marked] == ["implausible"]
    (held,) = lake_rows(journey, "SELECT * FROM patient_measurements WHERE number = 11647")
    assert (held["implausible"], held["quality"]) == (True, "impossible")
    for row in windows_of(journey, patient):
        for entry in inputs_of(row):
            assert entry.get("value") != 11_647 or not entry["usable"]


def test_zeros_are_kept_and_marked_and_never_scored(journey: Journey) -> None:
    rows = lake_rows(
        journey,
        "SELECT code, count(*) AS held, bool_and(implausible) AS implausible, min(quality) AS quality "
        f"FROM patient_measurements WHERE number = 0 AND {before_start('occurred_at', journey)} GROUP BY code",
    )

    by_code = {row["code"]: row for row in rows}
    expected = Counter(
        key[1]
        for patient in journey.patients.values()
        for at in patient.charted
        for key, number in at.numbers.items()
        if number == 0
    )
    vitals = {"8867-4": "heart_rate", "9279-1": "respiratory_rate", "59408-5": "spo2", "8480-6": "systolic"}
    for code, name in vitals.items():
        assert by_code[code]["held"] == expected[name] > 0
        assert (by_code[code]["implausible"], by_code[code]["quality"]) == (True, "impossible")
    # No flow of oxygen is an honest zero.
    assert (by_code["3151-8"]["implausible"], by_code["3151-8"]["quality"]) == (False, "good")
    for patient in journey.patients.values():
        for row in windows_of(journey, patient):
            used = [one for one in inputs_of(row) if one["usable"] and one["vital"] != "oxygen_flow"]
            assert all(one.get("value") != 0 for one in used)


def test_inhaled_oxygen_as_a_fraction_and_as_per_cent_is_one_unit(journey: Journey) -> None:
    rows = lake_rows(
        journey,
        "SELECT number, count(*) AS held, min(unit) AS unit, min(quality) AS quality FROM patient_measurements "
        f"WHERE code = '3150-0' AND {before_start('occurred_at', journey)} GROUP BY number",
    )

    held = {row["number"]: row["held"] for row in rows}
    expected = Counter(
        at.numbers["inhaled-oxygen", "fio2"]
        for patient in journey.patients.values()
        for at in patient.charted
        if ("inhaled-oxygen", "fio2") in at.numbers
    )
    assert held == expected
    assert held[30.0] > 0
    assert held[100.0] > 0
    assert {row["unit"] for row in rows} == {"%"}
    assert {row["quality"] for row in rows if row["number"] >= 21} == {"good"}


def test_of_cuff_and_arterial_pressure_in_one_minute_both_are_kept_and_the_arterial_one_is_scored(
    journey: Journey,
) -> None:
    seen = 0
    for patient in journey.patients.values():
        shift = patient.shift(journey.start)
        usable = {one.at: one.number for one in usable_readings(patient.measured, "systolic_bp", shift)}
        rows = {row.window_start: row for row in windows_of(journey, patient)}
        for at in patient.measured:
            arterial = at.numbers.get(("arterial-pressure", "systolic"))
            is_both = arterial is not None and ("cuff-pressure", "systolic") in at.numbers
            if not is_both or usable.get(at.at + shift) != arterial:
                continue
            row = rows[(at.at + shift) // MINUTE * MINUTE]
            (entry,) = [one for one in inputs_of(row) if one["vital"] == "systolic_bp"]
            assert (entry["type"], entry["value"], entry["usable"]) == ("arterial-pressure", arterial, True)
            assert at.types >= {"cuff-pressure", "arterial-pressure"}
            seen += 1
    assert seen > 0
