"""Step 15: what is missing, doubtful, unknown or old about a score, in words: silence and nonsense are states. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from pulseweir.backends.repository.rows import Scored
from pulseweir.site_time import SiteTime, span
from pulseweir.web.readings import (
    Newest,
    Reading,
    Readings,
    names_of,
    newest_known,
    readings_of,
    short_title,
    titles_of,
    totals_by_scale,
)

ABSTENTION_WORDS = {
    "age-under-16": "under 16 years",
    "pregnancy": "pregnancy",
    "unknown-age": "age not known",
}
"""Why NEWS2 does not score a patient."""

UNKNOWN_WORDS = {
    "age": "Age not known",
    "pregnancy": "Pregnancy not known",
    "spo2_scale": "SpO₂ scale not known",
}
"""What is not known of a patient."""

QUALITY_WORDS = {
    "impossible": "impossible",
    "suspect": "suspect",
    "future": "held",
    "not-understood": "not understood",
}
"""Why a reading is not used."""

_SECOND = 1_000_000
_MOST_DOUBTS = 2
_ALL_PARAMETERS = (
    "respiratory_rate",
    "spo2",
    "air_or_oxygen",
    "systolic_bp",
    "pulse",
    "consciousness",
    "temperature",
)


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a parameter's value is not the newest thing known of it.

    Attributes:
        parameter: NEWS2 parameter.
        words: Such as "newest HR reading impossible (0)".
        last_good_at: When the value used was true, microseconds; None when there never was one.
    """

    parameter: str
    words: str
    last_good_at: int | None

    def sentence(self, now: int) -> str:
        """The words with the age of the last good value."""
        if self.last_good_at is None:
            return self.words
        return f"{self.words}, last good {span((now - self.last_good_at) // _SECOND)} ago"


def sign_of_life(row: Scored) -> int | None:
    """When the newest usable reading was true, microseconds; None when there never was one.

    Rows of an older release do not say so: there the newest measurement stands in.
    """
    if row.sign_of_life_at:
        return row.sign_of_life_at
    readings = readings_of(row.inputs_json)
    is_new = any(reading.knows_decisions for reading in readings.values())
    return None if is_new or row.abstained or _some(row.doubtful_json, row.unknown_json) else row.newest_occurred_at


def doubts_of(row: Scored, readings: Readings, now: int, site: SiteTime) -> tuple[Doubt, ...]:
    """Every parameter that something newer speaks against, or of which nothing usable is known."""
    doubtful = names_of(row.doubtful_json)
    found = []
    for name in _ALL_PARAMETERS:
        reading = newest_known(name, readings)
        newest = None if reading is None else unusable_newest(reading)
        if newest is not None and reading is not None:
            found.append(
                Doubt(name, f"newest {_title(reading)} reading {newest_words(newest, now, site)}", _last_good(reading))
            )
        elif name in doubtful:
            found.append(Doubt(name, f"newest {short_title(name)} reading not usable", None))
    return tuple(found)


def unusable_newest(reading: Reading) -> Newest | None:
    """The newest thing known of a vital where it may not be used; None where the reading itself is it and may be."""
    if reading.newest is not None:
        return reading.newest
    if reading.is_usable or reading.quality == "good":
        return None
    shown = "" if reading.shown == "–" else reading.shown
    return Newest(shown, reading.quality, reading.at, reading.ahead_seconds, reading.counts_from, reading.device_id)


def newest_words(newest: Newest, now: int, site: SiteTime) -> str:
    """Such as "impossible (0)", "not understood", "held (71): clock 8 min ahead, counts from 10:02"."""
    words = QUALITY_WORDS.get(newest.quality, newest.quality)
    value = f" ({newest.shown})" if newest.shown else ""
    return f"{words}{value}: {why_unused(newest, now, site)}" if newest.quality == "future" else f"{words}{value}"


def why_unused(newest: Newest, now: int, site: SiteTime) -> str:
    """Why a reading is not used, and when one from a clock ahead will be."""
    if newest.quality != "future" or newest.counts_from is None:
        return QUALITY_WORDS.get(newest.quality, newest.quality)
    counts_from = site.with_zone(site.minute(newest.counts_from), newest.counts_from, now)
    return f"clock {span(newest.ahead_seconds)} ahead, counts from {counts_from}"


def unknown_of(row: Scored) -> tuple[str, ...]:
    """What is not known of the patient, in words; both totals where the SpO₂ scale makes a difference."""
    found = []
    for name in names_of(row.unknown_json):
        words = UNKNOWN_WORDS.get(name, f"{name.replace('_', ' ').capitalize()} not known")
        totals = totals_by_scale(row.contributions_json, row.score) if name == "spo2_scale" else None
        if totals is not None:
            words += f": {totals[0]} on scale 1 · {totals[1]} on scale 2"
        found.append(words)
    return tuple(found)


def flat_of(readings: Readings) -> tuple[str, ...]:
    """Short names of the vitals whose line is flat."""
    return tuple(_title(reading) for reading in readings.values() if reading.is_flat)


def not_scored_words(row: Scored) -> str:
    """Why NEWS2 abstains: "Not scored: pregnancy"; "" when it does not."""
    if not row.abstained:
        return ""
    return f"Not scored: {ABSTENTION_WORDS.get(row.abstained, row.abstained.replace('-', ' '))}"


def is_whole(row: Scored, readings: Readings, now: int) -> bool:
    """Whether the score rests on the newest of every vital, none of it missing, stale, doubtful, unknown or flat."""
    return not (
        row.status != "complete"
        or _some(row.missing_json, row.stale_json, row.doubtful_json, row.unknown_json)
        or is_doubtful(row, readings)
        or any(reading.is_usable and reading.is_stale(now) for reading in readings.values())
    )


def is_doubtful(row: Scored, readings: Readings) -> bool:
    """Whether a value shown is not the newest thing known of its vital, or its line is flat."""
    return _some(row.doubtful_json) or any(
        reading.is_flat or unusable_newest(reading) is not None for reading in readings.values()
    )


def caveats_of(row: Scored, readings: Readings, now: int, site: SiteTime) -> str:
    """Everything that keeps a score from being whole, but what is missing, in one line: "" when nothing does."""
    doubts = [doubt.sentence(now) for doubt in doubts_of(row, readings, now, site)]
    flat = flat_of(readings)
    parts = [*_cut(doubts), *([f"flat line: {', '.join(flat)}"] if flat else []), *unknown_of(row)]
    return "; ".join(parts)


def lacking(row: Scored) -> tuple[list[str], list[str]]:
    """Long names of the parameters never or no longer known, and of those out of date."""
    stale = names_of(row.stale_json)
    missing = [name for name in names_of(row.missing_json) if name not in stale]
    return titles_of(missing), titles_of(stale)


def _cut(words: Sequence[str]) -> list[str]:
    rest = len(words) - _MOST_DOUBTS
    return [*words[:_MOST_DOUBTS], *([f"{rest} more in doubt"] if rest > 0 else [])]


def _last_good(reading: Reading) -> int | None:
    return reading.at if reading.newest is not None else None


def _title(reading: Reading) -> str:
    return "GCS" if reading.vital == "glasgow_coma_scale" else _SHORT.get(reading.vital, reading.title)


def _some(*names_json: str) -> bool:
    return any(names != "[]" for names in names_json)


_SHORT: dict[str, str] = {
    name: short_title(name)
    for name in ("respiratory_rate", "spo2", "systolic_bp", "heart_rate", "consciousness", "temperature")
}
