"""The vital signs the house knows: LOINC, UCUM, absolute bounds, maximum ages. Pure.

Source: HL7 FHIR R4 vital signs profiles (codes, units); MIT-LCP mimic-code (absolute bounds); Royal College of
Physicians, NEWS2, 2017 (maximum ages follow its monitoring frequencies).
"""

from dataclasses import dataclass

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
SNOMED = "http://snomed.info/sct"
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
PULSEWEIR = "https://pulseweir.org/fhir"
SERVICE_SYSTEM = "https://azure.microsoft.com/en-us/services/iomt-fhir-connector/"
"""The predecessor's system for its own codings and identifiers: kept, so that ids stay the same."""

DEVICE_IDENTIFIER_SYSTEM = f"{PULSEWEIR}/NamingSystem/device-id"
WARD_IDENTIFIER_SYSTEM = f"{PULSEWEIR}/NamingSystem/ward"
SPO2_SCALE_EXTENSION = f"{PULSEWEIR}/StructureDefinition/spo2-scale"
"""Patient extension, valueInteger 1 or 2: the clinician's recorded decision on the NEWS2 SpO2 scale."""


@dataclass(frozen=True, slots=True)
class Vital:
    """One vital sign.

    Attributes:
        name: The word used in scores and on screens.
        loinc: The LOINC codes that mean it, preferred first.
        unit: UCUM code of its numbers inside the house.
        lowest: Values at or below this are impossible (exclusive bound), None for a coded vital.
        highest: Values above this are impossible (at or above, unless `highest_is_possible`).
        highest_is_possible: Whether `highest` itself can be a living patient's value.
        maximum_age_seconds: Older values are stale and not scored.
        title: What a person reads.
    """

    name: str
    loinc: tuple[str, ...]
    unit: str
    lowest: float | None
    highest: float | None
    maximum_age_seconds: int
    title: str
    highest_is_possible: bool = False

    def is_possible(self, number: float) -> bool:
        """Whether a living patient can have this value, in `unit`."""
        if self.lowest is None or self.highest is None:
            return True
        return self.lowest < number < self.highest or (self.highest_is_possible and number == self.highest)


_HOUR = 3600
VITALS = (
    Vital("heart_rate", ("8867-4",), "/min", 0, 300, _HOUR, "Heart rate"),
    Vital("respiratory_rate", ("9279-1",), "/min", 0, 70, _HOUR, "Respiratory rate"),
    Vital("spo2", ("59408-5", "2708-6"), "%", 0, 100, _HOUR, "Oxygen saturation", highest_is_possible=True),
    Vital("systolic_bp", ("8480-6",), "mm[Hg]", 0, 400, 4 * _HOUR, "Systolic blood pressure"),
    Vital("diastolic_bp", ("8462-4",), "mm[Hg]", 0, 300, 4 * _HOUR, "Diastolic blood pressure"),
    Vital("mean_bp", ("8478-0",), "mm[Hg]", 0, 300, 4 * _HOUR, "Mean blood pressure"),
    Vital("temperature", ("8310-5",), "Cel", 10, 50, 12 * _HOUR, "Temperature"),
    Vital("consciousness", ("67775-7",), "", None, None, 4 * _HOUR, "Consciousness"),
    Vital("fio2", ("3150-0",), "%", 0.19, 100, 4 * _HOUR, "Inhaled oxygen", highest_is_possible=True),
    Vital("oxygen_flow", ("3151-8",), "L/min", -0.001, 100, 4 * _HOUR, "Oxygen flow"),
    Vital(
        "glasgow_coma_scale",
        ("9269-2",),
        "{score}",
        2.9,
        15,
        4 * _HOUR,
        "Glasgow coma scale",
        highest_is_possible=True,
    ),
    Vital("glasgow_coma_eye", ("9267-6",), "{score}", 0.9, 4, 4 * _HOUR, "Eye opening", highest_is_possible=True),
    Vital("glasgow_coma_verbal", ("9270-0",), "{score}", 0.9, 5, 4 * _HOUR, "Verbal answer", highest_is_possible=True),
    Vital("glasgow_coma_motor", ("9268-4",), "{score}", 0.9, 6, 4 * _HOUR, "Motor response", highest_is_possible=True),
)
COMA_VITALS = ("glasgow_coma_scale", "glasgow_coma_eye", "glasgow_coma_verbal", "glasgow_coma_motor")
"""The coma scale and its parts: whole numbers charted by people, without a trend worth fitting."""

VITAL_BY_NAME = {vital.name: vital for vital in VITALS}
VITAL_BY_LOINC = {code: vital for vital in VITALS for code in vital.loinc}
