"""Hands each conformance test its section of the cross-check vectors, one case a test."""

import os
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
FILE = "connector_cases.json"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize ``case`` by the module's SECTION; one skipped stand-in where the vectors are absent."""
    if "case" not in metafunc.fixturenames:
        return
    data = Path(os.environ.get("PULSEWEIR_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()
    file = data.parent / "reference" / FILE
    if not file.is_file():
        reason = f"{FILE} not found in the reference folder beside PULSEWEIR_TEST_DATA"
        metafunc.parametrize("case", [pytest.param({"id": "absent"}, marks=pytest.mark.skip(reason=reason))])
        return
    cases = msgspec.json.decode(file.read_bytes())[metafunc.module.SECTION]
    supported = getattr(metafunc.module, "is_supported", lambda case: True)
    metafunc.parametrize("case", [case for case in cases if supported(case)], ids=lambda case: case["id"])
