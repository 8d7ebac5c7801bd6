"""Units of measured quantities: UCUM codes, what people write for them, and conversion. Pure.

Only the units that vital signs and home devices use: a table small enough to be read whole.

Source: The Unified Code for Units of Measure, version 2.1; factors from the SI brochure and NIST SP 811.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """One UCUM unit.

    Attributes:
        code: Its UCUM code, case-sensitive.
        dimension: What it measures; units of one dimension convert into each other.
        factor: How many of the dimension's first unit one of it is.
        offset: What to add after multiplying, in the dimension's first unit.
        written: What people and devices write for it that is no UCUM code, in lower case.
    """

    code: str
    dimension: str
    factor: float = 1.0
    offset: float = 0.0
    written: tuple[str, ...] = ()


UNITS = (
    Unit(
        "/min",
        "frequency",
        written=(
            *("bpm", "count/min", "counts/min", "beats/min", "beats/minute", "beats per minute", "breaths/min"),
            *("breaths/minute", "breaths per minute", "1/min", "min-1", "per minute", "/minute", "rpm", "brpm"),
        ),
    ),
    Unit("{beats}/min", "frequency"),
    Unit("{breaths}/min", "frequency"),
    Unit("/s", "frequency", 60.0),
    Unit("%", "fraction", written=("percent", "per cent", "pct", "%spo2")),
    Unit("1", "fraction", 100.0, written=("fraction", "ratio")),
    Unit("mm[Hg]", "pressure", written=("mmhg", "mm hg", "mm(hg)", "torr")),
    Unit("kPa", "pressure", 7.500_617, written=("kpa", "kilopascal")),
    Unit("cm[H2O]", "pressure", 0.735_559, written=("cmh2o", "cm h2o")),
    Unit("Cel", "temperature", written=("°c", "degc", "deg c", "c", "celsius", "degrees celsius", "cel")),
    Unit(
        "[degF]",
        "temperature",
        5 / 9,
        -160 / 9,
        ("°f", "degf", "deg f", "f", "fahrenheit", "degrees fahrenheit"),
    ),
    Unit("K", "temperature", 1.0, -273.15, ("kelvin",)),
    Unit("kg", "mass", written=("kilogram", "kilograms", "kgs")),
    Unit("g", "mass", 0.001, written=("gram", "grams")),
    Unit("[lb_av]", "mass", 0.453_592_37, written=("lb", "lbs", "pound", "pounds")),
    Unit("[stone_av]", "mass", 6.350_293_18, written=("st", "stone", "stones")),
    Unit("cm", "length", written=("centimeter", "centimetre", "centimeters", "centimetres")),
    Unit("m", "length", 100.0, written=("meter", "metre", "meters", "metres")),
    Unit("mm", "length", 0.1, written=("millimeter", "millimetre")),
    Unit("km", "length", 100_000.0, written=("kilometer", "kilometre", "kilometers", "kilometres")),
    Unit("[in_i]", "length", 2.54, written=("in", "inch", "inches")),
    Unit("[ft_i]", "length", 30.48, written=("ft", "foot", "feet")),
    Unit("[mi_i]", "length", 160_934.4, written=("mi", "mile", "miles")),
    Unit("kg/m2", "body mass index", written=("kg/m^2", "kg/m²")),
    Unit("mg/dL", "mass concentration", written=("mg/dl", "mg per dl")),
    Unit("g/L", "mass concentration", 100.0, written=("g/l",)),
    Unit("mmol/L", "substance concentration", written=("mmol/l",)),
    Unit("L/min", "flow", written=("l/min", "lpm", "liter/min", "litre/min")),
    Unit("L/s", "flow", 60.0, written=("l/s",)),
    Unit("mL/min", "flow", 0.001, written=("ml/min",)),
    Unit("L", "volume", written=("l", "liter", "litre", "liters", "litres")),
    Unit("mL", "volume", 0.001, written=("ml", "milliliter", "millilitre")),
    Unit("ms", "time", written=("msec", "millisecond", "milliseconds")),
    Unit("s", "time", 1_000.0, written=("sec", "second", "seconds")),
    Unit("min", "time", 60_000.0, written=("minute", "minutes", "mins")),
    Unit("h", "time", 3_600_000.0, written=("hr", "hour", "hours")),
    Unit("d", "time", 86_400_000.0, written=("day", "days")),
    Unit("kcal", "energy", written=("calories", "calorie", "kilocalories")),
    Unit("kJ", "energy", 1 / 4.184, written=("kj", "kilojoule", "kilojoules")),
    Unit("kcal/d", "power", written=("kcal/day",)),
    Unit("{steps}", "count", written=("steps", "step", "count", "counts")),
    Unit("{count}", "count"),
    Unit("{steps}/d", "count a day", written=("steps/day",)),
    Unit("{score}", "score", written=("score", "points")),
    Unit("uV", "potential", written=("μv", "microvolt", "microvolts")),
    Unit("mV", "potential", 1_000.0, written=("mv", "millivolt", "millivolts")),
    Unit("V", "potential", 1_000_000.0, written=("volt", "volts")),
)
UNIT_BY_CODE = {unit.code: unit for unit in UNITS}
_BY_WRITING = {text: unit for unit in UNITS for text in unit.written}


def written_unit(text: str | None) -> Unit | None:
    """The unit a text means, be it a UCUM code or what people write; None when it is neither.

    >>> written_unit("mmHg").code, written_unit("Cel").code, written_unit("furlong")
    ('mm[Hg]', 'Cel', None)
    """
    if text is None:
        return None
    return UNIT_BY_CODE.get(text) or _BY_WRITING.get(text.strip().casefold())


def convert(number: float, source: str, target: str) -> float | None:
    """A number in another unit; None when the two do not measure the same.

    >>> round(convert(98.6, "[degF]", "Cel"), 1), round(convert(16, "kPa", "mm[Hg]")), convert(1, "kg", "Cel")
    (37.0, 120, None)
    """
    one, other = UNIT_BY_CODE.get(source), UNIT_BY_CODE.get(target)
    if one is None or other is None or one.dimension != other.dimension:
        return None
    return (number * one.factor + one.offset - other.offset) / other.factor
