"""Step 10: whether NEWS2 may score a patient at all, and what of the patient is not known. Pure.

Source: Royal College of Physicians, NEWS2, 2017: not for children (under 16 years) or women who are pregnant.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

ADULT_YEARS = 16
_CHILDBEARING_YEARS = (10, 60)
NOT_KNOWN = -1

ABSTENTIONS = (None, "age-under-16", "pregnancy", "unknown-age")
"""Why the model abstains: the first that is true."""

UNKNOWNS = ("age", "pregnancy", "spo2_scale")


@dataclass(frozen=True, slots=True)
class Eligibility:
    """One a window.

    Attributes:
        abstained: Place in `ABSTENTIONS`.
        unknown: Shape (windows, 3), in the order of `UNKNOWNS`.
    """

    abstained: Integers
    unknown: Marks


def eligibility(
    age: Integers, pregnant: Integers, male: Marks, scale_matters: Marks, *, needs_age: bool
) -> Eligibility:
    """Ask for exclusions before anything is scored.

    Args:
        age: Whole years, `NOT_KNOWN` where unknown.
        pregnant: 1, 0, or `NOT_KNOWN`.
        male: Whether the administrative gender says so.
        scale_matters: Whether there is a saturation to score, and no recorded SpO2 scale known.
        needs_age: Whether an unknown age is a reason to abstain.
    """
    no_age = age == NOT_KNOWN
    youngest, oldest = _CHILDBEARING_YEARS
    can_be_pregnant = ~male & (no_age | ((age >= youngest) & (age <= oldest)))
    unknown = np.stack([no_age, (pregnant == NOT_KNOWN) & can_be_pregnant, scale_matters], axis=1)
    reasons = [~no_age & (age < ADULT_YEARS), pregnant == 1, no_age & needs_age]
    return Eligibility(np.select(reasons, [1, 2, 3], 0).astype(np.int64), unknown)
