"""The one clock: every instant the house uses comes from here.

A production clock is the system's. A demonstration may run faster: every role is handed the same real
start, simulated start and speed, so that all of them agree on what time it is.
"""

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime

CLOCK_VARIABLE = "PULSEWEIR_CLOCK"
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """Simulated time as a straight line over real time.

    Rules occurred_at, received_at, windows, ages, Flags and escalation. Back-off, leases, linger,
    keep-alive, tokens and TLS use real time instead (`real_microseconds`, `time.monotonic`).

    Attributes:
        real_start_microseconds: Real instant at which the simulated one was handed out.
        simulated_start_microseconds: Simulated instant at that moment.
        speed: Simulated seconds per real second; 1 in production.

    >>> Clock(real_start_microseconds=0, simulated_start_microseconds=0, speed=10.0).at(2_000_000)
    20000000
    """

    real_start_microseconds: int = 0
    simulated_start_microseconds: int = 0
    speed: float = 1.0

    @property
    def is_simulated(self) -> bool:
        """Whether this clock is not the wall clock."""
        return self.speed != 1.0 or self.real_start_microseconds != self.simulated_start_microseconds

    def at(self, real_microseconds: int) -> int:
        """The simulated instant, in microseconds since 1970 UTC, at a real one."""
        if not self.is_simulated:
            return real_microseconds
        elapsed = real_microseconds - self.real_start_microseconds
        return self.simulated_start_microseconds + round(elapsed * self.speed)

    def now_microseconds(self) -> int:
        """Simulated microseconds since 1970 UTC."""
        return self.at(real_microseconds())

    def now(self) -> datetime:
        """The simulated instant as an aware UTC datetime."""
        return from_microseconds(self.now_microseconds())

    def to_environment(self) -> str:
        """The text another role's `from_environment` reads."""
        return f"{self.real_start_microseconds}:{self.simulated_start_microseconds}:{self.speed}"

    @classmethod
    def from_environment(cls) -> "Clock":
        """The clock the supervisor handed down, or the wall clock."""
        text = os.environ.get(CLOCK_VARIABLE, "")
        if not text:
            return cls()
        real_start, simulated_start, speed = text.split(":")
        return cls(int(real_start), int(simulated_start), float(speed))

    @classmethod
    def faster(cls, speed: float) -> "Clock":
        """A clock that shows the present now and then runs `speed` times as fast."""
        start = real_microseconds()
        return cls(start, start, speed)


def real_microseconds() -> int:
    """Real microseconds since 1970 UTC: for tokens, certificates and latencies."""
    return time.time_ns() // 1_000


def from_microseconds(microseconds: int) -> datetime:
    """An aware UTC datetime, exact to the microsecond."""
    seconds, remainder = divmod(microseconds, _MICROSECONDS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=remainder)


def to_microseconds(instant: datetime) -> int:
    """Microseconds since 1970 UTC of an aware datetime, exact."""
    whole = int(instant.replace(microsecond=0).timestamp())
    return whole * _MICROSECONDS + instant.microsecond


def to_text(microseconds: int) -> str:
    """RFC 3339 text in UTC with milliseconds or, when they matter, microseconds.

    >>> to_text(1_000), to_text(1)
    ('1970-01-01T00:00:00.001Z', '1970-01-01T00:00:00.000001Z')
    """
    instant = from_microseconds(microseconds)
    precision = "microseconds" if instant.microsecond % 1_000 else "milliseconds"
    return instant.isoformat(timespec=precision).replace("+00:00", "Z")
