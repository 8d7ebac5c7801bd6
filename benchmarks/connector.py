"""Normalizes small messages (about 250 bytes, 6 values) by 5 templates, tier by tier, beside generic libraries.

Our tiers go the whole way: from the bytes of a batch to one Arrow table, with rendered texts, instants, and every
message that cannot be read set aside. A peer only decodes each message and evaluates the same type matches and paths
on it: it renders nothing, parses no timestamp, builds no table, and knows no required values. What it does less is not
counted against it. All run in one process on one core, in short turns of which each contender's best counts, so that
the ratios mean something on any machine, and on a busy one.
"""

import argparse
import gc
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from pulseweir.ingest.device_mapping.batch import Tier
from pulseweir.mapping import DeviceMapping

BATCH = 1_000
ROUNDS = 15
PEER = "python-jsonpath"
Normalize = Callable[[Sequence[bytes]], int]
Find = Callable[[Any], Any]
Templates = list[tuple[Find, list[Find]]]
# How many messages one turn takes: long enough to be measured, short enough to meet a quiet moment of the machine.
TURNS = {"tier1": 4_000, "tier2": 10_000, "interpreter": 400, PEER: 60, "jsonpath-ng": 60, "jmespath": 300}
_VALUES = {
    "heart-rate": ("heartRate",),
    "spo2": ("spo2",),
    "temperature": ("temperatureCelsius",),
    "respiratory-rate": ("respiratoryRate",),
    "blood-pressure": ("systolic", "diastolic"),
}


def mapping() -> dict[str, Any]:
    """Five templates of the predecessor's common form."""
    return {
        "templateType": "CollectionContent",
        "template": [
            {
                "templateType": "JsonPathContent",
                "template": {
                    "typeName": type_name,
                    "typeMatchExpression": f"$..[?(@{members[0]})]",
                    "deviceIdExpression": "$.device",
                    "timestampExpression": "$.measuredAt",
                    "values": [
                        {"valueName": member, "valueExpression": f"$.{member}", "required": True} for member in members
                    ],
                },
            }
            for type_name, members in _VALUES.items()
        ],
    }


def bodies(count: int, start: int = 0) -> list[bytes]:
    """Synthetic messages, numbered from `start`."""
    return [
        msgspec.json.encode(
            {
                "device": f"monitor-{number % 100:03d}",
                "measuredAt": f"2030-05-01T08:{number // 60 % 60:02d}:{number % 60:02d}Z",
                "firmware": "4.11.2",
                "battery": 80,
                "sequence": number,
                "location": "ward",
                "heartRate": 60 + number % 60,
                "spo2": 90 + number % 10,
                "temperatureCelsius": 36.5 + number % 20 / 10,
                "respiratoryRate": 12 + number % 12,
                "systolic": 110 + number % 40,
                "diastolic": 60 + number % 30,
            }
        )
        for number in range(start, start + count)
    ]


def run() -> list[dict[str, Any]]:
    """Messages a second of each contender, and how many times python-jsonpath's."""
    contenders: dict[str, Normalize | None] = {
        "tier1": _tier("tier1"),
        "tier2": _tier("tier2"),
        "interpreter": _tier("interpreter"),
        PEER: _python_jsonpath(),
        "jsonpath-ng": _jsonpath_ng(),
        "jmespath": _jmespath(),
    }
    present = {name: normalize for name, normalize in contenders.items() if normalize is not None}
    speeds = dict.fromkeys(present, 0.0)
    messages = bodies(max(TURNS.values()))
    for _ in range(ROUNDS):
        for name, normalize in present.items():
            speeds[name] = max(speeds[name], _per_second(normalize, messages[: TURNS[name]]))
    peer = speeds.get(PEER)
    return [
        {"name": name, "per_second": round(speed), "ratio": round(speed / peer, 2) if peer else None, "against": PEER}
        for name, speed in speeds.items()
    ]


