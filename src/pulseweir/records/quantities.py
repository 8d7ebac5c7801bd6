"""Quantities that devices measure: codes, units, plausible range, and the words that name them. Pure.

Wider than the vital signs of `codes`, which are what the house scores: here is what a mapping may code, so that its
code, display, unit and values can be held against each other.

Source: LOINC (codes and long common names); HL7 FHIR R4 vital signs profiles (units of vital signs); IEEE
11073-10101 (MDC codes); HL7 Continuous Glucose Monitoring guide 1.0 (glucose in interstitial fluid). Ranges: MIT-LCP
mimic-code for vital signs; for the rest what instruments can read, wide enough for any living patient.
"""

from dataclasses import dataclass

from pulseweir.records.codes import LOINC

MDC = "urn:iso:std:iso:11073:10101"


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity.

    Attributes:
        title: What a person reads.
        codes: Codes in `system` that mean it, preferred first.
        units: UCUM codes it is measured in, preferred first; empty for a panel or a concept.
        lowest: Numbers below this, in the first unit, are implausible; None when there is no range.
        highest: Numbers above this are.
        words: A text that holds all words of one of these entries names it; lower case.
        names: Value names that mean it, lower case without signs.
        family: What a more special quantity is a kind of; its own title when empty.
        system: Code system of `codes`.
    """

    title: str
    codes: tuple[str, ...]
    units: tuple[str, ...]
    lowest: float | None = None
    highest: float | None = None
    words: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    family: str = ""
    system: str = LOINC

    @property
    def kind(self) -> str:
        """What it is, or is a kind of: two codes of one kind do not contradict each other."""
        return self.family or self.title


_RATE = ("/min", "{beats}/min", "{breaths}/min")
_PRESSURE = ("mm[Hg]", "kPa")
_MASS = ("kg", "g", "[lb_av]", "[stone_av]")
_LENGTH = ("cm", "m", "mm", "[in_i]", "[ft_i]")
_TIME = ("min", "h", "s", "ms")
_VOLTAGE = ("uV", "mV", "V")
QUANTITIES = (
    Quantity(
        "Heart rate variability",
        ("80404-7",),
        ("ms", "s"),
        0.5,
        500,
        ("heart rate variability", "standard deviation r-r", "sdnn"),
        ("hrv", "sdnn", "heartratevariability"),
    ),
    Quantity(
        "Heart rate --resting",
        ("40443-4",),
        _RATE,
        1,
        300,
        ("heart rate resting", "resting pulse"),
        ("restingheartrate",),
        "Heart rate",
    ),
    Quantity(
        "Heart rate",
        ("8867-4", "8889-8"),
        _RATE,
        1,
        300,
        ("heart rate", "heartrate", "pulse rate"),
        ("hr", "heartrate", "pulserate", "bpm"),
    ),
    Quantity(
        "Respiratory rate",
        ("9279-1",),
        _RATE,
        1,
        70,
        ("respiratory rate", "respiration rate", "breathing rate"),
        ("rr", "respiratoryrate", "respirationrate"),
    ),
    Quantity(
        "Oxygen saturation",
        ("59408-5", "2708-6"),
        ("%", "1"),
        20,
        100,
        ("oxygen saturation", "spo2"),
        ("spo2", "oxygensaturation", "sao2"),
    ),
    Quantity(
        "Systolic blood pressure", ("8480-6",), _PRESSURE, 20, 400, ("systolic",), ("systolic", "sbp", "systolicbp")
    ),
    Quantity(
        "Diastolic blood pressure",
        ("8462-4",),
        _PRESSURE,
        10,
        300,
        ("diastolic",),
        ("diastolic", "dbp", "diastolicbp"),
    ),
    Quantity(
        "Mean blood pressure",
        ("8478-0",),
        _PRESSURE,
        10,
        300,
        ("mean blood pressure", "mean arterial pressure"),
        ("meanpressure", "map", "meanbp"),
    ),
    Quantity("Blood pressure panel", ("85354-9", "35094-2", "55284-4"), (), words=("blood pressure panel",)),
    Quantity("Vital signs panel", ("85353-1",), (), words=("vital signs panel",)),
    Quantity(
        "Body temperature",
        ("8310-5", "8331-1"),
        ("Cel", "[degF]", "K"),
        20,
        46,
        ("body temperature", "oral temperature", "temperature"),
        ("temperature", "bodytemperature", "bodytemp"),
    ),
    Quantity("Glasgow coma score total", ("9269-2",), ("{score}",), 3, 15, ("glasgow total", "coma total")),
    Quantity("Glasgow coma score eye opening", ("9267-6",), ("{score}",), 1, 4, ("glasgow eye",)),
    Quantity("Glasgow coma score verbal", ("9270-0",), ("{score}",), 1, 5, ("glasgow verbal",)),
    Quantity("Glasgow coma score motor", ("9268-4",), ("{score}",), 1, 6, ("glasgow motor",)),
    Quantity("Level of responsiveness", ("67775-7",), (), words=("level of responsiveness",)),
    Quantity(
        "Inhaled oxygen concentration",
        ("3150-0",),
        ("%", "1"),
        20,
        100,
        ("inhaled oxygen concentration", "fraction inspired oxygen"),
        ("fio2",),
    ),
    Quantity("Inhaled oxygen flow rate", ("3151-8",), ("L/min", "mL/min"), 0, 100, ("inhaled oxygen flow",)),
    Quantity(
        "Glucose, substance concentration",
        ("105272-9", "14743-9", "15074-8", "14749-6"),
        ("mmol/L",),
        1.1,
        55.5,
        ("glucose moles",),
        family="Glucose",
    ),
    Quantity(
        "Glucose, mass concentration",
        ("99504-3", "41653-7", "2339-0", "2345-7"),
        ("mg/dL", "g/L"),
        20,
        1_000,
        ("glucose",),
        family="Glucose",
    ),
    Quantity("Body mass index", ("39156-5",), ("kg/m2",), 5, 150, ("body mass index", "bmi"), ("bmi", "bodymassindex")),
    Quantity(
        "Body fat",
        ("41982-0",),
        ("%", "1"),
        1,
        80,
        ("body fat",),
        ("bodyfat", "bodyfatpercentage"),
    ),
    Quantity(
        "Body weight",
        ("29463-7", "3141-9"),
        _MASS,
        0.3,
        650,
        ("body weight",),
        ("weight", "bodyweight", "bodymass"),
    ),
    Quantity("Head circumference", ("9843-4",), _LENGTH, 15, 80, ("head circumference",), ("headcircumference",)),
    Quantity("Body height", ("8302-2", "3137-7"), _LENGTH, 20, 280, ("body height",), ("height", "bodyheight")),
    Quantity(
        "Number of steps in 24 hours",
        ("41950-7",),
        ("{steps}/d", "{steps}", "1", "{count}"),
        0,
        200_000,
        ("steps 24",),
        family="Steps",
    ),
    Quantity(
        "Number of steps",
        ("55423-8",),
        ("{steps}", "1", "{count}"),
        0,
        200_000,
        ("number of steps",),
        ("steps", "stepcount"),
        "Steps",
    ),
    Quantity("Walking distance", ("55430-3",), ("m", "km", "[mi_i]", "cm", "[ft_i]"), words=("walking distance",)),
    Quantity("Calories burned in 24 hours", ("41979-6",), ("kcal/d", "kcal", "kJ"), words=("calories burned 24",)),
    Quantity("Calories burned", ("41981-2",), ("kcal", "kJ"), words=("calories burned",)),
    Quantity("Calorie intake total", ("9052-2",), ("kcal", "kJ", "kcal/d"), words=("calorie intake",)),
    Quantity("Exercise duration", ("55411-3",), _TIME, words=("exercise duration",)),
    Quantity("Sleep duration", ("93832-4",), ("min", "h", "s", "ms"), words=("sleep duration",), family="Sleep"),
    Quantity(
        "Peak expiratory flow",
        ("19935-6",),
        ("L/min", "L/s"),
        20,
        1_000,
        ("peak expiratory flow", "peak flow", "maximum expiratory gas flow"),
        ("pef", "peakflow"),
    ),
    Quantity("FEV1/FVC", ("19926-5",), ("%", "1"), 5, 100, ("fev1/fvc",), ("fev1fvc",)),
    Quantity("FEV1", ("20150-9",), ("L", "mL"), 0.1, 10, ("fev1",), ("fev1",)),
    Quantity("Forced vital capacity", ("19868-9",), ("L", "mL"), 0.1, 12, ("vital capacity",), ("fvc",)),
    Quantity(
        "Electric potential of the heart",
        ("131328", "131329", "131330", "131389"),
        _VOLTAGE,
        words=("mdc_ecg_elec_potl",),
        names=("ecg",),
        system=MDC,
    ),
)
QUANTITY_BY_CODE = {(quantity.system, code): quantity for quantity in QUANTITIES for code in quantity.codes}


def is_loinc(code: str) -> bool:
    """Whether a code has the form and the check digit of a LOINC code.

    Source: LOINC Users' Guide, appendix on the check digit (modulus 10).

    >>> is_loinc("8867-4"), is_loinc("3150-6")
    (True, False)
    """
    body, _, digit = code.partition("-")
    if not (body.isascii() and body.isdecimal() and digit.isascii() and digit.isdecimal() and len(digit) == 1):
        return False
    odd = "".join(reversed(body[::-1][::2]))
    even = "".join(reversed(body[::-1][1::2]))
    total = sum(int(character) for character in even + str(int(odd) * 2))
    return (10 - total % 10) % 10 == int(digit)


def named_quantity(text: str) -> Quantity | None:
    """The one quantity a display text names; None when it names none, or several.

    >>> named_quantity("Diastolic blood pressure").codes, named_quantity("Systolic and diastolic pressure")
    (('8462-4',), None)
    """
    folded = text.casefold()
    if "systolic" in folded and "diastolic" in folded:
        return None
    for quantity in QUANTITIES:
        if any(all(word in folded for word in entry.split()) for entry in quantity.words):
            return quantity
    return None


def value_named(name: str) -> Quantity | None:
    """The quantity a value name means; None when it is not one of the usual names.

    >>> value_named("Systolic").codes
    ('8480-6',)
    """
    folded = "".join(letter for letter in name.casefold() if letter.isalnum())
    return next((quantity for quantity in QUANTITIES if folded in quantity.names), None)
