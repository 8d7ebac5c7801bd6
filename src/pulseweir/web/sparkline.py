"""Step 15: a score over hours as a small SVG, and its change. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from pulseweir.backends.repository.rows import ScorePoint

WIDTH, HEIGHT = 240, 48
HIGHEST_SHOWN = 14
"""Scores above are drawn at the top edge: they are as red as it gets."""

BAND_EDGES = (("high", 7, HIGHEST_SHOWN), ("medium", 5, 7), ("low", 0, 5))
_BUCKETS = 72
_GAP_BUCKETS = 3
_HOUR = 3_600_000_000
_MINUTE = 60_000_000
_NEAR_ENOUGH = 30 * _MINUTE


@dataclass(frozen=True, slots=True)
class Sparkline:
    """What the template draws in a box of `WIDTH` x `HEIGHT`.

    Attributes:
        lines: Points of each unbroken line; a gap in the data is a gap in the line.
        dots: Centres of points that have no neighbour.
        bands: (band, y, height) of the background.
        last: Centre of the newest point, or None.
        words: The same for a screen reader.
    """

    lines: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    bands: tuple[tuple[str, float, float], ...]
    last: tuple[float, float] | None
    words: str


@dataclass(frozen=True, slots=True)
class Change:
    """How a score moved.

    Attributes:
        points: Newest minus oldest.
        span_minutes: Over how long.
    """

    points: int
    span_minutes: int

    @property
    def span(self) -> str:
        """The span in words: "4 h", "40 min"."""
        return f"{round(self.span_minutes / 60)} h" if self.span_minutes >= 90 else f"{self.span_minutes} min"

    @property
    def direction(self) -> str:
        """rising, falling or steady."""
        return "steady" if self.points == 0 else "rising" if self.points > 0 else "falling"


def draw(points: Sequence[ScorePoint], now: int, hours: float) -> Sparkline:
    """The highest score of each of `_BUCKETS` equal spans, joined where neighbours have data.

    Args:
        points: Oldest first.
        now: Right edge, microseconds.
        hours: Longest span; a patient known for less time is drawn over that time, an hour at least.
    """
    known = now - points[0].window_end if points else 0
    span = min(int(hours * _HOUR), max(_HOUR, known))
    start = now - span
    highest: dict[int, float] = {}
    for point in points:
        place = min(_BUCKETS - 1, (point.window_end - start) * _BUCKETS // span)
        if point.score is not None and place >= 0:
            highest[place] = max(point.score, highest.get(place, 0.0))
    runs = _runs(sorted(highest))
    spots = {place: (_x(place), _y(score)) for place, score in highest.items()}
    lines = tuple(" ".join(f"{x:g},{y:g}" for x, y in map(spots.__getitem__, run)) for run in runs if len(run) > 1)
    dots = tuple(spots[run[0]] for run in runs if len(run) == 1)
    bands = tuple((band, _y(upper), _y(lower) - _y(upper)) for band, lower, upper in BAND_EDGES)
    last = spots[max(spots)] if spots else None
    words = f"Score over {span / _HOUR:.2g} hours: " + (
        f"lowest {min(highest.values()):g}, highest {max(highest.values()):g}" if highest else "no data"
    )
    return Sparkline(lines, dots, bands, last, words)


def change_of(points: Sequence[ScorePoint], score: float | None, now: int, *, hours: float = 4) -> Change | None:
    """The change over `hours`, or over the time there is data for when that is shorter; None without a past."""
    if score is None:
        return None
    known = [point for point in points if point.score is not None]
    target = now - int(hours * _HOUR)
    past = [point for point in known if abs(point.window_end - target) <= _NEAR_ENOUGH]
    if past:
        then = min(past, key=lambda point: abs(point.window_end - target))
    else:
        later = [point for point in known if point.window_end > target]
        if not later:
            return None
        then = later[0]
    minutes = (now - then.window_end) // _MINUTE
    if minutes < 1:
        return None
    return Change(round(score - (then.score or 0.0)), int(minutes))


def _runs(places: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for place in places:
        if runs and place - runs[-1][-1] < _GAP_BUCKETS:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _x(place: int) -> float:
    return round((place + 0.5) * WIDTH / _BUCKETS, 1)


def _y(score: float) -> float:
    return round(HEIGHT - 2 - min(score, HIGHEST_SHOWN) / HIGHEST_SHOWN * (HEIGHT - 4), 1)
