"""Step 5a: how often Devices and their uses have changed, in a file that other processes of this machine read.

The store counts after the commit and before the answer: once a write has been answered, every reader of the count
knows that what it remembers of associations may be out of date.
"""

import os
import struct
from pathlib import Path

FILE_NAME = "associations.count"
COUNTED_TYPES = frozenset({"Device", "DeviceUseStatement"})
_NUMBER = struct.Struct("<Q")


class ChangeCount:
    """The store's side: counts up.

    Args:
        path: The file; made, or taken over with another number than it had.
        start: A number no earlier process has reached, such as the present in microseconds.
    """

    def __init__(self, path: Path, start: int) -> None:
        self._number = max(start, (read_change_count(path) or 0) + 1)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._write()

    def add(self) -> None:
        """Count a change.

        Raises:
            OSError: Readers were not told; their memory ends by its age.
        """
        self._number += 1
        self._write()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _write(self) -> None:
        os.pwrite(self._file, _NUMBER.pack(self._number), 0)


def read_change_count(path: Path) -> int | None:
    """The present number; None when no store of this machine counts here."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return int(_NUMBER.unpack(content)[0]) if len(content) == _NUMBER.size else None
