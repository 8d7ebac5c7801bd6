"""Step 13a: what a score rests on, and what of it is missing, in doubt or not known, in plain sentences. Pure.

Nothing is decided here again: which reading decided a parameter, which one is doubtful and what was not known of the
patient is as scoring wrote it. Source: Royal College of Physicians, NEWS2, 2017 (not under 16 years, not in pregnancy;
two SpO2 scales).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec

from pulseweir.backends.repository.rows import ScoreRow
from pulseweir.hot_path.score_wording import Contribution, contributions, parameter_title, rationale
from pulseweir.hot_path.scored_window import INSUFFICIENT, ScoredWindow
from pulseweir.records.consciousness import TITLES, letter_of

SPO2_SCALE = "spo2_scale"
VITALS_OF = {
    "pulse": ("heart_rate",),
    "air_or_oxygen": ("fio2", "oxygen_flow"),
    "consciousness": ("consciousness", "glasgow_coma_scale"),
}
"""Vitals of a NEWS2 parameter; every other parameter is the vital of its own name."""

ABSTAINED_BECAUSE = {
    "age-under-16": "NEWS2 is not meant for patients under 16 years: not scored.",
    "pregnancy": "NEWS2 is not meant for pregnant patients: not scored.",
    "unknown-age": "The patient's age is not known, and this site does not let NEWS2 score without it: not scored.",
}
_LOWER_BOUND = "The total is a lower bound."
_MAY_BE_HIGHER = "The true score may be higher."
_NEWEST_IS = {
    "impossible": "newest reading impossible",
    "suspect": "newest reading suspect and not confirmed",
    "future": "newest reading by a clock that is ahead, held until its time",
    "not-understood": "newest entry not understood",
}
_NOT_KNOWN = {"age": "Age not known.", "pregnancy": "Pregnancy not known."}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is told of a window that was stored, named as in `ScoredWindow`."""

    status: str
    score: float | None
    contributions_json: str
    inputs_json: str
    missing: list[str]
    stale: list[str]
    doubtful: list[str]
    unknown: list[str]

    @classmethod
    def of(cls, row: ScoreRow) -> Self:
        """The facts of a row of the repository."""
        listed = (row.missing_json, row.stale_json, row.doubtful_json, row.unknown_json)
        names = (msgspec.json.decode(text, type=list[str]) for text in listed)
        return cls(row.status, row.score, row.contributions_json, row.inputs_json, *names)


Told = ScoredWindow | Facts


class Newest(msgspec.Struct, frozen=True):
    """Something newer than the value that was scored."""

    quality: str = ""


class Input(msgspec.Struct, frozen=True):
    """One entry of `inputs_json`; the rest of it is of no concern here."""

    vital: str
    value: float | None = None
    text: str | None = None
    decides: bool = False
    summed_from_parts: bool = False
    flat_line: bool = False
    newest: Newest | None = None
    usable: bool = True


_INPUTS = msgspec.json.Decoder(list[Input])


def inputs(text: str) -> list[Input]:
    """Decode an `inputs_json` column."""
    return _INPUTS.decode(text)


def abstained_because(reason: str) -> str:
    """Why a score abstains, as a sentence."""
    return ABSTAINED_BECAUSE.get(reason, f"NEWS2 may not score this patient ({reason.replace('-', ' ')}): not scored.")


def vitals_of(parameter: str) -> tuple[str, ...]:
    """The vitals that a parameter is made of."""
    return VITALS_OF.get(parameter, (parameter,))


def flat_lines(entries: Iterable[Input], parameters: Iterable[str]) -> set[str]:
    """The parameters whose scored value has not moved for longer than a living patient's does."""
    flat = {one.vital for one in entries if one.flat_line}
    return {name for name in parameters if flat.intersection(vitals_of(name))}


def is_lower_bound(status: str, missing: Sequence[str], doubtful: Sequence[str], unknown: Sequence[str]) -> bool:
    """Whether a score is the least that the true one can be: parts are missing, none is old or taken at its highest.

    >>> is_lower_bound("partial", ["temperature"], [], []), is_lower_bound("partial", ["pulse"], [], ["spo2_scale"])
    (True, False)
    """
    return status == "partial" and bool(missing) and not doubtful and SPO2_SCALE not in unknown


