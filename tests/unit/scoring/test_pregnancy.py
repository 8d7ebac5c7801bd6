"""Which Conditions and pregnancy statuses mean that a patient is pregnant today."""

from typing import Any

import pytest

from hospital_fhir import Json, ago, coded
from patient_measurements import MINUTE, NOON
from pulseweir.records.codes import LOINC, SNOMED
from pulseweir.scoring.pregnancy import is_current, means_pregnancy, newest_status_is_pregnant

DAY = 24 * 60 * MINUTE
ICD = "http://hl7.org/fhir/sid/icd-10-cm"


def condition(system: str, code: str, **more: Any) -> Json:
    return {"resourceType": "Condition", "code": coded(code, system), **more}


@pytest.mark.parametrize(
    ("system", "code", "is_pregnant"),
    [
        (SNOMED, "77386006", True),
        (SNOMED, "65147003", True),
        (SNOMED, "13645005", False),
        (ICD, "Z33.1", True),
        (ICD, "Z33.2", False),
        (ICD, "Z34.92", True),
        (ICD, "O26.893", True),
        (ICD, "O9A.213", True),
        (ICD, "O86.4", False),
        ("http://fhir.de/CodeSystem/bfarm/icd-10-gm", "O09.6", True),
        ("http://hl7.org/fhir/sid/icd-10", "Z35.9", True),
        ("http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-diagnosis-icd10", "Z331", True),
        ("http://hl7.org/fhir/sid/icd-9-cm", "O26", False),
        ("", "77386006", False),
        ("http://hl7.org/fhir/sid/icd-10-pcs", "O26", False),
        ("http://hl7.org/fhir/sid/icpc-2", "W78", True),
    ],
)
def test_a_condition_means_pregnancy_by_the_system_it_is_coded_in(system: str, code: str, is_pregnant: bool) -> None:
    assert means_pregnancy(condition(system, code), NOON) is is_pregnant


def test_a_pregnancy_that_began_longer_ago_than_one_lasts_is_over() -> None:
    assert means_pregnancy(condition(SNOMED, "77386006", onsetDateTime=ago(200 * DAY)), NOON)
    assert not means_pregnancy(condition(SNOMED, "77386006", onsetDateTime=ago(400 * DAY)), NOON)
    assert not means_pregnancy(condition(SNOMED, "77386006", recordedDate=ago(400 * DAY)[:10]), NOON)


@pytest.mark.parametrize(
    ("facts", "counts"),
    [
        ({}, True),
        ({"clinicalStatus": coded("recurrence")}, True),
        ({"clinicalStatus": coded("inactive")}, False),
        ({"clinicalStatus": coded("resolved")}, False),
        ({"verificationStatus": coded("refuted")}, False),
        ({"verificationStatus": coded("entered-in-error")}, False),
        ({"verificationStatus": coded("confirmed"), "clinicalStatus": coded("active")}, True),
        ({"abatementDateTime": ago(DAY)}, False),
        ({"abatementDateTime": ago(-DAY)}, True),
        ({"abatementDateTime": ago(0)[:10]}, True),
        ({"abatementPeriod": {"end": ago(DAY)}}, False),
        ({"abatementBoolean": True}, False),
    ],
)
def test_only_a_condition_that_is_true_today_counts(facts: Json, counts: bool) -> None:
    assert is_current(facts, NOON) is counts


def test_the_newest_pregnancy_status_counts() -> None:
    def status(code: str, when: str, **more: Any) -> Json:
        value = coded(code, LOINC)
        return {"status": "final", "effectiveDateTime": when, "valueCodeableConcept": value, **more}

    yes, no = status("LA15173-0", ago(DAY)), status("LA26683-5", ago(MINUTE))
    withdrawn = status("LA15173-0", ago(1), status="entered-in-error")

    assert newest_status_is_pregnant([yes], NOON)
    assert not newest_status_is_pregnant([no, yes], NOON)
    assert newest_status_is_pregnant([status("LA26683-5", ago(2 * DAY)), yes], NOON)
    assert not newest_status_is_pregnant([withdrawn], NOON)
    assert not newest_status_is_pregnant([status("LA15173-0", ago(400 * DAY))], NOON)
