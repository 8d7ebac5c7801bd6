"""A module whose first line ends in "Pure." reaches neither the world nor a clock."""

import ast
from pathlib import Path

import pytest

from tracked_files import ROOT, python_files

_WORLD = {
    "alembic", "apsw", "asyncio", "deltalake", "fcntl", "getpass", "glob", "gmqtt", "httpx", "importlib", "io",
    "logging", "os", "pathlib", "prometheus_client", "queue", "random", "secrets", "select", "shutil", "signal",
    "socket", "sqlalchemy", "sqlite3", "ssl", "starlette", "structlog", "subprocess", "tempfile", "threading", "time",
    "urllib.request", "uuid", "uvicorn",
}  # fmt: skip
_WORLD_OF_THE_HOUSE = {
    "pulseweir.backends.fhir_client",
    "pulseweir.backends.lake",
    "pulseweir.backends.repository.store",
    "pulseweir.sqlite",
    "pulseweir.systems",
    "pulseweir.telemetry",
    "pulseweir.worker",
}
_CLOCK_READERS = {"Clock", "real_microseconds"}
_WORLDLY_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint"}


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _pure_modules() -> list[Path]:
    return [
        path for path in python_files() if path.is_relative_to(ROOT / "src") and _first_line(path).endswith("Pure.")
    ]


@pytest.mark.parametrize("path", _pure_modules(), ids=lambda path: str(path.relative_to(ROOT / "src" / "pulseweir")))
def test_pure_module_imports_no_input_output_and_no_clock(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))

    worldly = [name for name in _imports(tree) if _is_worldly(name)]
    calls = [
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _WORLDLY_CALLS
    ]
    reads_clock = [
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in _CLOCK_READERS
    ]
    waits = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]

    assert not worldly
    assert not calls
    assert not reads_clock
    assert not waits


def test_the_rooms_that_must_be_pure_say_so() -> None:
    source = ROOT / "src" / "pulseweir"
    needed = ["ingest/grouping.py", "scoring/windows.py", "scoring/quality.py", "scoring/score_shard.py"]
    needed += ["scoring/models/news2.py", "hot_path/flag.py", "hot_path/risk_assessment.py", "warm_path/alerts.py"]

    assert {str(path.relative_to(source)) for path in _pure_modules()} >= set(needed)


def _imports(tree: ast.Module) -> list[str]:
    """Dotted names of everything imported while the program runs; type checkers' imports left out."""
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    names: list[str] = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{each.name}" for each in node.names]
    return names


def _is_worldly(name: str) -> bool:
    if any(name == each or name.startswith(f"{each}.") for each in _WORLD | _WORLD_OF_THE_HOUSE):
        return True
    return name.startswith("pulseweir.clock.") and name.rsplit(".", 1)[1] in _CLOCK_READERS
