"""A HAPI FHIR R4 server to run tests against: built once from benchmarks/hapi, in memory, on a free loopback port.

The build lies in ``build/hapi-…`` and is used again until its sources change; the libraries stay in Maven's own cache.
"""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pulseweir.listening import listen

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "benchmarks" / "hapi"
FIRST_TEST_SECONDS = 900
"""Time-out of a test that may be the one to wait for build and start."""
_START_SECONDS = 240
_BUILD_SECONDS = 600
# A short life: compiled quickly rather than well, and no more memory than the tests need.
_JVM = ("-Xmx768m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_DATABASE = ("jdbc:h2:mem:hapi;DB_CLOSE_DELAY=-1", "sa")
_GOALS = ("compile", "dependency:build-classpath", "-Dmdep.outputFile=target/classpath.txt")


def what_is_missing() -> str | None:
    """Why HAPI cannot run here, None when it can."""
    missing = [name for name, command in (("Java", "java"), ("Maven", "mvn")) if shutil.which(command) is None]
    return f"HAPI FHIR needs {' and '.join(missing)}, not installed here" if missing else None


@contextmanager
def running_hapi(log: Path) -> Iterator[str]:
    """The server while it runs; gives its base URL.

    Args:
        log: File that takes what it prints.
    """
    built = _built()
    with listen() as probe:
        port = probe.getsockname()[1]
    jars = (built / "target" / "classpath.txt").read_text(encoding="utf-8").strip()
    command = ["java", *_JVM, "-cp", f"{built}/target/classes:{jars}", "pulseweir.hapi.HapiServer", str(port)]
    # With this process gone, nobody else would end the server.
    guard = [found, "--pdeathsig", "KILL"] if (found := shutil.which("setpriv")) else []
    with log.open("wb") as output:
        process = subprocess.Popen([*guard, *command, *_DATABASE], stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(process, log)
        yield f"http://127.0.0.1:{port}/fhir"
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while b"\nready" not in b"\n" + log.read_bytes():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"HAPI did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.1)


def _built() -> Path:
    """The folder of the build of today's sources."""
    files = sorted(path for path in SOURCES.rglob("*") if path.suffix in {".java", ".xml"} and path.is_file())
    files = [path for path in files if "target" not in path.relative_to(SOURCES).parts]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    folder = ROOT / "build" / f"hapi-{digest}"
    if _is_usable(folder):
        return folder
    # Built aside and moved when whole, so that two test runs at once do not meet half a build.
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    for path in files:
        copy = unfinished / path.relative_to(SOURCES)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    # What Maven has fetched before needs no network; only the rest is asked for.
    if _maven(unfinished, "--offline").returncode != 0:
        built = _maven(unfinished)
        if built.returncode != 0:
            raise RuntimeError(f"Maven could not build HAPI:\n{built.stdout[-4000:]}")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished)
    return folder


def _maven(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["mvn", "--quiet", "--batch-mode", *options, *_GOALS],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )


def _is_usable(folder: Path) -> bool:
    listed = folder / "target" / "classpath.txt"
    return listed.exists() and all(Path(jar).exists() for jar in listed.read_text(encoding="utf-8").strip().split(":"))
