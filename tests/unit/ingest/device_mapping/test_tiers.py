"""Every tier makes of any message what the interpreter makes of it: the same measurements, or the same refusal."""

import gc
import os
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mapping_strategies import bodies, jmespaths, jsonpaths, mappings, property_texts
from pulseweir.ingest.device_mapping.batch import Tier
from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA, REJECT_SCHEMA
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.columns import Rows
from tier_comparison import ANY, TOKEN, assert_equal, of_one, query, rows

EXAMPLES = int(os.environ.get("PULSEWEIR_EXAMPLES", "60"))
thorough = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
messages = st.lists(st.tuples(bodies(), property_texts, property_texts), min_size=1, max_size=4)


@thorough
@given(mappings(), messages)
def test_all_tiers_equal_the_interpreter(mapping: dict[str, Any], batch: list[tuple[bytes, Any, Any]]) -> None:
    assert_equal(mapping, batch)


expressions = st.one_of(jsonpaths, jmespaths.map(query))
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
