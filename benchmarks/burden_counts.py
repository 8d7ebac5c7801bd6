"""What a day of alerting amounts to: alerts, pages and what was missed, counted from what happened when.

Everything here is about event time, in microseconds, and knows nothing of how it came about.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SECOND = 1_000_000
MINUTE = 60 * SECOND
HIGH_SCORE = 7
KNOWN_TO_PAGED = 10 * MINUTE
"""A first window at 7 or more counts as paged up to so long after it became known."""
RISE_TO_PAGED = 5 * MINUTE
RISE_POINTS = 2
COOLDOWN = 30 * MINUTE
CLOSES_AFTER_WINDOWS = 2
"""An episode is over after so many windows inside; what people were told in it covers the next for the cooldown."""
SAME_PAGE_WITHIN = 60 * SECOND
_DAY = 24 * 60 * MINUTE
_ALERTING_BANDS = frozenset({"medium", "high"})


@dataclass(frozen=True, slots=True)
class Window:
    """One final word on a window; a revision is another one of the same start and end."""

    patient: str
    start: int
    end: int
    known_at: int
    score: float | None
    band: str | None
    reds: frozenset[str]
    backfill: bool

    @property
    def is_outside(self) -> bool:
        """Whether default rules raise a Flag for it."""
        return self.band in _ALERTING_BANDS or bool(self.reds and self.score is not None)

    @property
    def is_high(self) -> bool:
        """Whether NEWS2 asks for an emergency response."""
        return self.score is not None and self.score >= HIGH_SCORE


@dataclass(frozen=True, slots=True)
class Page:
    """One message to people: ``page``, ``escalation``, ``reminder`` or another kind."""

    patient: str
    alert_id: str
    at: int
    key: str
    kind: str
    content: str


@dataclass(frozen=True, slots=True)
class Opened:
    """One alert that was raised; `kind` is clinical or technical."""

    patient: str
    alert_id: str
    at: int
    priority: str
    kind: str = "clinical"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A person said that they had seen an alert."""

    patient: str
    at: int


@dataclass(slots=True)
class Happened:
    """What one run brought about; `count` sets the messages because of technical alerts apart."""

    windows: list[Window] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    technical_pages: list[Page] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Rise:
    at: int
    had_baseline: bool


@dataclass(frozen=True, slots=True)
class _Run:
    """Windows at 7 or more, one after the other."""

    start: int
    known_at: int
    backfill: bool
    is_covered: bool


