"""Units that can be compared with each other: the UCUM codes of vital signs, on common scales. Pure.

Only linear scales between units that monitoring uses; a unit that is not here compares with itself alone.
Source: The Unified Code for Units of Measure, https://ucum.org.
"""

from fractions import Fraction

UCUM = "http://unitsofmeasure.org"
_SCALES: dict[str, tuple[str, Fraction, Fraction]] = {
    unit: (dimension, Fraction(factor), Fraction(offset))
    for unit, dimension, factor, offset in (
        ("g", "g", "1", "0"),
        ("mg", "g", "0.001", "0"),
        ("ug", "g", "0.000001", "0"),
        ("kg", "g", "1000", "0"),
        ("[lb_av]", "g", "453.59237", "0"),
        ("[oz_av]", "g", "28.349523125", "0"),
        ("m", "m", "1", "0"),
        ("cm", "m", "0.01", "0"),
        ("mm", "m", "0.001", "0"),
        ("[in_i]", "m", "0.0254", "0"),
        ("[ft_i]", "m", "0.3048", "0"),
        ("L", "L", "1", "0"),
        ("l", "L", "1", "0"),
        ("dL", "L", "0.1", "0"),
        ("mL", "L", "0.001", "0"),
        ("ml", "L", "0.001", "0"),
        ("s", "s", "1", "0"),
        ("ms", "s", "0.001", "0"),
        ("min", "s", "60", "0"),
        ("h", "s", "3600", "0"),
        ("d", "s", "86400", "0"),
        ("wk", "s", "604800", "0"),
        ("Pa", "Pa", "1", "0"),
        ("kPa", "Pa", "1000", "0"),
        ("mm[Hg]", "Pa", "133.322387415", "0"),
        ("cm[H2O]", "Pa", "98.0665", "0"),
        ("Cel", "Cel", "1", "0"),
        ("K", "Cel", "1", "-273.15"),
        ("[degF]", "Cel", "5/9", "-160/9"),
        ("/min", "/min", "1", "0"),
        ("{beats}/min", "/min", "1", "0"),
        ("{breaths}/min", "/min", "1", "0"),
        ("/s", "/min", "60", "0"),
        ("Hz", "/min", "60", "0"),
        ("L/min", "L/min", "1", "0"),
        ("mL/min", "L/min", "0.001", "0"),
        ("%", "%", "1", "0"),
        ("1", "%", "100", "0"),
    )
}
"""What a unit measures, and how its numbers become those of the common scale: times, plus."""


def converted(number: Fraction, from_code: str, to_code: str) -> Fraction | None:
    """A number of one UCUM unit in another, exactly; None when they do not measure the same.

    >>> float(converted(Fraction("98.6"), "[degF]", "Cel"))
    37.0
    """
    if from_code == to_code:
        return number
    source, target = _SCALES.get(from_code), _SCALES.get(to_code)
    if source is None or target is None or source[0] != target[0]:
        return None
    return (number * source[1] + source[2] - target[2]) / target[1]
