"""Step 10: the inputs of a score, one entry a vital: what was used, its age, and what newer thing was not. Pure."""

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from pulseweir.records.codes import VITALS
from pulseweir.records.consciousness import LETTERS
from pulseweir.scoring.bench import Bench
from pulseweir.scoring.evaluation import CONSCIOUSNESS, GLASGOW, TREND_VITALS, VITALS_OF, Evaluation
from pulseweir.scoring.quality import FUTURE, GOOD, IMPOSSIBLE, QUALITIES, SUSPECT
from pulseweir.scoring.settings import MICROSECONDS
from pulseweir.scoring.shard_state import Source

Integers = npt.NDArray[np.int64]
Entry = dict[str, object]

NOT_UNDERSTOOD = "not-understood"
_TREND_COLUMN = {int(vital): column for column, vital in enumerate(TREND_VITALS)}


def _texts(instants: Integers) -> list[str]:
    """RFC 3339 texts, in milliseconds where these suffice for all."""
    unit: Literal["ms", "us"] = "us" if (instants % 1_000).any() else "ms"
    return [f"{text}Z" for text in np.datetime_as_string(instants.astype("M8[us]"), unit=unit).tolist()]


def _or_none(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
    known = numbers.astype(np.object_)
    known[np.isnan(numbers)] = None
    return known


class Entries:
    """Writes the inputs of windows; holds every column as plain lists, which single look-ups read fastest."""

    def __init__(self, bench: Bench, evaluation: Evaluation, sources: Sequence[Source]) -> None:
        summed = np.where(evaluation.place[:, GLASGOW] >= 0, bench.sum_of[evaluation.place[:, GLASGOW]], -1)
        used, compact = np.unique(
            np.concatenate([evaluation.place, evaluation.newest, bench.parts[summed]], axis=1)
            if len(bench.parts)
            else np.concatenate([evaluation.place, evaluation.newest], axis=1),
            return_inverse=True,
        )
        compact = compact.reshape(len(evaluation.place), -1)
        vitals = evaluation.place.shape[1]
        self._places: list[list[int]] = np.where(evaluation.place < 0, -1, compact[:, :vitals]).tolist()
        self._newest: list[list[int]] = np.where(evaluation.newest < 0, -1, compact[:, vitals : 2 * vitals]).tolist()
        self._parts: list[list[int]] = compact[:, 2 * vitals :].tolist()
        self._is_summed = (summed >= 0).tolist()
        self._sources = sources
        self._hold(bench, used)
        self._waits = evaluation.waits.tolist()
        self._fresh = evaluation.fresh.tolist()
        self._deciders = _deciders(evaluation)
        rows = len(self._places)
        self._slope = _or_none(np.round(evaluation.trends.slope, 3)).reshape(rows, -1).tolist()
        self._r2 = np.round(evaluation.trends.r2, 3).reshape(rows, -1).tolist()
        self._trend_readings = evaluation.trends.readings.reshape(rows, -1).tolist()
        self._panes = evaluation.own.panes
        self._count = self._panes.count.tolist()

    def _hold(self, bench: Bench, used: Integers) -> None:
        readings = bench.readings[used]
        self._source = readings["source"].tolist()
        self._occurred_text = _texts(readings["occurred"])
        self._effective = bench.effective[used].tolist()
        self._effective_text = _texts(bench.effective[used])
        spoken = readings["vital"] == CONSCIOUSNESS
        value = _or_none(np.round(readings["number"], 6))
        for letter in range(len(LETTERS)):
            value[spoken & (readings["number"] == letter)] = LETTERS[letter]
        self._value: list[object] = value.tolist()
        # A good value that leaps from its predecessors is as suspect as an unusual one.
        leaps = (readings["quality"] == GOOD) & ~bench.usable[used]
        words = np.array(QUALITIES, np.object_)[np.where(leaps, SUSPECT, readings["quality"])]
        words[spoken & (readings["quality"] == IMPOSSIBLE)] = NOT_UNDERSTOOD
        self._quality: list[str] = words.tolist()
        self._flat = bench.flat[used].tolist()
        self._observation = [one.decode() for one in readings["observation"].tolist()]

    def of(self, row: int, seen_from: int) -> list[Entry]:
        """One entry for every vital that is known."""
        return [
            self._entry(row, vital, place, seen_from) for vital, place in enumerate(self._places[row]) if place >= 0
        ]

    def basis(self, row: int, parameters: Collection[str]) -> list[str]:
        """The Observations that the score rests on."""
        fresh, places, observation = self._fresh[row], self._places[row], self._observation
        ids = [observation[places[vital]] for name in parameters for vital in VITALS_OF[name] if fresh[vital]]
        if self._is_summed[row] and fresh[GLASGOW] and "consciousness" in parameters:
            ids += [observation[place] for place in self._parts[row]]
        return [one for one in dict.fromkeys(ids) if one]

    def _entry(self, row: int, vital: int, place: int, seen_from: int) -> Entry:
        definition = VITALS[vital]
        source = self._sources[self._source[place]]
        newest, waits = self._newest[row][vital], self._waits[row][vital]
        is_fresh = self._fresh[row][vital]
        entry: Entry = {
            "vital": definition.name,
            "text" if vital == CONSCIOUSNESS else "value": self._value[place],
            "unit": definition.unit,
            "occurred_at": self._occurred_text[place],
            "effective_at": self._effective_text[place],
            "age_seconds": max(0, seen_from - self._effective[place]) // MICROSECONDS,
            "observation_id": self._observation[place] or None,
            "quality": self._quality[place],
            "usable": is_fresh,
            "type": source.type,
            "device_id": source.device_id,
        }
        if is_fresh and self._flat[place]:
            entry["flat_line"] = True
        if vital in self._deciders[row]:
            entry["decides"] = True
        if vital == GLASGOW and self._is_summed[row]:
            entry["summed_from_parts"] = True
        if newest >= 0:
            entry["newest"] = self._newest_entry(vital, newest, seen_from, waits=waits)
        elif waits:
            entry |= {"quality": QUALITIES[FUTURE], "held_until": self._occurred_text[place]}
        self._add_trend(entry, row, vital)
        self._add_pane(entry, row, vital)
        return entry

    def _newest_entry(self, vital: int, place: int, seen_from: int, *, waits: bool) -> Entry:
        """Something newer than the value used, which may not be used itself."""
        entry: Entry = {
            "text" if vital == CONSCIOUSNESS else "value": self._value[place],
            "occurred_at": self._occurred_text[place],
            "effective_at": self._effective_text[place],
            "age_seconds": max(0, seen_from - self._effective[place]) // MICROSECONDS,
            "quality": self._quality[place],
            "device_id": self._sources[self._source[place]].device_id,
        }
        if waits:
            entry |= {"quality": QUALITIES[FUTURE], "held_until": self._occurred_text[place]}
        return entry

    def _add_trend(self, entry: Entry, row: int, vital: int) -> None:
        column = _TREND_COLUMN.get(vital)
        slope = None if column is None else self._slope[row][column]
        entry["slope_per_hour"] = slope
        if column is not None and entry["slope_per_hour"] is not None:
            entry["slope_readings"] = self._trend_readings[row][column]
            entry["slope_r2"] = self._r2[row][column]

    def _add_pane(self, entry: Entry, row: int, vital: int) -> None:
        count = self._count[row][vital]
        if count > 1 and vital != CONSCIOUSNESS:
            entry["count"] = count
            entry["mean"] = round(float(self._panes.total[row, vital]) / count, 3)
            entry["minimum"] = float(self._panes.lowest[row, vital])
            entry["maximum"] = float(self._panes.highest[row, vital])


def _deciders(evaluation: Evaluation) -> list[tuple[int, int]]:
    """The vitals that decided consciousness and oxygen in each window; -1 for none."""
    columns = []
    for parameter, decision in (("consciousness", evaluation.consciousness), ("air_or_oxygen", evaluation.oxygen)):
        vitals = np.array([*VITALS_OF[parameter], -1], np.int64)
        columns.append(vitals[decision.decider].tolist())
    return list(zip(*columns, strict=True))
