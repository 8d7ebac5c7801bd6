"""Every tier makes of any message what the interpreter makes of it: the same measurements, or the same refusal."""

import gc
import os
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mapping_strategies import bodies, jmespaths, jsonpaths, mappings, property_texts
from pulseweir.errors import MappingError, MessageError
from pulseweir.ingest.device_mapping.batch import Tier
from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA, REJECT_SCHEMA
from pulseweir.ingest.device_mapping.bodies import decode_body, decode_properties
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.columns import Rows

TIERS: tuple[Tier, ...] = ("auto", "tier1", "tier2")
EXAMPLES = int(os.environ.get("PULSEWEIR_EXAMPLES", "60"))
thorough = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
messages = st.lists(st.tuples(bodies(), property_texts, property_texts), min_size=1, max_size=4)


def loaded(mapping: dict[str, Any]) -> DeviceMapping | None:
    try:
        return DeviceMapping.load(mapping)
    except MappingError:
        return None


def attempt(normalize: Callable[[dict[str, object]], Any], envelope: dict[str, object]) -> Any:
    try:
        return [(*each[:-1], list(each.properties.items())) for each in normalize(envelope)]
    except MessageError as error:
        return (error.reason, str(error), error.template, error.expression, error.position)


def tables(mapping: DeviceMapping, batch: Sequence[tuple[bytes, Any, Any]], tier: Tier) -> tuple[str, Any]:
    made = mapping.normalize_batch(
        [body for body, _, _ in batch],
        properties=[properties for _, properties, _ in batch],
        system_properties=[system for _, _, system in batch],
        tier=tier,
    )
    assert made.measurements.schema == NORMALIZED_SCHEMA
    assert made.rejects.schema == REJECT_SCHEMA
    made.measurements.validate(full=True)
    # As text, so that a zero and a negative zero differ and a number is equal to itself.
    return repr(rows(made.measurements)), made.rejects.to_pylist()


def rows(table: pa.Table) -> list[Any]:
    columns = []
    for column in table.columns:
        kind = column.type
        simple = pa.utf8() if pa.types.is_dictionary(kind) else pa.int64() if pa.types.is_timestamp(kind) else kind
        columns.append(column.cast(simple).to_pylist())
    return list(zip(*columns, strict=True))


def assert_equal(mapping: dict[str, Any], batch: Sequence[tuple[bytes, Any, Any]]) -> None:
    device_mapping = loaded(mapping)
    if device_mapping is None:
        return
    expected = tables(device_mapping, batch, "interpreter")
    for tier in TIERS:
        assert tables(device_mapping, batch, tier) == expected, tier
    for body, properties, system in batch:
        try:
            envelope: dict[str, object] = {
                "Body": decode_body(body, 64),
                "Properties": decode_properties(properties),
                "SystemProperties": decode_properties(system),
            }
        except MessageError:
            continue
        assert repr(attempt(device_mapping.normalize, envelope)) == repr(attempt(device_mapping.interpret, envelope))


@thorough
@given(mappings(), messages)
def test_all_tiers_equal_the_interpreter(mapping: dict[str, Any], batch: list[tuple[bytes, Any, Any]]) -> None:
    assert_equal(mapping, batch)


DEVICE = {"value": "'m1'", "language": "JmesPath"}
MOMENT = {"value": "fromUnixTimestamp(`1893456000`)", "language": "JmesPath"}


def of_one(match: object, *values: object) -> dict[str, Any]:
    """A mapping of one template that needs nothing of a message but what the expressions ask."""
    content = {
        "typeName": "t",
        "typeMatchExpression": match,
        "deviceIdExpression": DEVICE,
        "timestampExpression": MOMENT,
        "values": [{"valueName": f"v{place}", "valueExpression": value} for place, value in enumerate(values)],
    }
    return {
        "templateType": "CollectionContent",
        "template": [{"templateType": "CalculatedContent", "template": content}],
    }


expressions = st.one_of(jsonpaths, jmespaths.map(lambda text: {"value": text, "language": "JmesPath"}))
TOKEN = {"value": "to_string(matchedToken)", "language": "JmesPath"}
ANY = {"value": "'x'", "language": "JmesPath"}
several = st.lists(bodies(), min_size=1, max_size=4).map(lambda found: [(body, None, None) for body in found])


