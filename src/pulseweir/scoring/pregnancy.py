"""Step 7: whether a patient is pregnant, by what was recorded: NEWS2 is not meant for pregnancy. Pure.

Only coded statements count, each by the system it is coded in; a text is never read. Source: Royal College of
Physicians, NEWS2, 2017 (not for pregnancy); SNOMED CT 77386006 and descendants; ICD-10 chapters XV and XXI (Z32 to Z36,
Z3A); ICPC-2 W78, W79, W84; LOINC 82810-3 with answer list LL4129-4; HL7 FHIR R4 Condition.
"""

import re
from collections.abc import Iterable
from typing import Any

from pulseweir.records.codes import LOINC, SNOMED
from pulseweir.scoring.fhir_dates import last_instant

Json = dict[str, Any]

STATUS_CODE = "82810-3"
"""LOINC code of an Observation that states whether somebody is pregnant."""
LONGEST_MICROSECONDS = 45 * 7 * 24 * 3_600 * 1_000_000
"""Longer than any pregnancy: a statement that is older speaks of one that is over."""

_ACTIVE = frozenset({"active", "recurrence", "relapse"})
_NOT_MEANT = frozenset({"refuted", "entered-in-error"})
_WITHDRAWN = frozenset({"entered-in-error", "cancelled"})
_SNOMED_PREGNANT = frozenset(
    {
        "77386006",  # pregnant
        "72892002",  # normal pregnancy
        "47200007",  # high risk pregnancy
        "237239003",  # low risk pregnancy
        "237238006",  # pregnancy with uncertain dates
        "16356006",  # multiple pregnancy
        "65147003",  # twin pregnancy
        "64254006",  # triplet pregnancy
        "34801009",  # ectopic pregnancy
        "57630001",  # first trimester
        "59466002",  # second trimester
        "41587001",  # third trimester
        "314204000",  # early stage
        "87527008",  # term pregnancy
        "90968009",  # prolonged pregnancy
        "83074005",  # unplanned pregnancy
        "58532003",  # unwanted pregnancy
        "127364007",  # first pregnancy
        "169560008",  # confirmed by a urine test
        "169561007",  # by a blood test
        "169562000",  # by examination
        "169563005",  # by history
        "169564004",  # by palpation
        "169565003",  # planned
        "169566002",  # unplanned, wanted
    }
)
_ICPC_PREGNANT = frozenset({"W78", "W79", "W84"})
_ICD_SYSTEM = re.compile(r"icd-?10(?!.*pcs)", re.IGNORECASE)
_ICD_OIDS = frozenset({"urn:oid:2.16.840.1.113883.6.3", "urn:oid:2.16.840.1.113883.6.90"})
_ICD_PREGNANT = re.compile(r"O[0-7]\d.*|O8[0-4].*|O9[89A].*|Z33|Z331|Z3[456].*|Z321|Z3201|Z3A.*")
"""Not O85 to O92 (after birth), not O94 to O97 (what is left of one), not Z33.2 (one that is ended)."""
_ANSWER_PREGNANT = "LA15173-0"


def is_current(condition: Json, now: int) -> bool:
    """Whether a Condition says something of today: active, not refuted, not withdrawn, not over."""
    clinical, verification = (_status_codes(condition.get(name)) for name in ("clinicalStatus", "verificationStatus"))
    if (clinical and not clinical & _ACTIVE) or verification & _NOT_MEANT:
        return False
    return not _is_over(condition, now)


def means_pregnancy(condition: Json, now: int) -> bool:
    """Whether a current Condition means that its patient is pregnant now.

    One that began, or else was recorded, longer ago than a pregnancy lasts is over, though nobody closed it.
    """
    begun = (condition.get("onsetPeriod") or {}).get("start") or condition.get("onsetDateTime")
    since = last_instant(begun or condition.get("recordedDate"))
    if since is not None and now - since > LONGEST_MICROSECONDS:
        return False
    return any(_is_pregnant(one) for one in _codings(condition.get("code")))


def newest_status_is_pregnant(observations: Iterable[Json], now: int) -> bool:
    """Whether the newest stated pregnancy status of one patient says pregnant, and is not from another pregnancy."""
    stated = [(_observed_at(one), one) for one in observations if one.get("status") not in _WITHDRAWN]
    if not stated:
        return False
    at, newest = max(stated, key=lambda pair: pair[0])
    if now - at > LONGEST_MICROSECONDS:
        return False
    codings = _codings(newest.get("valueCodeableConcept"))
    return any(_is_pregnant(one) or _is_answer(one) for one in codings)


def _is_over(condition: Json, now: int) -> bool:
    period = condition.get("abatementPeriod") or {}
    ended = last_instant(condition.get("abatementDateTime") or period.get("end"))
    if ended is not None:
        return ended < now
    return condition.get("abatementBoolean") is True or bool(condition.get("abatementString"))


def _observed_at(observation: Json) -> int:
    period = observation.get("effectivePeriod") or {}
    named = observation.get("effectiveDateTime") or observation.get("effectiveInstant")
    return last_instant(named or period.get("end") or period.get("start") or observation.get("issued")) or 0


def _is_answer(coding: Json) -> bool:
    return coding.get("system") == LOINC and coding.get("code") == _ANSWER_PREGNANT


def _is_pregnant(coding: Json) -> bool:
    system, code = str(coding.get("system", "")), str(coding.get("code", "")).strip().upper()
    if system == SNOMED:
        return code in _SNOMED_PREGNANT
    if _ICD_SYSTEM.search(system) or system in _ICD_OIDS:
        return _ICD_PREGNANT.fullmatch(code.replace(".", "")) is not None
    return "icpc-2" in system.lower() and code in _ICPC_PREGNANT


def _status_codes(concept: object) -> set[str]:
    return {str(one.get("code")) for one in _codings(concept)}


def _codings(concept: object) -> list[Json]:
    return [one for one in concept.get("coding", ()) if isinstance(one, dict)] if isinstance(concept, dict) else []
