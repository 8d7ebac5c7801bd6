"""Whether every tier makes of messages what the interpreter makes of them: the same rows, or the same refusals."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from pulseweir.errors import MappingError, MessageError
from pulseweir.ingest.device_mapping.batch import Tier
from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA, REJECT_SCHEMA
from pulseweir.ingest.device_mapping.bodies import decode_body, decode_properties
from pulseweir.ingest.device_mapping.collection import DeviceMapping

TIERS: tuple[Tier, ...] = ("auto", "tier1")  # auto starts at tier 2 where a mapping allows it


def query(text: str) -> dict[str, str]:
    return {"value": text, "language": "JmesPath"}


DEVICE = query("'m1'")
MOMENT = query("fromUnixTimestamp(`1893456000`)")
TOKEN = query("to_string(matchedToken)")
ANY = query("'x'")


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
