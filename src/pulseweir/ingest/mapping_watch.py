"""Step 4: the mappings in force, changed while messages flow: a good new version is taken, a bad one refused."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import structlog

from pulseweir.ingest.catalog import MappingPair, Mappings
from pulseweir.ingest.mapping_versions import History, MappingHistoryDamaged, MappingVersionDamaged, MappingVersions
from pulseweir.telemetry import CONNECTOR_MAPPING_CHANGES

LOOK_SECONDS = 1.0


class MadeBy(Mapping[str, MappingPair]):
    """Mapping pairs by version: those in memory, and any on disk that once made a row.

    Args:
        pairs: In memory from the start.
        versions: Where others are looked for, once each.
    """

    def __init__(self, pairs: Iterable[MappingPair], versions: MappingVersions) -> None:
        self._pairs = {pair.version: pair for pair in pairs}
        self._versions = versions

    def __getitem__(self, version: str) -> MappingPair:
        pair = self._pairs.get(version)
        if pair is None:
            try:
                pair = self._versions.find(version)
            except MappingVersionDamaged as error:
                _refuse(error)
            if pair is None:
                raise KeyError(version)
            self._pairs[version] = pair
        return pair

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)


class MappingWatch:
    """Keeps `Mappings` at the versions in force on disk.

    Args:
        mappings: Loaded from the catalog's and the settings' own files; changed in place, only by `begin` and `look`.
        versions: On disk.
        monotonic: Real seconds that never go back.
    """

    def __init__(
        self, mappings: Mappings, versions: MappingVersions, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._mappings = mappings
        self._versions = versions
        self._monotonic = monotonic
        self._own = {pair.name: pair for pair in mappings.pairs}
        self._signature: tuple[int, ...] | None = None
        self._looked_at = float("-inf")

    def begin(self) -> None:
        """Put in force what was when the house last ran; where that is damaged, the last good version before it.

        Keeps the own files' versions on disk too, so that what they made can be written after they are changed.

        Raises:
            MappingHistoryDamaged: It cannot be told what was in force.
        """
        for pair in self._own.values():
            self._versions.keep(pair)
        self._mappings.by_version = MadeBy(self._own.values(), self._versions)
        self._looked_at, self._signature = self._monotonic(), self._versions.signature()
        for name, history in self._versions.histories().items():
            self._mappings.put_in_force(name, self._last_good(name, history))

    async def look(self) -> None:
        """Take a new version over, if there is one; at most one look a second, at one entry of the directory.

        Call it between batches: what is in force does not change meanwhile. A version that is no good is refused,
        logged and counted, and the old one stays.
        """
        now = self._monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        signature = self._versions.signature()
        if signature == self._signature:
            return
        self._signature = signature
        for name, pair in (await asyncio.to_thread(self._changed)).items():
            self._mappings.put_in_force(name, pair)
            CONNECTOR_MAPPING_CHANGES.labels("taken").inc()
            structlog.get_logger().info("mapping_changed", mapping=name, version=pair.version if pair else None)

    def _last_good(self, name: str, history: History) -> MappingPair | None:
        for version in reversed(history.line):
            try:
                return self._versions.load(name, version)
            except MappingVersionDamaged as error:
                _refuse(error)
        return self._own.get(name)

    def _changed(self) -> dict[str, MappingPair | None]:
        """What is to come into force, by name, without what is no good."""
        try:
            histories = self._versions.histories()
        except MappingHistoryDamaged as error:
            _refuse(error)
            return {}
        changed: dict[str, MappingPair | None] = {}
        for name in self._own.keys() | histories.keys():
            wanted = histories.get(name, History()).in_force
            own, present = self._own.get(name), self._mappings.named(name)
            if (present.version if present else None) == (wanted or (own.version if own else None)):
                continue
            try:
                changed[name] = own if wanted is None else self._versions.load(name, wanted)
            except MappingVersionDamaged as error:
                _refuse(error)
        return changed


def _refuse(error: MappingVersionDamaged | MappingHistoryDamaged) -> None:
    CONNECTOR_MAPPING_CHANGES.labels("refused").inc()
    structlog.get_logger().error("mapping_refused", problem=str(error))
