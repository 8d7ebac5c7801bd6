"""Step 4: which mappings a device's messages go through: its catalog kind's, else the site's."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from pulseweir.device_catalog import catalog_directory as catalog_directory  # noqa: PLC0414 - it is looked for here
from pulseweir.errors import MappingError, MappingFault
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.records.identifiers import mapping_version

DEVICE_FILE = "device_mapping.json"
FHIR_FILE = "fhir_mapping.json"
SITE = "site"


@dataclass(frozen=True, slots=True)
class MappingPair:
    """A device mapping with the FHIR mapping that goes with it.

    Attributes:
        name: Catalog kind, or ``site``.
        device: Messages to measurements.
        fhir: Measurements to Observations.
        version: `mapping_version` of both texts; every measurement carries it.
        texts: What both were loaded from: the device mapping, the FHIR mapping.
    """

    name: str
    device: DeviceMapping
    fhir: FhirMapping
    version: str
    texts: tuple[str, str] = field(default=("", ""), repr=False)

    @classmethod
    def loads(cls, name: str, device_text: str, fhir_text: str) -> Self:
        """Load both mappings from their texts.

        Raises:
            MappingError: Either is not usable; the faults of both are listed.
        """
        faults: list[MappingError] = []
        device = _half(
            lambda: DeviceMapping.loads(device_text, source=f"{name}/{DEVICE_FILE}", compatibility="pulseweir"), faults
        )
        fhir = _half(
            lambda: FhirMapping.loads(fhir_text, source=f"{name}/{FHIR_FILE}", compatibility="pulseweir"), faults
        )
        if device is None or fhir is None:
            raise faults[0] if len(faults) == 1 else _both(name, faults)
        return cls(name, device, fhir, mapping_version(device_text, fhir_text), (device_text, fhir_text))


def _half(load: Callable[[], Any], faults: list[MappingError]) -> Any:
    try:
        return load()
    except MappingError as error:
        faults.append(error)
        return None


def _both(name: str, errors: list[MappingError]) -> MappingError:
    return MappingError(
        name,
        [
            replace(fault, member=f"{error.source.rpartition('/')[2]}: {fault.member}")
            for error in errors
            for fault in error.faults
        ],
    )


@dataclass(slots=True)
class Mappings:
    """The mappings of a house that are in force.

    Attributes:
        by_kind: Pairs of the catalog.
        site: The pair for every other device; None when the site has none.
        by_version: Every pair that a row may have been made by, by its version.
    """

    by_kind: dict[str, MappingPair]
    site: MappingPair | None
    by_version: Mapping[str, MappingPair]

    @classmethod
    def load(
        cls,
        catalogs: Path | Iterable[Path],
        site_device_mapping: Path | None = None,
        site_fhir_mapping: Path | None = None,
    ) -> Self:
        """Load the catalogs (a later one replaces kinds of an earlier one) and the site's own pair.

        Raises:
            MappingError: Any of them is not usable, or only one half of the site's pair is given.
        """
        folders = [catalogs] if isinstance(catalogs, Path) else list(catalogs)
        by_kind = {kind.name: _load_kind(kind) for folder in folders for kind in catalog_kinds(folder)}
        site = _load_site(site_device_mapping, site_fhir_mapping)
        made = cls(by_kind, site, {})
        made.by_version = {pair.version: pair for pair in made.pairs}
        return made

    @property
    def pairs(self) -> list[MappingPair]:
        """Every pair in force: the catalog's by kind, then the site's."""
        return [*self.by_kind.values(), *([self.site] if self.site else [])]

    def for_kind(self, kind: str | None) -> MappingPair | None:
        """The pair for a device of this catalog kind; the site's where the catalog does not know it."""
        return self.by_kind.get(kind or "", self.site)

    def named(self, name: str) -> MappingPair | None:
        """The pair in force under a name; None where there is none."""
        return self.site if name == SITE else self.by_kind.get(name)

    def put_in_force(self, name: str, pair: MappingPair | None) -> None:
        """From now on messages go through this pair; with None there is none under this name."""
        if name == SITE:
            self.site = pair
        elif pair is None:
            self.by_kind.pop(name, None)
        else:
            self.by_kind[name] = pair


def catalog_kinds(folder: Path) -> list[Path]:
    """The folders of a catalog that hold a kind, by name."""
    return sorted(child for child in folder.iterdir() if (child / DEVICE_FILE).is_file())


def _load_kind(folder: Path) -> MappingPair:
    return MappingPair.loads(folder.name, mapping_text(folder / DEVICE_FILE), mapping_text(folder / FHIR_FILE))


def _load_site(device: Path | None, fhir: Path | None) -> MappingPair | None:
    if device is None and fhir is None:
        return None
    if device is None or fhir is None:
        raise _unreadable(SITE, "only one of the device mapping and the FHIR mapping is set.", "Set both or none.")
    return MappingPair.loads(SITE, mapping_text(device), mapping_text(fhir))


def mapping_text(path: Path) -> str:
    """The text of a mapping file.

    Raises:
        MappingError: It cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as cause:
        problem = f"cannot be read ({cause.strerror})."
        raise _unreadable(path.name, problem, "Check the path and its permissions.") from None
    except UnicodeDecodeError:
        raise _unreadable(path.name, "is not UTF-8 text.", "Save it as UTF-8.") from None


def _unreadable(source: str, problem: str, remedy: str) -> MappingError:
    return MappingError(source, [MappingFault(0, 0, "file", problem, remedy)])
