"""Step 10: how devices of a catalog kind are used: continuously or as spot checks, and how often they speak.

``kind.json`` in a kind's folder is the one declaration. A row names the mapping that made it, which names the kind.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from pulseweir.records.identifiers import mapping_version

KIND_FILE = "kind.json"
_MAPPING_FILES = ("device_mapping.json", "fhir_mapping.json")


class DeviceKind(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """How devices of one kind are used.

    Attributes:
        use: ``continuous``: silence is a fault. ``spot-check``: it speaks when somebody measures. ``either``: both
            are honest; the device itself shows which, by how regularly it has spoken.
        interval_seconds: Longest honest interval between two messages of a continuous kind.
    """

    use: Literal["continuous", "spot-check", "either"]
    interval_seconds: float = 60.0


EITHER = DeviceKind("either")
"""What is assumed of a kind that says nothing, and of devices of the site's own mapping."""


def read_kinds(folders: Iterable[Path]) -> dict[str, DeviceKind]:
    """How each kind of some catalogs is used, by the version of its mappings.

    Folders that cannot be read are left out: their devices are known by how they behave.
    """
    kinds = {}
    for folder in folders:
        for path in sorted(folder.glob(f"*/{KIND_FILE}")):
            try:
                texts = [(path.parent / name).read_bytes().decode("utf-8") for name in _MAPPING_FILES]
                kinds[mapping_version(*texts)] = msgspec.json.decode(path.read_bytes(), type=DeviceKind)
            except (OSError, UnicodeDecodeError, msgspec.DecodeError):
                continue
    return kinds
