"""Step 1: how fast the hub acknowledges, with the real bus on disk and a load generator in a process of its own.

Paced rows: acknowledgement latency of 1 000 messages a second. Flat-out row: messages acknowledged a second, with the
ratio to what the same bus stores a second when it is handed the same rows without a hub in front.
"""

import asyncio
import multiprocessing
import selectors
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import uvloop

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.clock import Clock, real_microseconds
from pulseweir.ingest.hub.arrivals import Arrivals, Origin
from pulseweir.ingest.hub.dialect import Properties, events_topic
from pulseweir.ingest.hub.hub import Hub
from pulseweir.ingest.hub.mqtt import Decoder
from pulseweir.ingest.hub.packets import Connect, Puback, Publish, encode
from pulseweir.ingest.hub.registry import DeviceEntry, Registry
from pulseweir.ingest.hub.sas import make_token
from pulseweir.ingest.hub.settings import HubSettings

DEVICE_COUNT = 20
WINDOW = 100
PACED_PER_SECOND = 1_000
SECONDS = 5.0
PACED_MESSAGES = int(PACED_PER_SECOND * SECONDS)
BODY = (
    b'{"device":"bench-0","measuredAt":"2026-01-01T00:00:00.000Z","heartRate":80,"respiratoryRate":16,"spo2":97,'
    b'"cuffPressure":{"systolic":120,"diastolic":80,"mean":93},"temperatureCelsius":36.8,"consciousness":"A"}'
)


def run() -> list[dict[str, Any]]:
    """The rows of this benchmark."""
    alone = _bus_alone()
    with _hub() as (port, keys):
        latencies = sorted(_in_a_process(_paced, port, keys))
        per_second = _in_a_process(_flat_out, port, keys)[0]
    milliseconds = {share: 1_000 * latencies[int(share * (len(latencies) - 1))] for share in (0.5, 0.99)}
    against = f"25 ms, the promise, at {PACED_PER_SECOND} messages/s"
    rows = [
        {
            "name": f"hub: acknowledgement p{share * 100:.0f}, {value:.1f} ms",
            "per_second": PACED_PER_SECOND,
            "ratio": 25 / value,
            "against": against,
        }
        for share, value in milliseconds.items()
    ]
    return [
        *rows,
        {
            "name": f"hub: MQTT QoS 1 to durable, {DEVICE_COUNT} connections of {WINDOW} messages",
            "per_second": round(per_second),
            "ratio": per_second / alone,
            "against": f"the queue and the bus without sockets, {alone:.0f} messages/s",
        },
    ]


@contextmanager
def _hub() -> Iterator[tuple[int, list[str]]]:
    """A hub in a process of its own; its port and its devices' keys."""
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as directory:
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(directory, theirs))
        process.start()
        try:
            yield ours.recv()
        finally:
            ours.send("stop")
            process.join()


def _serve(directory: str, pipe: Connection) -> None:
    uvloop.run(_serve_until_told(Path(directory), pipe))


async def _serve_until_told(directory: Path, pipe: Connection) -> None:
    registry = Registry.open(directory / "hub")
    registry.import_entries(DeviceEntry(f"bench-{number}", "bedside-monitor") for number in range(DEVICE_COUNT))
    bus = EmbeddedBus.open(directory / "bus")
    hub = Hub(bus, registry, HubSettings(mqtt_port=0, http_port=None), Clock())
    await hub.start()
    by_id = {device.device_id: device.primary_key for device in registry.list_devices()}
    pipe.send((hub.mqtt_port, [by_id[f"bench-{number}"] for number in range(DEVICE_COUNT)]))
    await asyncio.to_thread(pipe.recv)
    await hub.stop()
    await bus.close()


