"""Step 4: which mappings a device's messages go through: its catalog kind's, else the site's."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Self

from pulseweir.errors import MappingError, MappingFault
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.fhir_mapping.collection import FhirMapping

DEVICE_FILE = "device_mapping.json"
FHIR_FILE = "fhir_mapping.json"
_VERSION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class MappingPair:
    """A device mapping with the FHIR mapping that goes with it.

    Attributes:
        name: Catalog kind, or ``site``.
        device: Messages to measurements.
        fhir: Measurements to Observations.
        version: Short hash of both texts; every measurement carries it.
    """

    name: str
    device: DeviceMapping
    fhir: FhirMapping
    version: str

    @classmethod
    def loads(cls, name: str, device_text: str, fhir_text: str) -> Self:
        """Load both mappings from their texts.

        Raises:
            MappingError: Either is not usable.
        """
        return cls(
            name,
            DeviceMapping.loads(device_text, source=f"{name}/{DEVICE_FILE}", compatibility="pulseweir"),
            FhirMapping.loads(fhir_text, source=f"{name}/{FHIR_FILE}"),
            hashlib.sha256(f"{device_text}\0{fhir_text}".encode()).hexdigest()[:_VERSION_DIGITS],
        )


@dataclass(frozen=True, slots=True)
class Mappings:
    """All mappings of a house.

    Attributes:
        by_kind: Pairs of the catalog.
        site: The pair for every other device; None when the site has none.
        by_version: Every pair by its version.
    """

    by_kind: dict[str, MappingPair]
    site: MappingPair | None
    by_version: dict[str, MappingPair]

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
        pairs = [*by_kind.values(), *([site] if site else [])]
        return cls(by_kind, site, {pair.version: pair for pair in pairs})

    def for_kind(self, kind: str | None) -> MappingPair | None:
        """The pair for a device of this catalog kind; the site's where the catalog does not know it."""
        return self.by_kind.get(kind or "", self.site)


def catalog_directory() -> Path:
    """The device catalog: inside the installed package, or of the checkout this code runs from."""
    installed = Path(str(resources.files("pulseweir"))) / "devices"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "devices"


def catalog_kinds(folder: Path) -> list[Path]:
    """The folders of a catalog that hold a kind, by name."""
    return sorted(child for child in folder.iterdir() if (child / DEVICE_FILE).is_file())


def _load_kind(folder: Path) -> MappingPair:
    return MappingPair.loads(folder.name, _text(folder / DEVICE_FILE), _text(folder / FHIR_FILE))


def _load_site(device: Path | None, fhir: Path | None) -> MappingPair | None:
    if device is None and fhir is None:
        return None
    if device is None or fhir is None:
        raise _unreadable("site", "only one of the device mapping and the FHIR mapping is set.", "Set both or none.")
    return MappingPair.loads("site", _text(device), _text(fhir))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as cause:
        problem = f"cannot be read ({cause.strerror})."
        raise _unreadable(path.name, problem, "Check the path and its permissions.") from None
    except UnicodeDecodeError:
        raise _unreadable(path.name, "is not UTF-8 text.", "Save it as UTF-8.") from None


def _unreadable(source: str, problem: str, remedy: str) -> MappingError:
    return MappingError(source, [MappingFault(0, 0, "file", problem, remedy)])
