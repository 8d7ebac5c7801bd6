"""Compares JSON with what a vector expects: only the members it names, instants as instants, and its markers."""

from datetime import datetime
from typing import Any

from pulseweir.ingest.fhir_mapping.values import parse_ticks


def assert_matches(found: Any, wanted: Any, case: dict[str, Any], path: str = "") -> None:
    """Fails at the first member of `wanted` that `found` does not have so."""
    if isinstance(wanted, dict):
        for name, part in wanted.items():
            if name == "status" and case.get("stage") == "merge_only":
                continue
            _assert_member(found, name, part, case, f"{path}.{name}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), path
        for index, part in enumerate(wanted):
            assert_matches(found[index], part, case, f"{path}[{index}]")
    else:
        assert found == wanted, path


def _assert_member(found: dict[str, Any], name: str, wanted: Any, case: dict[str, Any], path: str) -> None:
    if name == "value" and wanted == "<absent>":
        assert not [key for key in found if key.startswith("value")], path
    elif wanted == "<absent>":
        assert name not in found, path
    elif wanted == "<present>":
        assert name in found, path
    elif name == "data_contains":
        assert wanted in found["data"], path
    elif name in {"start", "end"}:
        assert parse_ticks(found[name]) == parse_ticks(wanted), path
        datetime.fromisoformat(found[name])
    else:
        assert_matches(found[name], wanted, case, path)
