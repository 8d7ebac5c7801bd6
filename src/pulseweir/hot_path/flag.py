"""Step 13b: Flag episodes: when a patient leaves the acceptable range, and when the patient is back. Pure.

An episode opens on the first window outside, in event time and without delay; it closes after
``close_after_windows`` windows inside. A window without enough data opens nothing and closes nothing, unless what is
known is outside already; one of a patient whom the model may not score counts as inside. What the episodes are depends
only on the last revision of every window, never on the order in which they came.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pulseweir.hot_path.vital_limits import VitalLimit
from pulseweir.records.identifiers import flag_id

ACTIVE, INACTIVE = "active", "inactive"
SEVERITY = {"low": 0, "low-medium": 1, "medium": 2, "high": 3}
"""Bands by how bad they are; the band of a model that gives none counts as medium."""

_RED = 3


class AcceptableRange(BaseModel):
    """What a model may say of a patient without a Flag being raised; any one condition is enough to be outside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outside_bands: tuple[str, ...] = Field(("medium", "high"), description="Bands that are outside.")
    single_red_is_outside: bool = Field(True, description="Whether a single parameter scoring 3 is outside.")
    outside_from_score: float | None = Field(None, description="Scores at or above this are outside.")
    outside_from_probability: float | None = Field(
        None, ge=0, le=1, description="Probabilities (0 to 1) at or above this are outside."
    )
    vital_limits: tuple[VitalLimit, ...] = Field(
        (), description="Limits of single vitals; beyond one a window is outside, whatever its score or lack of one."
    )


