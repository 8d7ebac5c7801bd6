"""The page a clinician signs says what the code does: its tests exist, its numbers are the code's."""

import ast
import re
from functools import cache
from typing import Any

import pytest
from pydantic import BaseModel

from pulseweir.records.codes import VITALS
from pulseweir.settings import Settings
from tracked_files import ROOT, python_files

PAGE = (ROOT / "docs" / "clinical.md").read_text(encoding="utf-8")
WHOLE = ("alerts", "flags", "signals")
"""Settings of which none may be missing on the page."""
IN_OWN_TABLES = {"alerts.ladders", "alerts.actions", "flags.acceptable_range"}
HOW_THE_HOUSE_WORKS = {"signals.presence_keep_seconds", "signals.heard_seconds"}
"""Of them those that say nothing to a clinician."""


def rows(first_cell: str) -> list[list[str]]:
    """The rows of the table whose header begins so."""
    lines = PAGE.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(f"| {first_cell} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


@cache
def functions_of_tests() -> frozenset[str]:
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in python_files() if path.name.startswith("test_"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, kinds))


def settings() -> Settings:
    return Settings.model_construct(
        **{name: field.get_default(call_default_factory=True) for name, field in Settings.model_fields.items()}
    )


def told(value: Any) -> str:
    """A default in the words of the page."""
    if value is None or value in ((), {}, ""):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {told(each)}" for name, each in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(told, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def default_of(path: str) -> Any:
    value: Any = settings()
    for name in path.split("."):
        value = getattr(value, name)
    return value


def test_every_test_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))

    assert named
    assert sorted(named - functions_of_tests()) == []


DEFAULTS = rows("setting")


@pytest.mark.parametrize("row", DEFAULTS, ids=lambda row: row[0])
def test_every_default_on_the_page_is_the_default_of_the_code(row: list[str]) -> None:
    path, value = row[0].strip("`"), row[1]

    assert value == told(default_of(path)), f"docs/clinical.md says another default of {path} than the code"


@pytest.mark.parametrize("row", DEFAULTS, ids=lambda row: row[0])
def test_every_default_has_its_meaning_source_and_test(row: list[str]) -> None:
    _, _, meaning, source, test = row

    assert meaning
    assert source
    assert re.fullmatch(r"(`test_\w+`(, )?)+", test), "name the test that holds this default"


@pytest.mark.parametrize("group", WHOLE)
def test_no_default_of_alerting_is_missing_on_the_page(group: str) -> None:
    on_page = {row[0].strip("`") for row in DEFAULTS} | IN_OWN_TABLES | HOW_THE_HOUSE_WORKS
    model = default_of(group)
    assert isinstance(model, BaseModel)

    assert sorted({f"{group}.{name}" for name in type(model).model_fields} - on_page) == []


def test_every_rung_on_the_page_is_a_rung_of_the_code() -> None:
    ladders = default_of("alerts.ladders")

    assert rows("priority") == [
        [priority, f"{rung.after_seconds:g}", rung.role] for priority, rungs in ladders.items() for rung in rungs
    ]


def test_every_vital_on_the_page_is_the_vital_of_the_code() -> None:
    expected = []
    for vital in VITALS:
        low = "" if vital.lowest is None else f"{vital.lowest:g}"
        high = "" if vital.highest is None else f"{vital.highest:g}"
        also = "" if vital.highest is None or vital.highest_is_possible else f" ({high} too)"
        expected.append([vital.title, f"{vital.maximum_age_seconds // 3600} h", low, high + also])

    assert rows("vital sign") == expected
