"""The page about mappings: its library example runs, its traps are real, and it lists every rule of the linter."""

import doctest
import re

from mapping_samples import device
from pulseweir.mapping import RULES, explain, explanation_lines
from tracked_files import ROOT

PAGE = ROOT / "docs" / "mapping.md"


def test_the_example_of_the_library_runs() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)

    assert found.attempted > 8
    assert found.failed == 0


def test_every_rule_is_listed_with_what_it_means() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (error|warning|info) \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)

    assert [(name, severity, text.replace("\\|", "|")) for name, severity, text in rows] == [
        (name, rule.severity, rule.meaning) for name, rule in RULES.items()
    ]


def test_the_explanation_shown_is_what_the_command_prints() -> None:
    mapping = device({"typeMatchExpression": "$..[?(@heartrate && @unit == 'bpm')]"})
    message = {"device": "d", "at": "2030-01-01T00:00:00Z", "heartRate": 61}

    printed = "\n".join(["message.json:", *explanation_lines(explain(mapping, message))])

    assert f"```text\n{printed}\n```" in PAGE.read_text("utf-8")
