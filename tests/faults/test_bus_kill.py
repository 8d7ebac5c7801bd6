"""kill -9 of producers and consumers under load: no acknowledged batch is lost, none repeats after its commit."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.records.topics import DEVICE_MESSAGES

KILLS = 10

PRODUCER = """
import asyncio, sys, pyarrow as pa
from pathlib import Path
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.records.topics import DEVICE_MESSAGES, INSTANT

async def main(directory, first):
    bus = EmbeddedBus.open(Path(directory))
    number = int(first)
    while True:
        names = [str(number + offset) for offset in range(50)]
        await bus.publish([(DEVICE_MESSAGES, pa.table({
            "message_id": names, "device_id": [f"d{int(n) % 7}" for n in names], "kind": [""] * 50,
            "received_at": pa.array([0] * 50, pa.int64()).cast(INSTANT), "properties_json": ["{}"] * 50,
            "system_properties_json": ["{}"] * 50, "body": [b"{}"] * 50}))])
        number += 50
        print(number, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""

CONSUMER = """
import asyncio, sys
from pathlib import Path
from pulseweir.backends.bus.base import Outcome
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.records.topics import DEVICE_MESSAGES

async def main(directory):
    bus = EmbeddedBus.open(Path(directory))
    subscription = await bus.subscribe(DEVICE_MESSAGES, "group")
    while True:
        deliveries = await subscription.read(wait_seconds=0.1, row_limit=200)
        if not deliveries:
            print("idle", flush=True)
            continue
        names = [name for d in deliveries for name in d.table["message_id"].to_pylist()]
        await subscription.commit({d.shard: d.position for d in deliveries}, Outcome({"done": len(names)}))
        print("committed", *names, flush=True)

asyncio.run(main(sys.argv[1]))
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)


def kill_after(process: subprocess.Popen[str], lines: int) -> list[str]:
    """Read some lines, kill -9, and return every line that had left the process whole."""
    assert process.stdout is not None
    heard = [process.stdout.readline() for _ in range(lines)]
    os.kill(process.pid, signal.SIGKILL)
    heard += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    return [line for line in heard if line.endswith("\n")]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_kills_of_a_producer_lose_no_acknowledged_batch(tmp_path: Path) -> None:
    chance = random.Random(11)
    acknowledged: set[str] = set()
    first = 0
    for _ in range(KILLS):
        lines = kill_after(start(PRODUCER, str(tmp_path), str(first)), chance.randint(1, 40))
        end = int(lines[-1])
        acknowledged |= {str(number) for number in range(first, end)}
        first = end

    stored = asyncio.run(everything_in(tmp_path))

    assert acknowledged <= set(stored)
    # A batch whose acknowledgement the kill cut off may be there too, and is then sent again: at least once.
    assert len(stored) - len(acknowledged) <= 50 * KILLS


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_kills_of_a_consumer_repeat_nothing_after_its_commit(tmp_path: Path) -> None:
    chance = random.Random(12)
    sent = int(kill_after(start(PRODUCER, str(tmp_path), "0"), 300)[-1])
    committed: list[str] = []
    for _ in range(KILLS):
        for line in kill_after(start(CONSUMER, str(tmp_path)), chance.randint(1, 6)):
            committed += line.split()[1:]
    final = start(CONSUMER, str(tmp_path))
    assert final.stdout is not None
    for line in final.stdout:
        if line.startswith("idle"):
            break
        committed += line.split()[1:]
    final.kill()
    final.wait()
    final.stdout.close()

    assert len(committed) == len(set(committed))
    # What a kill cut off between the commit and the report was committed all the same: the ledger has the sum.
    assert set(committed) <= {str(number) for number in range(sent + 50)}
    assert asyncio.run(tally(tmp_path)) == len(asyncio.run(everything_in(tmp_path)))


async def everything_in(directory: Path) -> list[str]:
    bus = EmbeddedBus.open(directory)
    subscription = await bus.subscribe(DEVICE_MESSAGES, "audit")
    await subscription.assigned()
    found: list[str] = []
    while deliveries := await subscription.read(wait_seconds=0, row_limit=10_000):
        found += [name for delivery in deliveries for name in delivery.table["message_id"].to_pylist()]
    await bus.close()
    return found


async def tally(directory: Path) -> int:
    bus = EmbeddedBus.open(directory)
    subscription = await bus.subscribe(DEVICE_MESSAGES, "group")
    _, tallies, _ = subscription._ledger.balance()
    await bus.close()
    return tallies["done"]
