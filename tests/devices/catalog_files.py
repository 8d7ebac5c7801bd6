"""The files of the device catalog, as every test of it reads them."""

from pathlib import Path
from typing import Any

import msgspec

from pulseweir.ingest.catalog import catalog_directory, catalog_kinds

KINDS = catalog_kinds(catalog_directory())
Row = dict[str, Any]


def read(folder: Path, name: str) -> Any:
    return msgspec.json.decode((folder / f"{name}.json").read_bytes())


def envelope(folder: Path) -> Row:
    """The kind's message as the connector sees it; most give only a body."""
    message = read(folder, "message")
    is_whole = isinstance(message, dict) and "Body" in message
    return message if is_whole else {"Body": message, "Properties": {}, "SystemProperties": {}}


def groups(folder: Path) -> list[tuple[Row, list[Row]]]:
    """The kind's measurements as the FHIR mapping takes them: a group, and the measurements in it, in order."""
    found: dict[tuple[str | None, ...], list[Row]] = {}
    for one in read(folder, "measurements"):
        names = ("type", "device_id", "patient_id", "encounter_id", "correlation_id")
        found.setdefault(tuple(one.get(name) for name in names), []).append(one)
    return [
        (
            {
                "measureType": rows[0]["type"],
                "correlationId": rows[0].get("correlation_id"),
                "data": [{"occurrenceTimeUtc": one["occurred_at"], "properties": one["properties"]} for one in rows],
            },
            rows,
        )
        for rows in found.values()
    ]
