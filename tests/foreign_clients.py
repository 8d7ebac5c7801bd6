"""Clients in other languages: made ready once under ``build/``, run against served stores, and what each step saw.

A client's script prints one JSON line a step: ``{"step": name, "saw": what it observed}``, or ``"failed"`` in place of
``"saw"``. What it should have seen is asserted here, step by step, so that a break in the store fails a named step.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tracked_files import ROOT

SOURCES = ROOT / "tests" / "clients"
_MAKING_SECONDS, _RUNNING_SECONDS = 300, 120
_UNREACHABLE = re.compile(
    r"ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|code E50\d"
    r"|Unknown host|Connection refused|[Cc]onnect(ion)? timed out|No route to host|Temporary failure in name"
)
_NODE_MAJOR = 18
# Fewer attempts than npm makes by itself: without a network it would try for minutes.
_NPM = ("npm", "ci", "--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")
# The plugin by its whole name: where the short one is asked of a registry in vain, Maven hides why.
_LIST_JARS = "org.apache.maven.plugins:maven-dependency-plugin:2.8:build-classpath"
_MAVEN = ("mvn", "-q", "-B", "compile", _LIST_JARS, "-Dmdep.outputFile=target/classpath.txt")
# A short life: compiled quickly rather than well.
_JAVA = ("java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


@dataclass(frozen=True, slots=True)
class Report:
    """What a client reported, line by line, in its order.

    Attributes:
        steps: The lines by the names of their steps.
        broke: Why it ended before its time, "" when it did not.
    """

    steps: dict[str, dict[str, Any]]
    broke: str

    def saw(self, step: str) -> Any:
        """What a step observed; fails the test with the client's own error where the step failed."""
        line = self.steps.get(step)
        assert line is not None, f"the client never came to {step!r}. {self.broke}"
        assert "failed" not in line, f"{step}: {line['failed']}\nThe store answered: {line.get('answer')}"
        return line["saw"]


def run_node(script: str, *arguments: str) -> Report:
    """Run a script of ``tests/clients/node``."""
    _require("node", "npm")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < _NODE_MAJOR:
        pytest.skip(f"the clients need Node {_NODE_MAJOR} or later, here is {version.strip()}")
    folder = _made("node", _NPM, lambda made: (made / "node_modules" / "fhirclient").is_dir())
    return _run(["node", script, *arguments], folder)


def run_java(main_class: str, *arguments: str) -> Report:
    """Run a class of ``tests/clients/java``."""
    _require("java", "javac", "mvn")
    folder = _made("java", _MAVEN, lambda made: all(Path(jar).exists() for jar in _jars(made)))
    class_path = os.pathsep.join([str(folder / "target" / "classes"), *_jars(folder)])
    return _run([*_JAVA, "-cp", class_path, main_class, *arguments], folder)


def _jars(folder: Path) -> list[str]:
    listed = folder / "target" / "classpath.txt"
    # Before it is made there is one that is missing.
    return listed.read_text(encoding="utf-8").strip().split(os.pathsep) if listed.exists() else [str(listed)]


def _require(*commands: str) -> None:
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: `make components` as root")


def _made(name: str, command: tuple[str, ...], is_whole: Callable[[Path], bool]) -> Path:
    """The folder with a client made ready from today's sources, which an earlier run may have left."""
    sources = SOURCES / name
    places = sorted(path.relative_to(sources) for path in sources.rglob("*") if path.is_file())
    places = [place for place in places if place.parts[0] not in {"node_modules", "target"}]
    digest = hashlib.sha256(b"".join(str(place).encode() + (sources / place).read_bytes() for place in places))
    folder = ROOT / "build" / f"client-{name}-{digest.hexdigest()[:12]}"
    if is_whole(folder):
        return folder
    # Made aside and moved when whole, so that two test runs at once do not meet half of it.
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        for place in places:
            (unfinished / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sources / place, unfinished / place)
        _make(command, unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        # Another run may have been first: theirs is as good.
        with contextlib.suppress(OSError):
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _make(command: tuple[str, ...], folder: Path) -> None:
    made = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_MAKING_SECONDS,
        check=False,
    )
    said = made.stdout + made.stderr
    if made.returncode and (unreachable := _UNREACHABLE.search(said)):
        pytest.skip(f"{command[0]} could not reach its registry ({unreachable[0]})")
    assert made.returncode == 0, f"{' '.join(command)} failed:\n{said[-4000:]}"


def _run(command: list[str], folder: Path) -> Report:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, encoding="utf-8", timeout=_RUNNING_SECONDS, check=False
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    broke = f"It ended with {done.returncode}:\n{done.stderr[-4000:]}" if done.returncode else ""
    return Report({line["step"]: line for line in lines}, broke)
