"""A PostgreSQL server to run tests against: an empty cluster in a folder of its own, on a free loopback port."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from pulseweir.listening import listen

_START_SECONDS = 60
_INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian keeps the server's programs, which are not on the path."""
_ACCOUNT = "postgres"


def what_is_missing() -> str | None:
    """Why PostgreSQL cannot run here, None when it can."""
    if _programs() is None:
        return "PostgreSQL is not installed here; PULSEWEIR_TEST_POSTGRES may name a database"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL refuses root, and setpriv, which would give it another account, is not installed here"
    return None


@contextmanager
def running_postgres() -> Iterator[str]:
    """The server while it runs; gives the URL of an empty database.

    Nothing is synced: what is tested is the language it speaks, and the cluster ends with the tests.
    """
    programs = _programs()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="pulseweir-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, _ACCOUNT)
        cluster = folder / "cluster"
        _run([programs / "initdb", "-D", cluster, "-U", _ACCOUNT, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"])
        with listen() as probe:
            port = probe.getsockname()[1]
        options = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        command = [str(programs / "postgres"), "-D", str(cluster), "-p", str(port), *options]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen([*_guard(), *command], cwd="/", stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(server, port, folder / "log")
            yield f"postgresql+psycopg://{_ACCOUNT}@127.0.0.1:{port}/postgres"
        finally:
            # At once, whoever is still connected, and its own processes before it.
            server.send_signal(signal.SIGQUIT)
            server.wait()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path | None:
    """The folder of the newest server installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    folders = [each.parent for each in _INSTALLED.glob("*/bin/initdb")]
    return max(folders, key=lambda each: int(each.parent.name), default=None)


def _guard() -> list[str]:
    """Another account than root's, and an end with this process, which nobody else would bring about."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    account = ["--reuid", _ACCOUNT, "--regid", _ACCOUNT, "--clear-groups"] if os.geteuid() == 0 else []
    return [setpriv, *account, "--pdeathsig", "KILL"]


def _run(command: list[str | Path]) -> None:
    done = subprocess.run([*_guard(), *command], cwd="/", capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-4000:]}")


def _wait_until_ready(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user=_ACCOUNT, dbname="postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')[-4000:]}") from None
            time.sleep(0.1)
        else:
            return
