"""Random mappings and messages, and what every tier must make of them: what the interpreter says."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from pulseweir.errors import MessageError
from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA
from pulseweir.ingest.device_mapping.bodies import decode_body, decode_properties
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.device_mapping.tokens import number_of
from pulseweir.ingest.device_mapping.typed_decoder import TypedPlan, plan

NESTING_LIMIT = 8
Rows = list[dict[str, Any]]
Texts = Sequence[str | None] | None

PLAIN_MATCHES = [
    "$..[?(@a)]",
    "$..[?(@.a)]",
    "$..[?(@a && @b)]",
    "$..[?(@a || @b)]",
    "$..[?(@bp.a)]",
    "$..[?(@bp)]",
    "$..[?(@Body.a)]",
    "$..[?(@Body.bp.a && @Body.b)]",
    "$..[?(@a == 'A')]",
    "$..[?(@a == 1)]",
    "$..[?(@a != null)]",
    "$..[?(@a > 1.0)]",
    "$..[?(@a < '2030-01-01T00:00:00Z')]",
    "$..[?(@a =~ /A/i)]",
    "$..[?(@b && $.Body.a == 'A')]",
    "$..[?($.Body.a == 1 && @b)]",
    "$..[?(@Properties.p)]",
    "$..[?(@Body)]",
    "$.Body..[?(@a)]",
    "$",
    "$.Body",
    "$.Body.a",
    "$.Body.bp",
    "$.Body.bp.a",
    "$['Body']['a']",
]
QUERIES = ["Body", "Body.a", "Body.bp", "Body.bp.a", 'Body."a"', "Properties.p"]
LEGACY_PATHS = ["$.a", "$.b", "$.device", "$.at", "$.bp.a", "$.Body.a", "$.Body.device", "$.Body.at", "$", "$.bp"]
CALCULATED_PATHS = [
    "$.Body.a",
    "$.Body.b",
    "$.Body.device",
    "$.Body.at",
    "$.Body.bp.a",
    "$.matchedToken",
    "$.matchedToken.a",
    "$.matchedToken.bp.a",
    "$.Properties.p",
    "$.SystemProperties.iothub-connection-device-id",
    "$.elsewhere",
]
FORMULAS = [
    "add(Body.a, `1`)",
    "subtract(matchedToken, `0.5`)",
    "multiply(Body.a, Body.b)",
    "divide(Body.a, Body.b)",
    "divide(matchedToken.a, `3`)",
    "divide(floor(add(divide(multiply(subtract(Body.a, `32`), `500.0`), `9.0`), `0.5`)), `100.0`)",
    "pow(Body.a, `2`)",
    "floor(Body.a)",
    "ceil(matchedToken)",
    "to_number(Body.a)",
    "to_string(Body.bp.a)",
    "abs(Body.b)",
    "fromUnixTimestampMs(Body.a)",
    "Body.a",
]
NAMES = ["a", "b", "bp", "device", "at", "Body", "p", "other", "é", "\\u0061", "b\\u0070"]
MOMENT = '"2030-01-02T03:04:05Z"'
TAME_WORDS = ['"A"', '"x"', "null", "true", '"d1"', MOMENT, '"2030-01-02T03:04:05.5Z"', "0", "1"]
NUMBERS = ["-0", "-0.0", "1e400", "1E-05", "1e-400", "1E+16", "120.0", "1e15", "0.0001", "0.00001", "1e0400", "1e+99"]
NUMBERS += ["01", "1.", "-", "NaN", "9" * 320, "9" * 320 + ".5", "1" * 25, "9223372036854775808", "999999999.5"]
WORDS = [
    "A",
    "x",
    "",
    " ",
    "\\u00a0",
    "d1",
    "{",
    "[",
    '\\"a\\"',
    "3e999",
    "\\ud800",
    "\\ud83d\\ude00",
    "é",
    "12",
    "1_0",
]
WORDS += ["2030-01-02T03:04:05.123Z", "2030-02-30T03:04:05Z", "2030-01-02T03:04:05+02:00", "2030-01-02", "inf", "1e5"]
WORDS += ["2030-01-02T24:00:00Z", "0000-01-02T03:04:05Z", "2030-01-02T03:04:05.1234567Z", "2030-01-02T03:04:05"]
STRANGE = [b"", b" ", b"{", b"{}", b"1,2", b"{},{}", b"[" * 9 + b"]" * 9, b'{"z":' + b"[" * 9 + b"]" * 9 + b"}", b"7"]
HUB_PROPERTIES = [
    '{"iothub-creation-time-utc":null}',
    '{"p":"A","iothub-creation-time-utc":"2030-01-02T03:04:05Z"}',
    '{"iothub-connection-device-id":"d1","iothub-enqueuedtime":"2030-01-02T03:04:06Z"}',
    '{"iothub-connection-device-id":"d1","p":null}',
    "{}",
    "",
    None,
]


class Writer:
    """Writes JSON texts and mappings: mostly such as come every day, sometimes such as nobody expects."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.one_of = random.choice

    def rarely(self, one_in: int = 10) -> bool:
        return self.random.randrange(one_in) == 0

    def number(self) -> str:
        if self.rarely():
            return self.one_of([*NUMBERS, str(self.random.randrange(-(2**70), 2**70)), repr(self.random.gauss(0, 1e9))])
        return self.one_of([str(self.random.randrange(200)), f"{self.random.uniform(30, 45):.1f}"])

    def scalar(self) -> str:
        if self.rarely():
            return f'"{self.one_of(WORDS)}"'
        return self.number() if self.random.randrange(2) else self.one_of(TAME_WORDS)

    def value(self, depth: int = 0) -> str:
        kind = self.random.randrange(12) if depth < 5 else 2
        if kind == 0:
            return self.object([self.member(depth + 1) for _ in range(self.random.randrange(4))])
        if kind == 1:
            return f"[{','.join(self.value(depth + 1) for _ in range(self.random.randrange(4)))}]"
        return self.scalar()

    def member(self, depth: int = 0) -> str:
        name = self.one_of(NAMES if self.rarely(4) else ["a", "b"])
        blank = self.one_of(["", "", "", " ", "\n", "\t "])
        return f'{blank}"{name}"{blank}:{blank}{self.value(depth)}'

    def object(self, members: list[str]) -> str:
        return "{" + ",".join(members) + "}"

    def body(self) -> bytes:
        """A body as a device might send it, spoilt or not: a member twice, an object for a number, not JSON."""
        if self.rarely(20):
            return self.one_of([*STRANGE, self.value().encode()])
        device = self.scalar() if self.rarely() else '"d1"'
        moment = self.scalar() if self.rarely() else MOMENT
        members = [f'"device":{device}', f'"at":{moment}'] + [self.member() for _ in range(self.random.randrange(4))]
        if self.rarely(3):
            members.append(f'"bp":{{"{self.one_of("ab")}":{self.number()}}}')
        self.random.shuffle(members)
        text = self.object(members).encode()
        return self.one_of([text + b" ", text.replace("é".encode(), b"\xe9"), text[:-1]]) if self.rarely(20) else text

    def properties(self, count: int) -> Texts:
        if self.rarely(2):
            return None
        odd = ["[]", "x", "null", self.object([self.member() for _ in range(3)])]
        return [self.one_of(odd if self.rarely(20) else HUB_PROPERTIES) for _ in range(count)]

    def template(self) -> dict[str, Any]:
        kind = self.one_of(["JsonPathContent", "CalculatedContent", "CalculatedContent", "IotJsonPathContent"])
        calculated = kind == "CalculatedContent"
        match: Any = self.one_of([text for text in PLAIN_MATCHES if "@Body" in text or kind != "IotJsonPathContent"])
        if calculated and self.rarely(3):
            match = {"value": self.one_of(QUERIES), "language": "JmesPath"}
        top = "$.Body" if calculated or "Body." in match else "$"
        paths = CALCULATED_PATHS if calculated else LEGACY_PATHS

        def path() -> Any:
            if calculated and self.rarely(3):
                return {"value": self.one_of(FORMULAS), "language": "JmesPath"}
            return self.one_of(paths)

        content: dict[str, Any] = {
            "typeName": self.one_of(["one", "two", "three"]),
            "typeMatchExpression": match,
            "deviceIdExpression": path() if self.rarely() else f"{top}.device",
            "timestampExpression": path() if self.rarely() else f"{top}.at",
            "values": [
                {"valueName": self.one_of("uvw"), "valueExpression": path(), "required": self.rarely(5)}
                for _ in range(self.random.randrange(4))
            ],
        }
        for name in ("patientIdExpression", "encounterIdExpression", "correlationIdExpression"):
            if self.rarely(5):
                content[name] = path()
        return {"templateType": kind, "template": content}