def sentences(window: Told) -> str:
    """What raised a window's score, by which readings, and what of it is missing, doubtful or not known."""
    parts, entries = contributions(window.contributions_json), inputs(window.inputs_json)
    if window.status == INSUFFICIENT:
        told = [_known_so_far(parts)]
    else:
        told = [rationale(parts, window.missing, window.stale), *_decided(parts, entries)]
    told += _doubts(window, entries)
    told += _flat(flat_lines(entries, (part.parameter for part in parts if part.points is not None)))
    told += _unknowns(window, parts)
    if window.status == "partial":
        told.append(_bound(window, parts))
    return " ".join(filter(None, told))


def _known_so_far(parts: Sequence[Contribution]) -> str:
    raised = [part for part in parts if part.points]
    if not raised:
        return ""
    told = ", ".join(f"{parameter_title(part.parameter)} {part.points:g}" for part in raised)
    return f"Known so far: {told}; at least {sum(part.points or 0 for part in raised):g} in total."


def _decided(parts: Sequence[Contribution], entries: Sequence[Input]) -> list[str]:
    """By what consciousness and oxygen were told, where they raised the score."""
    raised = {part.parameter for part in parts if part.points}
    vitals = {vital for name in raised for vital in vitals_of(name)}
    return [_deciding(entry) for entry in entries if entry.decides and entry.vital in vitals]


def _deciding(entry: Input) -> str:
    number = "" if entry.value is None else f"{entry.value:g}"
    match entry.vital:
        case "glasgow_coma_scale":
            summed = ", summed from its parts" if entry.summed_from_parts else ""
            return f"Consciousness by a Glasgow coma scale of {number}{summed}."
        case "consciousness":
            letter = letter_of(entry.text)
            return f"Consciousness: {TITLES[letter].lower()}." if letter else ""
        case "fio2":
            return f"Oxygen by an inhaled fraction of {_percent(entry.value)} %."
        case "oxygen_flow":
            return f"Oxygen by a flow of {number} L/min."
    return ""


def _percent(fraction: float | None) -> str:
    """A fraction of oxygen in percent, however its device told it."""
    number = fraction or 0
    return f"{number * 100 if number <= 1 else number:g}"


def _doubts(window: Told, entries: Sequence[Input]) -> list[str]:
    by_vital = {entry.vital: entry for entry in entries}
    found = []
    for name in window.doubtful:
        own = [by_vital[vital] for vital in vitals_of(name) if vital in by_vital]
        reasons = dict.fromkeys(_NEWEST_IS.get(one.newest.quality, "") for one in own if one.newest is not None)
        told = ", ".join(filter(None, reasons)) or "newest reading not usable"
        used = "not scored" if name in window.missing else "last good value used"
        found.append(f"{parameter_title(name)} ({told}; {used})")
    return [f"Doubtful: {', '.join(found)}."] if found else []


def _flat(parameters: Iterable[str]) -> list[str]:
    named = ", ".join(parameter_title(name) for name in sorted(parameters))
    return [f"Unchanged for hours, check the sensor: {named}."] if named else []


def _unknowns(window: Told, parts: Sequence[Contribution]) -> list[str]:
    told = [_NOT_KNOWN[name] for name in window.unknown if name in _NOT_KNOWN]
    if SPO2_SCALE in window.unknown:
        told.append(_scale_not_known(window, parts))
    return told


def _scale_not_known(window: Told, parts: Sequence[Contribution]) -> str:
    totals = _totals_by_scale(window, parts)
    if totals is None:
        return "SpO2 scale not known."
    if totals[0] == totals[1]:
        return "SpO2 scale not known; both give this score."
    return f"SpO2 scale not known: {totals[0]:g} on scale 1, {totals[1]:g} on scale 2; the higher is used."


def _totals_by_scale(window: Told, parts: Sequence[Contribution]) -> tuple[float, float] | None:
    spo2 = next((part for part in parts if part.parameter == "spo2"), None)
    if window.score is None or spo2 is None or spo2.on_scale_1 is None or spo2.on_scale_2 is None:
        return None
    rest = window.score - (spo2.points or 0)
    return rest + spo2.on_scale_1, rest + spo2.on_scale_2


def _bound(window: Told, parts: Sequence[Contribution]) -> str:
    """Which way the true score can lie from a partial one."""
    totals = _totals_by_scale(window, parts) if SPO2_SCALE in window.unknown else None
    is_incomplete = bool(window.missing or window.stale)
    if is_incomplete and not window.doubtful and (totals is None or totals[0] == totals[1]):
        return _LOWER_BOUND
    return _MAY_BE_HIGHER if is_incomplete or window.doubtful else ""
