"""The topics of the bus, the Arrow schema of each, and the column its shards are cut by. Pure.

Instants are int64 microseconds UTC (Arrow ``timestamp[us, UTC]``). Columns named ``*_json`` hold one JSON
document a row. No column holds a name, an address or an identifier of a person: `patient_id` is the logical
id of a FHIR Patient.
"""

import pyarrow as pa

INSTANT = pa.timestamp("us", tz="UTC")
_NAME = pa.dictionary(pa.int32(), pa.utf8())

DEVICE_MESSAGES = "device-messages"
MEASUREMENTS = "measurements"
PATIENT_MEASUREMENTS = "patient-measurements"
RISK_SCORES = "risk-scores"
ALERT_EVENTS = "alert-events"

DEVICE_MESSAGE_SCHEMA = pa.schema(
    [
        ("message_id", pa.utf8()),  # 64 hex: `identifiers.message_id`
        ("device_id", _NAME),  # the connection's device; a gateway's own id when it carries others
        ("kind", _NAME),  # catalog kind from the registry, "" when none
        ("received_at", INSTANT),  # hub clock
        ("properties_json", pa.utf8()),  # application properties: object of text
        ("system_properties_json", pa.utf8()),  # IoT Hub system properties: object of text
        ("body", pa.binary()),  # as sent, untouched
    ]
)

_MEASUREMENT_FIELDS = [
    ("message_id", pa.utf8()),  # of the device message it was made of
    ("device_id", _NAME),  # from the mapping: the device that measured
    ("type", _NAME),  # typeName of the device mapping
    ("name", _NAME),  # valueName of the device mapping; null in the one row of a measurement without values
    ("text", pa.utf8()),  # the value as the mapping rendered it; null as above
    ("number", pa.float64()),  # the value as a number, null when it is none
    ("occurred_at", INSTANT),  # device clock = FHIR effective
    ("received_at", INSTANT),  # hub clock
    ("patient_id", _NAME),  # logical id of the Patient who wore the device then
    ("encounter_id", _NAME),  # logical id of the Encounter; null when none
    ("correlation_id", _NAME),  # what the mapping groups by; null when none
    ("code", _NAME),  # LOINC; null when the FHIR mapping has no such type or value
    ("unit", _NAME),  # UCUM code; null as above
    ("observation_id", pa.utf8()),  # id of the Observation that will hold the value; null as above
    ("implausible", pa.bool_()),  # outside the absolute bounds of its code: kept, shown, never scored
    ("mapping_version", _NAME),  # short hash of the two mappings that made it
]
MEASUREMENT_SCHEMA = pa.schema(_MEASUREMENT_FIELDS)

PATIENT_MEASUREMENT_SCHEMA = pa.schema(
    [
        *_MEASUREMENT_FIELDS,
        ("age_years", pa.int16()),  # null when unknown
        ("sex", _NAME),  # FHIR administrative gender, null when unknown
        ("ward", _NAME),  # name of the ward's Location, null when unknown
        ("bed", _NAME),  # name of the bed's Location, null when unknown
        ("spo2_scale", pa.int8()),  # 1, or 2 on a clinician's recorded decision; null while nobody could read it
        ("conditions", pa.list_(pa.utf8())),  # codes of active Conditions
        ("context_version", pa.int64()),  # version of the patient context; 0 = not known yet
        ("quality", _NAME),  # good, suspect, impossible, future
        ("pregnant", pa.bool_()),  # by an active Condition; null while nobody could read the Conditions
    ]
)

PATIENT_CONTEXT_TYPE = "patient-context"
"""`type` of a patient measurement that carries no value, only what has become known of its patient since."""

