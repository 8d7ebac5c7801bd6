"""What every test may ask for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hapi_server import running_hapi, what_is_missing

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real recordings; the test skips where it is absent."""
    folder = Path(os.environ.get("PULSEWEIR_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip("PULSEWEIR_TEST_DATA not found: ../shared/data")
    return folder


@pytest.fixture(scope="session")
def reference(test_data: Path) -> Path:
    """The folder of cross-check vectors beside the recordings; the test skips where it is absent."""
    folder = test_data.parent / "reference"
    if not folder.is_dir():
        pytest.skip("reference folder not found beside PULSEWEIR_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def hapi_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a HAPI FHIR server that a session's tests share; the test skips without Java or Maven."""
    missing = what_is_missing()
    if missing is not None:
        pytest.skip(missing)
    with running_hapi(tmp_path_factory.mktemp("hapi") / "log") as url:
        yield url
