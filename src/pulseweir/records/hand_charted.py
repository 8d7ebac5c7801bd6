"""Which measurements people chart by hand, told by the type that the device mapping gives them. Pure."""

HAND_CHARTED_TYPES = ("consciousness", "nurse", "oxygen-flow")
"""Beginnings of such types: those of the nurse-entry kind, and of sites whose own types begin with `nurse`."""


def is_hand_charted(type_name: str, types: tuple[str, ...] = HAND_CHARTED_TYPES) -> bool:
    """Whether a type's measurements are charted by hand.

    >>> is_hand_charted("nurse-set"), is_hand_charted("consciousness-voice"), is_hand_charted("heart-rate")
    (True, True, False)
    """
    return type_name.startswith(types)
