"""Benchmarks as ratios: `pulseweir bench NAME`. The measuring itself lives in ``benchmarks/``."""

import importlib
import os
import platform
import sys
from collections.abc import Iterable, Mapping
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
        p50_milliseconds: Half of the requests were answered within so long; None where there are no requests.
        p99_milliseconds: 99 of 100 were.
    """

    name: str
    per_second: float
    ratio: float | None = None
    against: str | None = None
    p50_milliseconds: float | None = None
    p99_milliseconds: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one or all benchmarks, with the machine it ran on."""

    name: str
    machine: str
    results: list[Result]


def run(name: str, against: Mapping[str, str] | None = None) -> Report:
    """Run one benchmark, or all.

    Args:
        name: Which one; ``all`` for every one.
        against: Base URLs of other FHIR R4 servers by the name their rows shall carry; only for ``fhir``.

    Raises:
        RefuseToStart: No such benchmark, it takes no peer, or this is not a source checkout.
    """
    if against and name != "fhir":
        raise RefuseToStart("--against names a FHIR R4 server, so it goes with: pulseweir bench fhir.")
    if name != "all" and name not in NAMES:
        raise RefuseToStart(f"No benchmark {name}. Choose one of: all, {', '.join(NAMES)}.")
    chosen = list(NAMES) if name == "all" else [name]
    results = [result for each in chosen for result in _measured(each, against or {})]
    return Report(name, f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", results)


def peers(written: Iterable[str]) -> dict[str, str]:
    """Servers to measure against, as an operator writes them: ``NAME=URL``.

    >>> peers(["hapi=http://127.0.0.1:8080/fhir"])
    {'hapi': 'http://127.0.0.1:8080/fhir'}

    Raises:
        RefuseToStart: One is not ``NAME=URL`` of an unencrypted HTTP server.
    """
    named: dict[str, str] = {}
    for one in written:
        name, _, url = one.partition("=")
        if not name or not url.startswith("http://"):
            raise RefuseToStart(f"{one}: write NAME=http://HOST:PORT/BASE, such as hapi=http://127.0.0.1:8080/fhir.")
        named[name] = url
    return named


def _measured(name: str, against: Mapping[str, str]) -> list[Result]:
    root = Path(__file__).parents[3]
    if not (root / "benchmarks").is_dir():
        raise RefuseToStart("Benchmarks are part of the source checkout, not of the installed package.")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    module = importlib.import_module(f"benchmarks.{NAMES[name]}")
    rows = module.run(against=against) if against else module.run()
    return [msgspec.convert(row, Result, strict=False) for row in rows]