class FlagSettings(BaseModel):
    """When Flags open and close."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    acceptable_range: AcceptableRange = Field(
        default_factory=AcceptableRange, description="For every model, ward and patient not named below."
    )
    model_ranges: dict[str, AcceptableRange] = Field(default_factory=dict, description="By model.")
    ward_ranges: dict[str, AcceptableRange] = Field(default_factory=dict, description="By ward; before models.")
    patient_ranges: dict[str, AcceptableRange] = Field(
        default_factory=dict, description="By id of the Patient; before wards."
    )
    close_after_windows: int = Field(2, ge=1, description="Windows inside, one after the other, that close a Flag.")
    flag_per: Literal["episode", "window"] = Field(
        "episode",
        description='"window" gives every window outside a Flag of its own, which stands until the next window.',
    )

    def range_for(self, patient_id: str, ward: str | None, model: str) -> AcceptableRange:
        """The acceptable range of one patient."""
        by_ward = self.ward_ranges.get(ward or "")
        return self.patient_ranges.get(patient_id) or by_ward or self.model_ranges.get(model) or self.acceptable_range

    @property
    def has_limits(self) -> bool:
        """Whether any range has limits of single vitals."""
        tables = (self.model_ranges, self.ward_ranges, self.patient_ranges)
        ranges = [self.acceptable_range, *(one for table in tables for one in table.values())]
        return any(one.vital_limits for one in ranges)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedWindow:
    """A final window and whether it is outside the acceptable range; None when its data are insufficient."""

    start: int
    end: int
    outside: bool | None
    score: float | None = None
    band: str | None = None
    model_version: str = ""
    backfill: bool = False
    ward: str | None = None
    bed: str | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Windows are judged by their end, then their start."""
        return (self.end, self.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One Flag: the windows outside from the first until enough windows inside.

    Attributes:
        evaluated_until: End of the last window judged for it.
        inside_streak: Windows inside since the last one outside.
        windows: How many windows outside belong to it.
        backfill: Whether the newest window outside was backfill.
    """

    flag_id: str
    patient_id: str
    rule: str
    status: str
    start_at: int
    end_at: int | None
    evaluated_until: int
    inside_streak: int
    windows: int
    model_version: str
    peak_score: float | None
    peak_band: str
    last_score: float | None
    last_band: str
    first_window_end: int
    last_window_start: int
    last_window_end: int
    backfill: bool
    ward: str | None
    bed: str | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """Episodes of a run of windows, oldest first, and the Flag each of those windows belongs to (None when inside)."""

    episodes: list[Episode]
    links: dict[tuple[int, int], str | None]


def is_outside(
    acceptable: AcceptableRange,
    *,
    status: str,
    score: float | None,
    probability: float | None,
    band: str | None,
    single_red: bool,
    known_points: Sequence[float] = (),
) -> bool | None:
    """Whether a window is outside the acceptable range; None when its data are insufficient to tell.

    Args:
        acceptable: What is acceptable of the patient.
        status: complete, partial, insufficient-data, abstained.
        score: None when there is none.
        probability: 0 to 1; None when the model gives none.
        band: None when there is none.
        single_red: Whether one parameter scored 3.
        known_points: What the known parameters scored: with too few of them their sum is a lower bound of the score.

    A window that the model may not score is inside: its Flags end.

    >>> is_outside(AcceptableRange(), status="complete", score=3, probability=None, band="low-medium", single_red=True)
    True
    """
    if status == "abstained":
        return False
    if status == "insufficient-data":
        return _is_outside_already(acceptable, known_points) or None
    if band in acceptable.outside_bands or (single_red and acceptable.single_red_is_outside):
        return True
    if acceptable.outside_from_score is not None and score is not None and score >= acceptable.outside_from_score:
        return True
    limit = acceptable.outside_from_probability
    return limit is not None and probability is not None and probability >= limit


def _is_outside_already(acceptable: AcceptableRange, points: Sequence[float]) -> bool:
    if acceptable.single_red_is_outside and any(one == _RED for one in points):
        return True
    limit = acceptable.outside_from_score
    return limit is not None and bool(points) and sum(points) >= limit


def judge(
    windows: Iterable[JudgedWindow],
    *,
    patient_id: str,
    rule: str,
    settings: FlagSettings,
    resume: Episode | None = None,
) -> Judgement:
    """Follow the windows of one patient and rule through time.

    Args:
        windows: In any order; every one judged after the end of `resume`.
        patient_id: Whose they are.
        rule: The rule: the model's name.
        settings: When Flags open and close.
        resume: The active episode that the windows before these left behind, if any.
    """
    ordered = sorted(windows, key=lambda window: window.order)
    if settings.flag_per == "window":
        return _flag_each(ordered, patient_id, rule, resume)
    episodes: list[Episode] = []
    links: dict[tuple[int, int], str | None] = {}
    current = resume
    for window in ordered:
        belongs = False
        if current is None:
            current = _open(window, patient_id, rule) if window.outside else None
            belongs = current is not None
        else:
            current, belongs = _continue(current, window, settings.close_after_windows), bool(window.outside)
        links[window.start, window.end] = current.flag_id if current is not None and belongs else None
        if current is not None and current.status == INACTIVE:
            episodes.append(current)
            current = None
    if current is not None:
        episodes.append(current)
    return Judgement(episodes, links)


def where_to_begin(changed: Sequence[JudgedWindow], standing: Sequence[Episode]) -> tuple[int, Episode | None]:
    """From which instant the windows must be judged again, and the episode to go on with.

    Args:
        changed: The new or revised windows; at least one.
        standing: Every standing episode of the patient and rule, oldest first.

    Returns:
        A window end: windows that end at it or later must be judged, and every standing episode whose first window
        does is replaced by the result, the resumed one included.
    """
    first = min(window.end for window in changed)
    before = [episode for episode in standing if episode.first_window_end < first]
    if not before:
        return first, None
    latest = before[-1]
    if latest.evaluated_until < first:
        return first, latest if latest.status == ACTIVE else None
    return latest.first_window_end, None


def _open(window: JudgedWindow, patient_id: str, rule: str) -> Episode:
    band = window.band or "medium"
    return Episode(
        flag_id=flag_id(patient_id, rule, window.start),
        patient_id=patient_id,
        rule=rule,
        status=ACTIVE,
        start_at=window.start,
        end_at=None,
        evaluated_until=window.end,
        inside_streak=0,
        windows=1,
        model_version=window.model_version,
        peak_score=window.score,
        peak_band=band,
        last_score=window.score,
        last_band=band,
        first_window_end=window.end,
        last_window_start=window.start,
        last_window_end=window.end,
        backfill=window.backfill,
        ward=window.ward,
        bed=window.bed,
    )


def _continue(episode: Episode, window: JudgedWindow, close_after_windows: int) -> Episode:
    if window.outside is None:
        return replace(episode, evaluated_until=window.end)
    if not window.outside:
        streak = episode.inside_streak + 1
        closed = streak >= close_after_windows
        return replace(
            episode,
            evaluated_until=window.end,
            inside_streak=streak,
            status=INACTIVE if closed else ACTIVE,
            end_at=window.end if closed else None,
        )
    newest = _open(window, episode.patient_id, episode.rule)
    return replace(
        newest,
        flag_id=episode.flag_id,
        start_at=episode.start_at,
        first_window_end=episode.first_window_end,
        windows=episode.windows + 1,
        peak_score=_higher(episode.peak_score, window.score),
        peak_band=max(episode.peak_band, newest.last_band, key=lambda band: SEVERITY.get(band, 2)),
    )


def _higher(first: float | None, second: float | None) -> float | None:
    known = [score for score in (first, second) if score is not None]
    return max(known) if known else None


def _flag_each(ordered: Sequence[JudgedWindow], patient_id: str, rule: str, resume: Episode | None) -> Judgement:
    """A Flag for every window outside; the newest one stands until the next window with enough data was judged."""
    judgement = Judgement([], {})
    current = resume
    for window in ordered:
        if current is not None:
            judged = replace(current, evaluated_until=window.end)
            if window.outside is None:
                current = judged
            else:
                judgement.episodes.append(replace(judged, status=INACTIVE, end_at=current.last_window_end))
                current = None
        opened = _open(window, patient_id, rule) if window.outside else None
        current = opened or current
        judgement.links[window.start, window.end] = opened.flag_id if opened else None
    if current is not None:
        judgement.episodes.append(current)
    return judgement
