"""Benchmarks as ratios: `pulseweir bench NAME`. The measuring itself lives in ``benchmarks/``."""

import importlib
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pulseweir.errors import RefuseToStart

NAMES = {"connector": "connector", "fhir": "fhir_store", "hub": "hub", "windows": "windows", "journey": "journey"}


class Result(msgspec.Struct, frozen=True):
    """One measured figure.

    Attributes:
        name: What was measured.
        per_second: How many a second (or the figure the name says).
        ratio: Against the peer in the same run; None without one.
        against: The peer's name; None without one.
    """

    name: str
    per_second: float
    ratio: float | None = None
    against: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one or all benchmarks, with the machine it ran on."""

    name: str
    machine: str
    results: list[Result]


def run(name: str) -> Report:
    """Run one benchmark, or all.

    Raises:
        RefuseToStart: No such benchmark, or this is not a source checkout.
    """
    if name != "all" and name not in NAMES:
        raise RefuseToStart(f"No benchmark {name}. Choose one of: all, {', '.join(NAMES)}.")
    chosen = list(NAMES) if name == "all" else [name]
    results = [result for each in chosen for result in _measured(each)]
    return Report(name, f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", results)


def _measured(name: str) -> list[Result]:
    root = Path(__file__).parents[3]
    if not (root / "benchmarks").is_dir():
        raise RefuseToStart("Benchmarks are part of the source checkout, not of the installed package.")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    rows = importlib.import_module(f"benchmarks.{NAMES[name]}").run()
    return [msgspec.convert(row, Result, strict=False) for row in rows]
