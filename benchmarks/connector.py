"""Normalizes small messages (about 250 bytes, 6 values) by 5 templates, beside a generic JSONPath library.

The library evaluates the same expressions on the same decoded messages; what it lacks of a measurement is not counted
against it. `run` measures both in one process, so that the ratio means something on any machine.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from pulseweir.mapping import DeviceMapping

MESSAGES = 2_000
PEER = "python-jsonpath"
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


def bodies(count: int) -> list[bytes]:
    """Synthetic messages."""
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
        for number in range(count)
    ]


def run() -> list[dict[str, Any]]:
    """Messages a second of each contender, and how many times the peer's."""
    messages = bodies(MESSAGES)
    contender = _peer()
    peer = 0.0 if contender is None else _per_second(contender, messages[: MESSAGES // 10])
    speeds = {"interpreter": _per_second(_ours(), messages)} | ({PEER: peer} if peer else {})
    return [
        {
            "name": name,
            "per_second": round(speed),
            "ratio": round(speed / peer, 2) if peer else None,
            "against": PEER,
        }
        for name, speed in speeds.items()
    ]


def _ours() -> Callable[[bytes], int]:
    device = DeviceMapping.load(mapping())

    def normalize(body: bytes) -> int:
        envelope = {"Body": msgspec.json.decode(body), "Properties": {}, "SystemProperties": {}}
        return sum(len(found.properties) for found in device.normalize(envelope))

    return normalize


def _peer() -> Callable[[bytes], int] | None:
    try:
        import jsonpath
    except ImportError:
        return None
    templates = [
        (
            jsonpath.compile(f"$..[?@.{members[0]}]"),
            [jsonpath.compile(path) for path in ("$.device", "$.measuredAt", *(f"$.{name}" for name in members))],
        )
        for members in _VALUES.values()
    ]

    def normalize(body: bytes) -> int:
        # The peer's filter does not test the document itself, so it gets the message one level down.
        document = {"Envelope": {"Body": msgspec.json.decode(body)}}
        return sum(1 for _ in _values(templates, document))

    return normalize


def _values(templates: list[tuple[Any, list[Any]]], document: object) -> Iterator[object]:
    for type_match, paths in templates:
        for token in type_match.findall(document):
            found = [path.findall(token) for path in paths]
            yield from (tokens[0] for tokens in found[2:])


def _per_second(normalize: Callable[[bytes], int], messages: list[bytes]) -> float:
    normalize(messages[0])
    started = time.perf_counter()
    values = sum(normalize(body) for body in messages)
    seconds = time.perf_counter() - started
    if values != 6 * len(messages):
        raise ValueError(f"{values} values instead of {6 * len(messages)}")
    return len(messages) / seconds


if __name__ == "__main__":
    print(msgspec.json.encode(run()).decode())