def long_run(count: int) -> Iterator[tuple[int, float]]:
    """Push messages through all tiers in turn; after each tenth of them, how many and the peak of memory, MB."""
    device = DeviceMapping.load(mapping())
    tiers: tuple[Tier, ...] = ("auto", "tier1")
    done = 0
    for part in range(10):
        while done < count * (part + 1) // 10:
            # New messages every time: nothing remembered from earlier ones may help, or grow.
            messages = bodies(BATCH, start=done)
            made = device.normalize_batch(messages, tier=tiers[done // BATCH % 2])
            if made.measurements.num_rows != 6 * BATCH or made.rejects.num_rows:
                raise ValueError(f"{made.measurements.num_rows} rows, {made.rejects.num_rows} rejects")
            done += BATCH
        yield done, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _tier(tier: Tier) -> Normalize:
    device = DeviceMapping.load(mapping())

    def normalize(messages: Sequence[bytes]) -> int:
        batches = (messages[start : start + BATCH] for start in range(0, len(messages), BATCH))
        return sum(device.normalize_batch(batch, tier=tier).measurements.num_rows for batch in batches)

    return normalize


def _python_jsonpath() -> Normalize | None:
    try:
        import jsonpath
    except ImportError:
        return None
    templates: Templates = [
        (
            jsonpath.compile(f"$..[?@.{members[0]}]").findall,
            [
                jsonpath.compile(path).findall
                for path in ("$.device", "$.measuredAt", *(f"$.{name}" for name in members))
            ],
        )
        for members in _VALUES.values()
    ]
    return _evaluate(templates)


def _jsonpath_ng() -> Normalize | None:
    try:
        from jsonpath_ng.ext.parser import parse
    except ImportError:
        return None

    def finder(path: str) -> Callable[[Any], list[Any]]:
        find = parse(path).find
        return lambda document: [match.value for match in find(document)]

    templates: Templates = [
        (
            finder(f"$..[?(@.{members[0]})]"),
            [finder(path) for path in ("$.device", "$.measuredAt", *(f"$.{name}" for name in members))],
        )
        for members in _VALUES.values()
    ]
    return _evaluate(templates)


def _jmespath() -> Normalize:
    import jmespath

    def finder(query: str) -> Callable[[Any], list[Any]]:
        search = jmespath.compile(query).search
        return lambda document: [search(document)]

    # The language has no scan: a filter on the one object that can match stands in for it.
    templates: Templates = [
        (
            jmespath.compile(f"[Envelope.Body][?contains(keys(@), '{members[0]}')]").search,
            [finder(path) for path in ("device", "measuredAt", *members)],
        )
        for members in _VALUES.values()
    ]
    return _evaluate(templates)


def _evaluate(templates: Templates) -> Normalize:
    def values(document: object) -> Iterator[object]:
        for type_match, paths in templates:
            for token in type_match(document):
                found = [path(token) for path in paths]
                yield from (tokens[0] for tokens in found[2:])

    def normalize(messages: Sequence[bytes]) -> int:
        # The peers' filters do not test the document itself, so they get the message one level down.
        documents = ({"Envelope": {"Body": msgspec.json.decode(body)}} for body in messages)
        return sum(1 for document in documents for _ in values(document))

    return normalize


def _per_second(normalize: Normalize, messages: Sequence[bytes]) -> float:
    gc.collect()
    # Time of the processor: what others do on the machine meanwhile is not ours.
    started = time.process_time()
    values = normalize(messages)
    seconds = time.process_time() - started
    if values != 6 * len(messages):
        raise ValueError(f"{values} values instead of {6 * len(messages)}")
    return len(messages) / seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", type=int, default=0, help="instead push so many messages and print peak memory, MB")
    arguments = parser.parse_args()
    if arguments.long:
        for done, megabytes in long_run(arguments.long):
            print(f"{done} {megabytes:.0f}", flush=True)
    else:
        print(msgspec.json.encode(run()).decode())