def _in_a_process(work: Any, port: int, keys: list[str]) -> list[float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        outcome: list[float] = pool.apply(work, (port, keys))
    return outcome


def _dial(port: int, number: int, key: str) -> socket.socket:
    device_id = f"bench-{number}"
    token = make_token("localhost", device_id, key, real_microseconds() // 1_000_000 + 600)
    line = socket.create_connection(("127.0.0.1", port))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.sendall(encode(Connect(4, device_id, 60, True, f"localhost/{device_id}", token.encode(), None)))
    if line.recv(4) != b"\x20\x02\x00\x00":
        raise ConnectionRefusedError(device_id)
    return line


def _message(device: int, packet_id: int, mid: int) -> bytes:
    topic = f"{events_topic(f'bench-{device}')}%24.mid={mid}"
    return encode(Publish(topic, BODY, 1, packet_id, retain=False, duplicate=False))


def _paced(port: int, keys: list[str]) -> list[float]:
    """Latencies, in seconds, of messages sent evenly over all connections."""
    lines = [_dial(port, number, key) for number, key in enumerate(keys)]
    messages = [_message(place % len(lines), place // len(lines) + 1, place) for place in range(PACED_MESSAGES)]
    sent: dict[tuple[int, int], float] = {}
    latencies: list[float] = []
    listener = selectors.DefaultSelector()
    for number, line in enumerate(lines):
        listener.register(line, selectors.EVENT_READ, (number, Decoder()))
    start = perf_counter()
    place = 0
    while len(latencies) < PACED_MESSAGES:
        while place < PACED_MESSAGES and perf_counter() >= start + place / PACED_PER_SECOND:
            number = place % len(lines)
            sent[number, place // len(lines) + 1] = perf_counter()
            lines[number].sendall(messages[place])
            place += 1
        for key, _ in listener.select(0.000_5):
            number, decoder = key.data
            heard = decoder.feed(lines[number].recv(65_536))
            now = perf_counter()
            latencies += [now - sent[number, packet.packet_id] for packet in heard if isinstance(packet, Puback)]
    return latencies[PACED_PER_SECOND // 2 :]


def _flat_out(port: int, keys: list[str]) -> list[float]:
    """Acknowledgements a second with a full window on every connection."""
    lines = [_dial(port, number, key) for number, key in enumerate(keys)]
    bursts = [b"".join(_message(number, place, place) for place in range(1, WINDOW + 1)) for number in range(len(keys))]
    acknowledged = [0] * len(lines)
    deadline = monotonic() + SECONDS

    def pump(number: int) -> None:
        while monotonic() < deadline:
            lines[number].sendall(bursts[number])
            outstanding = WINDOW * 4
            while outstanding:
                outstanding -= len(lines[number].recv(outstanding))
            acknowledged[number] += WINDOW

    pumps = [threading.Thread(target=pump, args=(number,)) for number in range(len(lines))]
    start = monotonic()
    for thread in pumps:
        thread.start()
    for thread in pumps:
        thread.join()
    return [sum(acknowledged) / (monotonic() - start)]


def _bus_alone() -> float:
    """Messages a second through the queue and the bus, as many at a time as all windows hold."""
    with tempfile.TemporaryDirectory() as directory:
        per_second: float = uvloop.run(_store_flat_out(Path(directory)))
    return per_second


async def _store_flat_out(directory: Path) -> float:
    bus = EmbeddedBus.open(directory)
    arrivals = Arrivals(bus, HubSettings(), Clock())
    committing = asyncio.create_task(arrivals.run())
    waiter = _Waiter()
    stored = 0
    start = monotonic()
    while monotonic() < start + SECONDS / 2:
        waiter.begin(DEVICE_COUNT * WINDOW)
        for number in range(DEVICE_COUNT):
            origin = Origin(f"bench-{number}", "bedside-monitor", '{"a":"b"', "mqtt")
            for place in range(WINDOW):
                arrivals.add(origin, BODY, Properties({}, {"message-id": str(place)}), waiter, place)
        await waiter.done.wait()
        stored += DEVICE_COUNT * WINDOW
    per_second = stored / (monotonic() - start)
    arrivals.stop()
    await committing
    await bus.close()
    return per_second


class _Waiter:
    """Waits for a number of messages."""

    def begin(self, count: int) -> None:
        self.done = asyncio.Event()
        self._outstanding = count

    def stored(self, tokens: list[int]) -> None:
        self._outstanding -= len(tokens)
        if not self._outstanding:
            self.done.set()

    def refused(self, tokens: list[int]) -> None:
        raise AssertionError("the bus refused")


if __name__ == "__main__":
    for row in run():
        print(row)
