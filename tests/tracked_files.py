"""The files of this repository, for tests that read it as a whole."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
_SOURCES = ("src", "tests", "benchmarks", "docs")
_LEFT_OUT = {".git", ".venv", "__pycache__", "build", "node_modules"}


@cache
def tracked_files() -> tuple[Path, ...]:
    """What git tracks, and what it would take if added; everything beneath the root where there is no git."""
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(asked, cwd=ROOT, capture_output=True, check=True, text=True).stdout
        paths = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in ROOT.rglob("*") if not _LEFT_OUT & set(path.relative_to(ROOT).parts)]
    return tuple(sorted(path for path in paths if path.is_file()))


def python_files() -> list[Path]:
    """Source, tests, benchmarks and the script of the documents."""
    return [path for path in tracked_files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in _SOURCES]


def documents() -> list[Path]:
    """The pages that people read."""
    return [path for path in tracked_files() if path.suffix == ".md"]
