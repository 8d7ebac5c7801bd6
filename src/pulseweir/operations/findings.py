"""What `pulseweir doctor` finds. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        check: What was looked at.
        healthy: Whether it is as it should be.
        found: What was found.
        remedy: What to do when it is not healthy; "" when it is.
    """

    check: str
    healthy: bool
    found: str
    remedy: str = ""
