"""Which tests a worker of pytest-xdist gets: whole folders, so that what a folder's tests share is made once.

Tests that kill processes never run beside each other, and one worker starts HAPI.
"""

from xdist.scheduler import LoadScopeScheduling

HAPI_FILES = ("tests/contracts/", "tests/paths/test_outside_server.py")


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc]  # the library brings no types
    """Hands out folders in the order of collection, long waits before short tests."""

    def _split_scope(self, nodeid: str) -> str:
        return folder_of(nodeid)


def folder_of(nodeid: str) -> str:
    """The folder a test is handed out with.

    >>> folder_of("tests/unit/ingest/device_mapping/test_tiers.py::test_x")
    'tests/unit/ingest'
    >>> folder_of("tests/paths/test_outside_server.py::test_x[hapi]")
    'tests/contracts'
    """
    if nodeid.startswith(HAPI_FILES):
        return "tests/contracts"
    parts = nodeid.partition("::")[0].split("/")[:-1]
    return "/".join(parts[: 3 if parts[1:2] == ["unit"] else 2])
