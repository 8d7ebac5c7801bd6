"""HL7's package of R4 definitions and examples, fetched once into the user's cache directory, never the repository."""

import os
import shutil
from pathlib import Path

import pytest

from pulseweir.errors import RefuseToStart
from pulseweir.fhir_store.definitions.make_definitions import PACKAGE, fetch_package

_NAME = PACKAGE.replace("@", "-") + ".tgz"


@pytest.fixture(scope="session")
def r4_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's file; PULSEWEIR_TEST_FHIR_PACKAGE names one that is there already."""
    named = os.environ.get("PULSEWEIR_TEST_FHIR_PACKAGE")
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pulseweir"
    if not (cache / _NAME).exists():
        try:
            fetched = fetch_package(tmp_path_factory.mktemp("package"))
        except RefuseToStart as error:
            pytest.skip(f"the R4 package is not reachable: {error}")
        cache.mkdir(parents=True, exist_ok=True)
        shutil.move(fetched, cache / f"{_NAME}.{os.getpid()}")
        (cache / f"{_NAME}.{os.getpid()}").replace(cache / _NAME)
    return cache / _NAME