RISK_SCORE_SCHEMA = pa.schema(
    [
        ("patient_id", _NAME),  # logical id of the Patient
        ("model", _NAME),  # name of the risk model
        ("model_version", _NAME),  # its version
        ("window_start", INSTANT),  # first instant of the window
        ("window_end", INSTANT),  # first instant after it
        (
            "revision",
            pa.int32(),
        ),  # 1 for the first final, +1 each time late data changes it; 0 while preliminary
        ("preliminary", pa.bool_()),  # the window has not closed
        ("live", pa.bool_()),  # a live row: for repository and screens, not the final word on its window
        ("backfill", pa.bool_()),  # already old on arrival: scored and shown, never an alert
        ("status", _NAME),  # complete, partial, insufficient-data, abstained
        ("score", pa.float64()),  # null when insufficient-data or abstained
        ("probability", pa.float64()),  # 0 to 1, null when the model gives none
        ("band", _NAME),  # low, low-medium, medium, high; null when insufficient-data
        ("single_red", pa.bool_()),  # any single parameter scored 3
        ("contributions_json", pa.utf8()),  # list of parameter and points
        ("inputs_json", pa.utf8()),  # list of what was scored: parameter, value, unit, instant, source
        ("missing", pa.list_(pa.utf8())),  # parameters without a usable value
        ("stale", pa.list_(pa.utf8())),  # parameters whose newest value is older than its maximum age
        ("basis", pa.list_(pa.utf8())),  # observation ids
        ("newest_occurred_at", INSTANT),  # of the newest measurement in the window
        ("newest_received_at", INSTANT),  # likewise by the hub clock
        ("ward", _NAME),  # as in patient-measurements
        ("bed", _NAME),  # likewise
        ("age_years", pa.int16()),  # likewise
        ("sex", _NAME),  # likewise
        ("spo2_scale", pa.int8()),  # the scale that was scored by; null while it is not known
        ("scored_at", INSTANT),  # processed_at of the engine
        ("unknown", pa.list_(pa.utf8())),  # what was not known of the patient: age, pregnancy, spo2_scale
        ("doubtful", pa.list_(pa.utf8())),  # parameters whose scored value is not the newest thing known of them
        ("abstained", _NAME),  # why the model may not score this patient; null when it may
        ("sign_of_life_at", INSTANT),  # when the newest usable reading was true; null when there is none
    ]
)

ALERT_EVENT_SCHEMA = pa.schema(
    [
        ("event_id", pa.utf8()),  # 64 hex
        ("alert_id", pa.utf8()),  # of the alert
        ("patient_id", _NAME),  # logical id of the Patient
        ("rule", _NAME),  # rule family: the model whose score raised it
        ("transition", _NAME),  # what happened: to a Flag (flag-opened …) or to an alert (raised, notified …)
        ("occurred_at", INSTANT),  # when it happened, house clock
        ("detail_json", pa.utf8()),  # facts of the transition, without names
    ]
)

SCHEMAS = {
    DEVICE_MESSAGES: DEVICE_MESSAGE_SCHEMA,
    MEASUREMENTS: MEASUREMENT_SCHEMA,
    PATIENT_MEASUREMENTS: PATIENT_MEASUREMENT_SCHEMA,
    RISK_SCORES: RISK_SCORE_SCHEMA,
    ALERT_EVENTS: ALERT_EVENT_SCHEMA,
}

SHARD_COLUMN = {
    DEVICE_MESSAGES: "device_id",
    MEASUREMENTS: "device_id",
    PATIENT_MEASUREMENTS: "patient_id",
    RISK_SCORES: "patient_id",
    ALERT_EVENTS: "patient_id",
}

LATER_COLUMNS = frozenset({"pregnant", "unknown", "doubtful", "abstained", "sign_of_life_at"})
"""Columns that topics have got since the first release; null in rows that an older one wrote."""


def with_later_columns(table: pa.Table, topic: str) -> pa.Table:
    """A table that an older release wrote, with the columns its topic has got since, all null.

    Topics gain only columns that may be null, so that work in flight survives an upgrade.
    """
    for field in SCHEMAS.get(topic, ()):
        if field.name in LATER_COLUMNS and field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table
