"""No file and no function grows past what a reader can hold."""

import ast
from pathlib import Path

import pytest

from tracked_files import ROOT, python_files

_FILE_LINES = 400
_FUNCTION_LINES = 50


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_and_its_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    lines = len(text.splitlines())
    functions = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= _FUNCTION_LINES
    ]

    assert lines <= _FILE_LINES, f"{lines} lines; cut the file where its subjects part"
    assert not functions