@thorough
@given(expressions, several)
@example("$.Body.list[-1].v", [(b'{"list":[{"v":-0.0},{"v":1e-5}]}', None, None)])
@example("$.Body[?(@ != 5 )]", [(b'{"a":1}', None, None)])
@example("$.Body.list[?(@.v <= '2030-01-01' )]", [(b'{"list":[{"v":"2029-12-31T23:00:00-02:00"}]}', None, None)])
@example({"value": "sum(Body)", "language": "JmesPath"}, [(b"[" + b"9" * 4300 + b"," + b"9" * 4300 + b"]", None, None)])
@example({"value": "Body == `1`", "language": "JmesPath"}, [(b"true", None, None), (b"1.0", None, None)])
@example({"value": "Body || !Body", "language": "JmesPath"}, [(b"0", None, None), (b"-0.0", None, None)])
def test_every_value_expression_means_the_same_in_all_tiers(value: object, batch: list[Any]) -> None:
    assert_equal(of_one(ANY, value), batch)


@thorough
@given(expressions, several)
@example("$.Body", [(b"null", None, None), (b"", None, None)])
@example("$..[?(@.a && @.b == null)]", [(b'{"a":{"a":1,"b":null},"b":null}', None, None)])
@example({"value": "Body[].a", "language": "JmesPath"}, [(b'[{"a":1},[{"a":null},{"a":[2]}]]', None, None)])
def test_every_type_match_means_the_same_in_all_tiers(match: object, batch: list[Any]) -> None:
    assert_equal(of_one(match, TOKEN, "$.matchedToken"), batch)


def test_generated_source_decides_what_devices_send() -> None:
    mapping = DeviceMapping.load(
        of_one(
            "$..[?(@.a > 1 && @.k =~ /^x/)]",
            "$.matchedToken.a",
            "$.Body.list[1:].v",
            {"value": "sort_by(Body.list, &v)[-1].v", "language": "JmesPath"},
            {"value": "divide(Body.a, `2.0`)", "language": "JmesPath"},
            {"value": "Body.list[?v > `1`].v | [0]", "language": "JmesPath"},
        )
    )
    program = mapping.tiers.program
    assert program is not None
    found = Rows(program.layouts)

    program.bind(*found.appends())(0, {"Body": {"a": 5, "k": "xy", "list": [{"v": 1}, {"v": 2}]}})

    assert [column[0] for column in found.own[0]] == [5, 2, 2, 2.5, 2]


def test_equal_mappings_share_what_was_compiled_of_them() -> None:
    one, two = (DeviceMapping.load(of_one("$.Body", "$.Body.a")) for _ in range(2))
    other = DeviceMapping.load(of_one("$.Body", "$.Body.b"))

    assert one.tiers is two.tiers
    assert one.tiers is not other.tiers


@pytest.mark.parametrize("tier", ["tier1", "tier2", "interpreter"])
def test_a_batch_is_ordered_and_a_refused_message_stands_alone(tier: Tier) -> None:
    content = {"typeName": "t", "typeMatchExpression": "$..[?(@v)]", "deviceIdExpression": "$.d"}
    values = [{"valueName": name, "valueExpression": f"$.{name}"} for name in ("v", "w")]
    template = {
        "templateType": "JsonPathContent",
        "template": content | {"timestampExpression": "$.at", "values": values},
    }
    mapping = DeviceMapping.load({"templateType": "CollectionContent", "template": [template]})
    good = b'{"d":"m","at":"2030-01-01T00:00:00Z","v":%s}'

    made = mapping.normalize_batch(
        [good % b"1", b'{"v":1}', b"[", good % b'[1],"w":"x"', b"{}", good % b"null"], tier=tier
    )

    assert [row[0:2] + row[8:] for row in rows(made.measurements)] == [
        (0, 0, "v", "1", 1.0),
        (3, 0, "w", "x", None),
        (5, 0, None, None, None),
    ]
    assert [(row["message"], row["reason"]) for row in made.rejects.to_pylist()] == [
        (1, "incompatible-data"),
        (2, "not-json"),
    ]


def test_a_batch_may_be_empty() -> None:
    made = DeviceMapping.load(of_one("$.Body", "$.Body.a")).normalize_batch([])

    assert (made.measurements.num_rows, made.rejects.num_rows) == (0, 0)
    assert (made.measurements.schema, made.rejects.schema) == (NORMALIZED_SCHEMA, REJECT_SCHEMA)


def test_normalizing_again_and_again_keeps_nothing() -> None:
    mapping = DeviceMapping.load(of_one("$..[?(@a)]", "$.Body.a", "$.Body.text"))

    def push(first: int) -> None:
        for number in range(first, first + 20):
            batch = [b'{"a":%d,"text":"%d"}' % (number * 50 + place, number * 50 + place) for place in range(50)]
            assert mapping.normalize_batch(batch, tier="tier1").measurements.num_rows == 100
            assert mapping.normalize_batch(batch, tier="auto").measurements.num_rows == 100

    push(0)
    gc.collect()
    tracemalloc.start()
    push(100)
    gc.collect()
    after_some, _ = tracemalloc.get_traced_memory()
    push(200)
    push(300)
    gc.collect()
    after_many, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after_many - after_some < 100_000
