"""The commands that the documents show are run, as they stand.

A block marked ``<!-- run -->`` needs nothing, ``<!-- run: slow -->`` needs time, ``<!-- run: house -->`` a running
house: those of one page run in one shell, in their order. Default ports become the free ones of the house.
"""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from pulseweir.clock import Clock
from pulseweir.local_house import LocalHouse
from tracked_files import ROOT, documents

_BLOCK = re.compile(r"^<!-- run(?:: (\w+))? -->\n```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_DEMO = re.compile(r'make demo ARGS="([^"]*)"')


def _scripts(mark: str) -> list[tuple[Path, str]]:
    """By page the commands of its blocks with this mark."""
    found = []
    for page in documents():
        blocks = [text for kind, text in _BLOCK.findall(page.read_text(encoding="utf-8")) if kind == mark]
        commands = [line.removeprefix("$ ") for text in blocks for line in text.splitlines() if line.startswith("$ ")]
        if commands:
            found.append((page, _DEMO.sub(r"pulseweir demo \1", "\n".join(commands))))
    return found


def _names(scripts: list[tuple[Path, str]]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page, _ in scripts]


async def _run(script: str, directory: Path, environment: dict[str, str]) -> str:
    """Run a script; returns what it printed.

    Raises:
        AssertionError: A command of it failed.
    """
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        cwd=directory,
        env={**os.environ, "PATH": binaries, "NO_COLOR": "1", **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()[-2_000:]
    return printed.decode()


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("page", "script"), _scripts(""), ids=_names(_scripts("")))
async def test_commands_of_page_run(page: Path, script: str, tmp_path: Path) -> None:
    printed = await _run(script, ROOT, {"PULSEWEIR_DATA_DIR": str(tmp_path / "house")})

    assert printed


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("page", "script"), _scripts("slow"), ids=_names(_scripts("slow")))
async def test_slow_commands_of_page_run(page: Path, script: str, tmp_path: Path) -> None:
    printed = await _run(script, tmp_path, {})

    assert '"conservation_difference":0' in printed


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("page", "script"), _scripts("house"), ids=_names(_scripts("house")))
async def test_commands_of_page_run_against_a_house(page: Path, script: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl not found: the documents' examples use it")
    house = await LocalHouse.start(tmp_path / "house", Clock())
    ports = {8083: house.settings.hub.http_port, 8090: house.settings.fhir.port, 8080: house.settings.web.port}
    for shown, free in ports.items():
        script = script.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{free}")
    environment = {
        "PULSEWEIR_DATA_DIR": str(tmp_path / "house"),
        "PULSEWEIR_FHIR__PORT": str(house.settings.fhir.port),
    }

    try:
        printed = await _run(script, tmp_path, environment)
        books = house.conserve()
    finally:
        await house.stop()

    assert books.conservation_difference == 0
    assert page.name != "README.md" or '"subject":{"reference":"Patient/patient-1"}' in printed
