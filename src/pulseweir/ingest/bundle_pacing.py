"""Step 5c: how many entries a bundle holds and how many bundles are under way, by what the server bears. Pure.

Additive increase, multiplicative decrease, from the upper bounds downwards. A server that asks for fewer requests
gets fewer bundles at a time, then smaller ones; one that is slow or fails gets smaller ones; one that finds a bundle
too large gets the largest that it took, and a larger one once in a while. Bundles that were already under way when
the pace was reduced do not reduce it once more.
Source: Chiu and Jain, Analysis of the increase and decrease algorithms for congestion avoidance, 1989; Brooker,
Exponential backoff and jitter, AWS Architecture Blog, 2015 (full jitter).
"""

from dataclasses import dataclass, replace

_STEPS = 16
_CALM_BUNDLES = 32
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """What the server bears now.

    Attributes:
        most_entries: Upper bound of a bundle's size.
        most_lanes: Upper bound of bundles under way.
        size: Entries of the next bundle, with the fraction that increases leave.
        width: Bundles under way, likewise.
        ceiling: Size above which bundles were too large; the upper bound when none was.
        held: Largest full bundle that was not too large; 0 before there was one.
        calm: Bundles of the ceiling's size that succeeded.
        turn: Counts reductions, so that one cause reduces once.

    >>> pace = Pace.at_most(200, 2)
    >>> pace.entries, pace.lanes, pace.throttled(pace.turn).lanes, pace.strained(pace.turn).entries
    (200, 2, 1, 100)
    """

    most_entries: int
    most_lanes: int
    size: float
    width: float
    ceiling: int
    held: int = 0
    calm: int = 0
    turn: int = 0

    @classmethod
    def at_most(cls, entries: int, lanes: int) -> "Pace":
        """The pace of a server that has not complained yet: the upper bounds."""
        return cls(entries, lanes, float(entries), float(lanes), entries)

    @property
    def entries(self) -> int:
        """Entries the next bundle may hold, at least 1."""
        return int(self.size)

    @property
    def lanes(self) -> int:
        """Bundles that may be under way, at least 1."""
        return int(self.width)

    def succeeded(self, entries: int) -> "Pace":
        """After a bundle of so many entries was answered in good time."""
        if entries < self.entries:
            return self._wider()
        step = max(1.0, self.most_entries / _STEPS)
        size = min(self.size + step, float(self.ceiling))
        grown = replace(self._wider(), size=size, held=max(self.held, entries))
        if self.ceiling == self.most_entries or entries < self.ceiling:
            return grown
        if self.calm + 1 < _CALM_BUNDLES:
            return replace(grown, calm=self.calm + 1)
        return replace(grown, calm=0, ceiling=min(self.most_entries, self.ceiling + max(1, self.ceiling // 4)))

    def throttled(self, turn: int) -> "Pace":
        """After an answer that asks for fewer requests, to a bundle sent in `turn`."""
        if turn != self.turn:
            return self
        if self.lanes > 1:
            return replace(self, width=max(1.0, self.width / 2), turn=turn + 1)
        return replace(self, size=max(1.0, self.size / 2), turn=turn + 1)

    def strained(self, turn: int) -> "Pace":
        """After a slow answer, a failure or none at all, to a bundle sent in `turn`."""
        if turn != self.turn:
            return self
        if self.entries > 1:
            return replace(self, size=max(1.0, self.size / 2), turn=turn + 1)
        return replace(self, width=max(1.0, self.width / 2), turn=turn + 1)

    def too_large(self, entries: int) -> "Pace":
        """After a bundle of so many entries was refused for its size."""
        if entries <= 1:
            return self
        ceiling = self.held if 0 < self.held < entries else entries // 2
        size = min(self.size, float(ceiling))
        return replace(self, size=size, ceiling=ceiling, held=min(self.held, ceiling), calm=0, turn=self.turn + 1)

    def _wider(self) -> "Pace":
        if self.width >= self.most_lanes:
            return self
        return replace(self, width=min(self.width + 1 / self.width, float(self.most_lanes)))


def back_off_seconds(failures: int, asked_seconds: float | None, draw: float) -> float:
    """How long to wait after so many failures in a row: what the server asked, and full jitter on top.

    Args:
        failures: In a row, from 1.
        asked_seconds: Of Retry-After, None when the server did not say.
        draw: Random, from 0 to 1.

    >>> back_off_seconds(1, None, 1.0), back_off_seconds(3, 7.0, 0.5), back_off_seconds(60, None, 1.0)
    (0.2, 7.4, 10.0)
    """
    ceiling = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 10), _LONGEST_PAUSE_SECONDS)
    return (asked_seconds or 0.0) + draw * ceiling