def mapping_of(*templates: dict[str, Any]) -> DeviceMapping:
    return DeviceMapping.load({"templateType": "CollectionContent", "template": list(templates)})


def planned(mapping: DeviceMapping) -> TypedPlan:
    found = plan(mapping.templates)
    assert found is not None
    return found


def rows_of(table: pa.Table) -> Rows:
    assert table.schema.equals(NORMALIZED_SCHEMA)
    table.validate(full=True)
    instants = table["occurred_at"].cast(pa.int64()).to_pylist()
    return [{**row, "occurred_at": instant} for row, instant in zip(table.to_pylist(), instants, strict=True)]


def rows_of_measurement(message: int, ordinal: int, measurement: Measurement) -> Rows:
    kind, device_id, occurred_at, patient_id, encounter_id, correlation_id, properties = measurement
    head = (message, ordinal, kind, device_id, occurred_at, patient_id, encounter_id, correlation_id)
    values: list[tuple[object, ...]] = [(name, text, number_of(text)) for name, text in properties.items()]
    return [
        dict(zip(NORMALIZED_SCHEMA.names, (*head, *value), strict=True)) for value in values or [(None, None, None)]
    ]


def undecided_after_comparing(
    mapping: DeviceMapping, bodies: Sequence[bytes], properties: Texts = None, system_properties: Texts = None
) -> list[int]:
    """What the plan leaves undecided, once all else is what the interpreter says."""
    table, undecided = planned(mapping).decode(bodies, properties, system_properties, nesting_limit=NESTING_LIMIT)

    wanted: Rows = []
    for message in sorted(set(range(len(bodies))) - set(undecided)):
        try:
            measurements = mapping.interpret(
                {
                    "Body": decode_body(bodies[message], NESTING_LIMIT),
                    "Properties": decode_properties(properties[message] if properties else None),
                    "SystemProperties": decode_properties(system_properties[message] if system_properties else None),
                }
            )
        except MessageError as error:
            pytest.fail(f"decided what is refused: {error}")
        for ordinal, measurement in enumerate(measurements):
            wanted += rows_of_measurement(message, ordinal, measurement)
    # Minus zero equals zero but not as text.
    assert repr(rows_of(table)) == repr(wanted)
    assert undecided == sorted(set(undecided))
    return undecided