def count(happened: Happened, spans: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Count what happened within each patient's span.

    Args:
        happened: Of all patients; what lies outside a patient's span is left out.
        spans: First and last instant that counts, by patient; their sum is the bed-time.

    Returns:
        Absolute numbers, numbers per 100 bed-days (``per_100_bed_days``), and shares.
    """
    bed_days = sum(end - start for start, end in spans.values()) / _DAY
    within = {name: _within(happened, name, span) for name, span in spans.items()}
    opened = [one for each in within.values() for one in each.opened]
    clinical = [one for one in opened if one.kind == "clinical"]
    pages = [one for each in within.values() for one in each.pages]
    numbers: dict[str, int] = {"alerts_opened": len(clinical)}
    numbers |= {f"alerts_opened_{level}": _of(clinical, "priority", level) for level in ("high", "medium", "low")}
    numbers["technical_alerts"] = len(opened) - len(clinical)
    numbers["technical_messages"] = sum(len(each.technical_pages) for each in within.values())
    numbers["messages"] = len(pages)
    numbers |= {f"{kind}s": _of(pages, "kind", kind) for kind in ("page", "escalation", "reminder")}
    numbers["other_messages"] = len(pages) - sum(numbers[f"{kind}s"] for kind in ("page", "escalation", "reminder"))
    numbers["acknowledgements"] = sum(len(each.acknowledged) for each in within.values())
    numbers["duplicates"] = sum(duplicates(each.pages) for each in within.values())
    rises = {name: list(_rises(each)) for name, each in within.items()}
    missed = [
        one for name, found in rises.items() for one in found if not _is_paged(within[name], one.at, RISE_TO_PAGED)
    ]
    numbers["rises"] = sum(one.had_baseline for found in rises.values() for one in found)
    numbers["missed_rises"] = sum(one.had_baseline for one in missed)
    numbers["unpaged_episodes"] = len(missed) - numbers["missed_rises"]
    return {
        "patients": len(spans),
        "bed_days": round(bed_days, 2),
        "windows": len({(one.patient, one.start, one.end) for each in within.values() for one in each.windows}),
        "numbers": numbers,
        "per_100_bed_days": {name: round(number / bed_days * 100, 1) for name, number in numbers.items()},
        "high": _high(within),
    }


def duplicates(pages: Iterable[Page]) -> int:
    """Pages with a key that was there before, or with the content of one at most 60 seconds earlier."""
    keys: set[str] = set()
    last: dict[tuple[str, str], int] = {}
    found = 0
    for page in sorted(pages, key=lambda one: one.at):
        content = (page.alert_id, page.content)
        before = last.get(content)
        found += page.key in keys or (before is not None and page.at - before <= SAME_PAGE_WITHIN)
        keys.add(page.key)
        last[content] = page.at
    return found


def high_runs(happened: Happened) -> list[_Run]:
    """Runs of windows at 7 or more of one patient, oldest first.

    A run is known from the first word that called any of its windows so high, and backfill if that word was.
    """
    newest: dict[tuple[int, int], Window] = {}
    called: dict[tuple[int, int], Window] = {}
    for window in sorted(happened.windows, key=lambda one: one.known_at):
        newest[window.end, window.start] = window
        if window.is_high:
            called.setdefault((window.end, window.start), window)
    told = _Told()
    covered = {window: not told.is_worse(window) for window in _walk(happened, told)}
    runs: list[list[Window]] = []
    is_running = False
    for key in sorted(newest):
        if newest[key].is_high:
            runs = runs if is_running else [*runs, []]
            runs[-1].append(called[key])
            is_running = True
        elif newest[key].score is not None:
            is_running = False
    return [_run(windows, covered) for windows in runs]


def _run(windows: Sequence[Window], covered: Mapping[Window, bool]) -> _Run:
    first = min(windows, key=lambda one: one.known_at)
    return _Run(min(one.start for one in windows), first.known_at, first.backfill, covered[first])


def _high(within: Mapping[str, Happened]) -> dict[str, Any]:
    """How many first windows at 7 or more were paged: each patient's first, and the first of every run."""
    runs = {name: high_runs(each) for name, each in within.items()}
    first = {name: found[:1] for name, found in runs.items()}
    return {"first_of_patient": _paged(within, first), "first_of_run": _paged(within, runs)}


def _paged(within: Mapping[str, Happened], runs: Mapping[str, Sequence[_Run]]) -> dict[str, Any]:
    all_runs = [(within[name], run) for name, found in runs.items() for run in found]
    live = [(each, run) for each, run in all_runs if not run.backfill]
    paged = [_is_paged(each, run.start, run.known_at - run.start + KNOWN_TO_PAGED) for each, run in live]
    covered = sum(run.is_covered and not done for (_, run), done in zip(live, paged, strict=True))
    return {
        "all": len(all_runs),
        "backfill": len(all_runs) - len(live),
        "paged": sum(paged),
        "covered_by_what_was_told": covered,
        "share_paged": round(sum(paged) / len(live), 4) if live else None,
        "share_paged_or_covered": round((sum(paged) + covered) / len(live), 4) if live else None,
    }


class _Told:
    """What people were last told, or last acknowledged, of one patient."""

    def __init__(self) -> None:
        self.score: float | None = None
        self.reds: frozenset[str] = frozenset()
        self._inside_since: int | None = None
        self._inside = 0

    def is_worse(self, window: Window) -> bool:
        """Whether a window is 2 points or a new single 3 above it; anything is where nothing was told."""
        if self.score is None:
            return True
        return (window.score or 0) >= self.score + RISE_POINTS or bool(window.reds - self.reds)

    def see(self, window: Window) -> None:
        """Note whether a window is inside the acceptable range."""
        if window.is_outside:
            self._inside_since, self._inside = None, 0
        elif window.score is not None:
            self._inside_since = self._inside_since or window.end
            self._inside += 1

    def forget(self, window: Window) -> None:
        """Before a window is judged: what was told of an episode that is over no longer counts after the cooldown."""
        is_over = self._inside >= CLOSES_AFTER_WINDOWS
        if is_over and self._inside_since is not None and window.end - self._inside_since > COOLDOWN:
            self.score, self.reds = None, frozenset()

    def tell(self, window: Window) -> None:
        """People know of this window now."""
        self.score, self.reds = window.score, window.reds


def _rises(happened: Happened) -> Iterator[_Rise]:
    """When one patient got worse than people had been told; each rise once."""
    told = _Told()
    for window in _walk(happened, told):
        if window.backfill or not window.is_outside or not told.is_worse(window):
            continue
        if told.score is None and window.band not in _ALERTING_BANDS:
            continue
        yield _Rise(window.known_at, told.score is not None)
        told.score = max(told.score or 0, window.score or 0)
        told.reds |= window.reds


def _walk(happened: Happened, told: _Told) -> Iterator[Window]:
    """Each new window of one patient, with `told` as it was when the window became known, before any page of it."""
    events: list[tuple[int, int, Window | None]] = [(one.known_at, 0, one) for one in happened.windows]
    events += [(one.at, 1, None) for one in happened.pages]
    events += [(one.at, 2, None) for one in happened.acknowledged]
    newest: Window | None = None
    for _, _, window in sorted(events, key=lambda one: one[:2]):
        if window is None:
            if newest is not None and newest.is_outside:
                told.tell(newest)
            continue
        told.forget(window)
        if not window.backfill or window.is_high:
            yield window
        told.see(window)
        if newest is None or window.end >= newest.end:
            newest = window


def _within(happened: Happened, patient: str, span: tuple[int, int]) -> Happened:
    def kept(at: int, owner: str) -> bool:
        return owner == patient and span[0] <= at <= span[1]

    technical = {one.alert_id for one in happened.opened if one.kind != "clinical"}
    pages = [one for one in happened.pages if kept(one.at, one.patient)]
    return Happened(
        [one for one in happened.windows if kept(one.known_at, one.patient)],
        [one for one in pages if one.alert_id not in technical],
        [one for one in happened.opened if kept(one.at, one.patient)],
        [one for one in happened.acknowledged if kept(one.at, one.patient)],
        [one for one in pages if one.alert_id in technical],
    )


def _is_paged(happened: Happened, start: int, for_so_long: int) -> bool:
    return any(start <= page.at <= start + for_so_long for page in happened.pages)


def _of(things: Iterable[object], name: str, value: str) -> int:
    return sum(getattr(one, name) == value for one in things)
