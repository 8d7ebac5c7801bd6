"""The doorbell between processes."""

import subprocess
import sys
from pathlib import Path

from pulseweir.backends.bus.doorbell import Bell, Ear

LISTENER = """
import sys, time
from pathlib import Path
from pulseweir.backends.bus.doorbell import Ear
ear = Ear(Path(sys.argv[1]))
print("listening", flush=True)
time.sleep(60)
"""


async def test_a_ring_before_the_wait_is_heard_at_once(tmp_path: Path) -> None:
    ear, bell = Ear(tmp_path), Bell(tmp_path)

    bell.ring()
    bell.ring()
    await ear.wait(3_600)

    ear.close()
    bell.close()


async def test_a_wait_without_a_ring_ends_by_itself(tmp_path: Path) -> None:
    ear = Ear(tmp_path)

    await ear.wait(0.001)

    ear.close()


async def test_everybody_on_the_list_is_rung_and_who_left_is_not(tmp_path: Path) -> None:
    first, second, bell = Ear(tmp_path), Ear(tmp_path), Bell(tmp_path)
    first.close()

    bell.ring()
    await second.wait(3_600)

    assert len(list(tmp_path.iterdir())) == 1
    second.close()
    bell.close()
    assert not list(tmp_path.iterdir())


def test_the_bell_of_a_dead_process_is_taken_down(tmp_path: Path) -> None:
    listener = subprocess.Popen([sys.executable, "-c", LISTENER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert listener.stdout is not None
    listener.stdout.readline()
    listener.kill()
    listener.wait()
    listener.stdout.close()
    left_behind = list(tmp_path.iterdir())
    bell = Bell(tmp_path)

    bell.ring()

    assert len(left_behind) == 1
    assert not list(tmp_path.iterdir())
    bell.close()


async def test_a_path_longer_than_a_socket_address_may_be_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 100) / ("b" * 100)
    ear, bell = Ear(deep), Bell(deep)

    bell.ring()
    await ear.wait(3_600)

    ear.close()
    bell.close()
