"""Step 4: measurements in the predecessor's normalized message format, for other consumers. Pure.

One message for what one device measured of one type at one instant. Ids are those of the FHIR resources. The key
keeps a device in order and is the predecessor's, so that its consumers find their partitions.
"""

import msgspec
import pyarrow as pa

from pulseweir.ingest.device_mapping.tokens import instant_text
from pulseweir.records.columns import values

_COLUMNS = ("device_id", "type", "patient_id", "encounter_id", "correlation_id", "message_id", "name", "text")
_PARTITIONS = 256


def normalized_messages(table: pa.Table) -> list[tuple[str, bytes]]:
    """(key, JSON) of every measurement in a ``measurements`` table, in order of appearance.

    A measurement without values has one row without a name, and no properties.
    """
    columns = [values(table[name]) for name in _COLUMNS]
    occurred = values(table["occurred_at"])
    received = values(table["received_at"])
    found: dict[tuple[object, ...], list[dict[str, str]]] = {}
    for *head, name, text, measured, arrived in zip(*columns, occurred, received, strict=True):
        properties = found.setdefault((*head, measured, arrived), [])
        if name is not None:
            properties.append({"Name": name, "Value": text})
    return [(partition_key(str(head[0])), _message(head, properties)) for head, properties in found.items()]


def partition_key(device_id: str) -> str:
    """The predecessor's partition of a device: a 32-bit hash over UTF-16 units of the lower-cased id, modulo 256.

    >>> partition_key("device-1") == partition_key("DEVICE-1")
    True
    """
    units = device_id.lower().encode("utf-16-le")
    value = 0
    for at in range(0, len(units), 2):
        value = (31 * value + int.from_bytes(units[at : at + 2], "little")) & 0xFFFFFFFF
    signed = value - 2**32 if value >= 2**31 else value
    return str(abs(signed) % _PARTITIONS)


def _message(head: tuple[object, ...], properties: list[dict[str, str]]) -> bytes:
    device_id, kind, patient_id, encounter_id, correlation_id, _, measured, arrived = head
    return msgspec.json.encode(
        {
            "Type": kind,
            "OccurrenceTimeUtc": instant_text(int(str(measured))),
            "IngestionTimeUtc": instant_text(int(str(arrived))),
            "DeviceId": device_id,
            "PatientId": patient_id,
            "EncounterId": encounter_id,
            "CorrelationId": correlation_id,
            "Properties": properties,
        }
    )
