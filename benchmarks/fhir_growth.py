"""How the sorted chart search and the disk of the FHIR store grow with the number of Observations.

Fills a store through its own writing path (checked, indexed, with FULL durability, many to a commit), and measures
the search over HTTP at the small and at the large size, one after the other, with the same requests. `--directory`
keeps the stores, so that a run that was broken off goes on.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.fhir_store import CONNECTIONS, Load, bundle, drive, loads, observation, referred, with_server
from pulseweir.clock import Clock
from pulseweir.fhir_store.bundle_entries import read_bundle
from pulseweir.fhir_store.bundles import BundleRun
from pulseweir.fhir_store.json_text import parse_object
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FILE_NAME, FhirStore

SMALL = 10_000
STORE = "fhir"
_BUNDLE = 5_000
_TURNS = 5


async def fill(directory: Path, resources: int) -> None:
    """Bring the store of a data directory up to so many Observations."""
    settings = FhirStoreSettings()
    store = FhirStore.open(directory / STORE, Clock(), settings)
    try:
        held = store.read(lambda session: session.connection.execute("SELECT count(*) FROM observation").get)
        await _send(store, bundle(referred()), settings)
        for first in range(held, resources, _BUNDLE):
            numbers = range(first, min(first + _BUNDLE, resources))
            await _send(store, bundle([observation(number) for number in numbers]), settings)
            if first % 100_000 == 0:
                print(f"{first} of {resources}", file=sys.stderr)
    finally:
        store.close()


async def _send(store: FhirStore, body: bytes, settings: FhirStoreSettings) -> None:
    read = read_bundle(parse_object(body), base_url="http://127.0.0.1/fhir", wanted_return=None, settings=settings)
    await store.write(lambda session: BundleRun(session, read, settings).run())


def charts(directory: Path) -> list[float]:
    """p99 in milliseconds of the chart search on a store, turn after turn."""
    (load,) = (each for each in loads(0, 1.0) if each.name == "search")

    async def turns(base_url: str) -> list[float]:
        await drive(base_url, load.requests[:500], CONNECTIONS)
        return [await _p99(base_url, load) for _ in range(_TURNS)]

    return with_server(str(directory), turns)


async def _p99(base_url: str, load: Load) -> float:
    return (await drive(base_url, load.requests, load.connections)).percentile_milliseconds(99)


def run(directory: Path, resources: int) -> dict[str, Any]:
    """The best p99 of some turns at both sizes, their ratio, and the bytes that an Observation takes on disk."""
    small, large = directory / "small", directory / "large"
    asyncio.run(fill(small, SMALL))
    asyncio.run(fill(large, resources))
    small_p99, large_p99 = min(charts(small)), min(charts(large))
    return {
        "resources": resources,
        "small_p99_milliseconds": small_p99,
        "p99_milliseconds": large_p99,
        "ratio": round(large_p99 / small_p99, 2),
        "disk_bytes_per_resource": round(
            sum(each.stat().st_size for each in (large / STORE).glob(f"{FILE_NAME}*")) / resources
        ),
    }


def main() -> None:
    """Print the figures as one JSON document."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--resources", type=int, default=1_000_000, help="Observations at the large size")
    arguments.add_argument("--directory", type=Path, help="where the stores are kept; a throw-away folder without")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = run(chosen.directory or Path(scratch), chosen.resources)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
