"""Units that can be compared with each other: the UCUM codes of vital signs, on common scales. Pure.

Only linear scales between units that monitoring uses; a unit that is not here compares with itself alone.
Source: The Unified Code for Units of Measure, https://ucum.org.
"""

UCUM = "http://unitsofmeasure.org"
_SCALES: dict[str, tuple[str, float, float]] = {
    "g": ("g", 1.0, 0.0),
    "mg": ("g", 1e-3, 0.0),
    "ug": ("g", 1e-6, 0.0),
    "kg": ("g", 1e3, 0.0),
    "[lb_av]": ("g", 453.59237, 0.0),
    "[oz_av]": ("g", 28.349523125, 0.0),
    "m": ("m", 1.0, 0.0),
    "cm": ("m", 1e-2, 0.0),
    "mm": ("m", 1e-3, 0.0),
    "[in_i]": ("m", 0.0254, 0.0),
    "[ft_i]": ("m", 0.3048, 0.0),
    "L": ("L", 1.0, 0.0),
    "l": ("L", 1.0, 0.0),
    "dL": ("L", 0.1, 0.0),
    "mL": ("L", 1e-3, 0.0),
    "ml": ("L", 1e-3, 0.0),
    "s": ("s", 1.0, 0.0),
    "ms": ("s", 1e-3, 0.0),
    "min": ("s", 60.0, 0.0),
    "h": ("s", 3600.0, 0.0),
    "d": ("s", 86400.0, 0.0),
    "wk": ("s", 604800.0, 0.0),
    "Pa": ("Pa", 1.0, 0.0),
    "kPa": ("Pa", 1e3, 0.0),
    "mm[Hg]": ("Pa", 133.322387415, 0.0),
    "cm[H2O]": ("Pa", 98.0665, 0.0),
    "Cel": ("Cel", 1.0, 0.0),
    "K": ("Cel", 1.0, -273.15),
    "[degF]": ("Cel", 5 / 9, -160 / 9),
    "/min": ("/min", 1.0, 0.0),
    "{beats}/min": ("/min", 1.0, 0.0),
    "{breaths}/min": ("/min", 1.0, 0.0),
    "/s": ("/min", 60.0, 0.0),
    "Hz": ("/min", 60.0, 0.0),
    "L/min": ("L/min", 1.0, 0.0),
    "mL/min": ("L/min", 1e-3, 0.0),
    "%": ("%", 1.0, 0.0),
    "1": ("%", 100.0, 0.0),
}


def converted(number: float, from_code: str, to_code: str) -> float | None:
    """A number of one UCUM unit in another; None when they do not measure the same.

    >>> round(converted(98.6, "[degF]", "Cel"), 6)
    37.0
    """
    if from_code == to_code:
        return number
    source, target = _SCALES.get(from_code), _SCALES.get(to_code)
    if source is None or target is None or source[0] != target[0]:
        return None
    return (number * source[1] + source[2] - target[2]) / target[1]
