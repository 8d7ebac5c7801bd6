"""Change which version of a mapping is in force, while the house runs or before it does."""

from dataclasses import dataclass
from pathlib import Path

from pulseweir.clock import to_text
from pulseweir.errors import RefuseToStart
from pulseweir.ingest.catalog import SITE, MappingPair, Mappings, mapping_text
from pulseweir.ingest.mapping_versions import Changed, History, MappingVersionDamaged, MappingVersions
from pulseweir.settings import Settings
from pulseweir.systems import load_mappings


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one mapping.

    Attributes:
        name: Catalog kind, or ``site``.
        version: Short hash of both files.
        in_force: Whether messages go through it now.
        origin: ``own`` for the catalog's or the settings' own files, ``use`` for one that was put in force,
            ``earlier`` for own files of the past.
        came_at: When it last came into force; else when the house first had it; None for never.
        damaged: Whether its files are no longer what was stored.
    """

    name: str
    version: str
    in_force: bool
    origin: str
    came_at: str | None
    damaged: bool


class UnknownMapping(RefuseToStart):
    """No mapping has this name."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"No mapping is called {name}. Choose one of: {', '.join(known)}.")


def use(settings: Settings, name: str, device_file: Path, fhir_file: Path, now_microseconds: int) -> Changed:
    """Put a pair of mapping files in force under a name, after loading both.

    Raises:
        MappingError: Either file is no good; every fault of both is listed, and nothing has changed.
        UnknownMapping: There is no such name.
    """
    own = load_mappings(settings)
    versions = MappingVersions(settings.data_dir)
    _check_name(name, own, versions)
    pair = MappingPair.loads(name, mapping_text(device_file), mapping_text(fhir_file))
    return versions.use(name, pair, now_microseconds, own=_version(own.named(name)))


def roll_back(settings: Settings, name: str, now_microseconds: int) -> Changed:
    """Put the version in force that was before the present one.

    Raises:
        RefuseToStart: There is none before it, it is damaged, or there is no such name; nothing has changed.
    """
    own = load_mappings(settings)
    versions = MappingVersions(settings.data_dir)
    _check_name(name, own, versions)
    return versions.roll_back(name, now_microseconds, own=_version(own.named(name)))


def list_versions(settings: Settings, name: str | None = None) -> list[Version]:
    """Every version of one mapping, or of all, by name, oldest first.

    Raises:
        UnknownMapping: There is no such name.
        MappingHistoryDamaged: It cannot be told what is in force.
    """
    own = load_mappings(settings)
    versions = MappingVersions(settings.data_dir)
    histories = versions.histories()
    if name is not None:
        _check_name(name, own, versions)
    names = _names(own, histories) if name is None else [name]
    return [one for each in names for one in _versions(each, own.named(each), histories.get(each, History()), versions)]


def _versions(name: str, own: MappingPair | None, history: History, versions: MappingVersions) -> list[Version]:
    stored = versions.stored(name)
    put = {change.version or _version(own): change.at_microseconds for change in history.changes}
    in_force = history.in_force or _version(own)
    found = []
    for version in {*stored, *put, *([own.version] if own else [])} - {None}:
        text = str(version)
        at = put.get(version, stored.get(text))
        is_own = own is not None and text == own.version
        used = any(change.version == text for change in history.changes)
        origin = "own" if is_own else "use" if used else "earlier"
        damaged = not is_own and _is_damaged(name, text, versions)
        found.append((at or 0, Version(name, text, text == in_force, origin, to_text(at) if at else None, damaged)))
    return [one for _, one in sorted(found, key=lambda pair: (pair[0], pair[1].version))]


def _is_damaged(name: str, version: str, versions: MappingVersions) -> bool:
    try:
        versions.load(name, version)
    except MappingVersionDamaged:
        return True
    return False


def _check_name(name: str, own: Mappings, versions: MappingVersions) -> None:
    known = _names(own, versions.histories())
    if name not in known:
        raise UnknownMapping(name, known)


def _names(own: Mappings, histories: dict[str, History]) -> list[str]:
    return sorted({*own.by_kind, *histories} - {SITE}) + [SITE]


def _version(pair: MappingPair | None) -> str | None:
    return pair.version if pair else None
