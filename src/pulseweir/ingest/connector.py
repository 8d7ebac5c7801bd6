"""Steps 4-5b: the worker that makes measurements of device messages and settles whose they are.

Every message is counted once: normalized, quarantined with a reason, filtered by a named rule, or parked until its
device and patient are known. It is evaluated as a whole before anything of it goes on.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from pulseweir.backends.bus.base import SetAside
from pulseweir.clock import real_microseconds
from pulseweir.errors import MessageError
from pulseweir.ingest.catalog import MappingPair, Mappings
from pulseweir.ingest.device_mapping.bodies import decode_body, decode_properties, refuse_large
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.identity import Association, Identity, Question
from pulseweir.ingest.measurement_rows import MeasurementRows
from pulseweir.ingest.settings import ConnectorSettings
from pulseweir.records.columns import values
from pulseweir.records.topics import DEVICE_MESSAGES, MEASUREMENTS
from pulseweir.telemetry import CLOCK_SKEW, CONNECTOR_DEVICE_EVENTS, CONNECTOR_NORMALIZED, CONNECTOR_UNMATCHED
from pulseweir.worker import Handled, Stage, record_id

GROUP = "connector"
NORMALIZED = "normalized"
DUPLICATE = "filtered:duplicate"
UNMATCHED = "filtered:unmatched"
_SECOND = 1_000_000
_REMEDIES = {
    "device-unknown": "No Device has this device id. Create the Device in the FHIR service, then redrive.",
    "patient-unknown": "No Patient had this device when it measured. Assign it, then redrive.",
    "encounter-unknown": "No Encounter has the identifier the message names. Create the Encounter, then redrive.",
}


async def _nothing() -> None:
    return


class _Message(NamedTuple):
    table: pa.Table
    place: int
    message_id: str
    kind: str
    received_at: int
    properties: str | None
    system_properties: str | None
    body: bytes
    first_parked: int | None

    @property
    def row(self) -> pa.Table:
        return self.table.slice(self.place, 1)


class _Prepared(NamedTuple):
    message: _Message
    pair: MappingPair
    measurements: list[Measurement]


class ConnectorStage(Stage):
    """Step 4: device messages to measurements.

    Args:
        mappings: Of the catalog and the site.
        identity: Who wore what when.
        seen_before: Which message ids this group has already committed as dealt with.
        settings: What is accepted.
        real_clock: Real microseconds, for how long a message has waited.
        before_batch: Called before each batch: the only moment at which the mappings may change.
    """

    topic = DEVICE_MESSAGES
    group = GROUP
    row_limit = 1_000
    gather_seconds = 0.01

    def __init__(
        self,
        mappings: Mappings,
        identity: Identity,
        seen_before: Callable[[Sequence[str]], Awaitable[set[str]]],
        settings: ConnectorSettings | None = None,
        real_clock: Callable[[], int] = real_microseconds,
        before_batch: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        self._mappings = mappings
        self._identity = identity
        self._seen_before = seen_before
        self._settings = settings or ConnectorSettings()
        self._real_clock = real_clock
        self._before_batch = before_batch

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Normalize new messages; repeated ones are dropped and counted.

        Raises:
            RetryLater: The FHIR service does not answer; nothing counts as done.
        """
        await self._before_batch()
        handled = Handled()
        messages = [message for table in tables.values() for message in _messages(table, None)]
        CONNECTOR_DEVICE_EVENTS.inc(len(messages))
        seen = await self._seen_before([message.message_id for message in messages])
        fresh: list[_Message] = []
        for message in messages:
            if message.message_id in seen:
                handled.outcome.count(DUPLICATE)
            else:
                seen.add(message.message_id)
                fresh.append(message)
        await self._process(fresh, handled)
        # Set aside counts as dealt with: the same message sent again must not wait beside itself.
        handled.outcome.seen = [message.message_id for message in fresh]
        return handled

    async def handle_parked(self, rows: pa.Table, first_parked_microseconds: list[int]) -> Handled:
        """Try messages again whose device or patient was unknown, and messages a person redrives.

        Raises:
            RetryLater: The FHIR service does not answer; they stay parked.
        """
        await self._before_batch()
        handled = Handled()
        await self._process(_messages(rows, first_parked_microseconds), handled)
        return handled

    async def _process(self, messages: Sequence[_Message], handled: Handled) -> None:
        prepared = [one for one in (self._prepare(message, handled) for message in messages) if one is not None]
        questions = {
            Question(measurement.device_id, measurement.occurred_at_microseconds, measurement.encounter_id)
            for one in prepared
            for measurement in one.measurements
        }
        answers = await self._identity.resolve_many(questions)
        rows = MeasurementRows()
        types: Counter[str] = Counter()
        for one in prepared:
            self._emit(one, answers, rows, handled)
            types.update(measurement.type for measurement in one.measurements)
        for type_name, number in types.items():
            CONNECTOR_NORMALIZED.labels(type_name).inc(number)
        if rows.count:
            handled.publish.append((MEASUREMENTS, rows.table()))

    def _prepare(self, message: _Message, handled: Handled) -> _Prepared | None:
        """Evaluate one message completely; None when it goes no further."""
        pair = self._mappings.for_kind(message.kind)
        try:
            if pair is None:
                raise _no_mapping(message.kind)
            envelope = self._envelope(message)
            measurements = pair.device.normalize(envelope)
        except MessageError as error:
            handled.outcome.quarantined.append(_set_aside(message, error))
            return None
        if measurements:
            return _Prepared(message, pair, measurements)
        if isinstance(envelope["Body"], dict | list):
            handled.outcome.count(UNMATCHED)
            CONNECTOR_UNMATCHED.labels("no-template").inc()
        else:
            handled.outcome.quarantined.append(_set_aside(message, _wrong_shape()))
        return None

    def _envelope(self, message: _Message) -> dict[str, object]:
        refuse_large(message.body, self._settings.body_limit_bytes)
        body = decode_body(message.body, self._settings.nesting_limit)
        return {
            "Body": body,
            "Properties": decode_properties(message.properties),
            "SystemProperties": decode_properties(message.system_properties),
        }

    def _emit(
        self, one: _Prepared, answers: Mapping[Question, Association], rows: MeasurementRows, handled: Handled
    ) -> None:
        """Give the measurements of a message to the output; park it while any of them has no patient."""
        message = one.message
        pairs = [(measurement, answers[_question(measurement)]) for measurement in one.measurements]
        missing = next((answer.missing for _, answer in pairs if answer.missing), None)
        if missing is not None and message.first_parked is not None:
            self._keep_waiting(message, missing, handled)
            return
        before = rows.count
        try:
            for measurement, answer in pairs:
                if answer.missing is None:
                    rows.add(measurement, answer, one.pair, message.message_id, message.received_at)
        except MessageError as error:
            rows.cut(before)
            handled.outcome.quarantined.append(_set_aside(message, error))
            return
        if missing is not None:
            # Siblings in the same message do not wait; they repeat, without effect, when the message is complete.
            self._keep_waiting(message, missing, handled)
            return
        handled.outcome.count(NORMALIZED)
        CLOCK_SKEW.observe((message.received_at - one.measurements[0].occurred_at_microseconds) / _SECOND)

    def _keep_waiting(self, message: _Message, missing: str, handled: Handled) -> None:
        error = MessageError(_REMEDIES[missing], reason=missing)
        since = message.first_parked
        is_over = since is not None and self._real_clock() - since >= self._settings.identity_wait_seconds * _SECOND
        target = handled.outcome.quarantined if is_over else handled.outcome.parked
        target.append(_set_aside(message, error))


def _messages(table: pa.Table, first_parked: list[int] | None) -> list[_Message]:
    names = ("message_id", "kind", "properties_json", "system_properties_json", "body")
    ids, kinds, properties, system, bodies = (values(table[name]) for name in names)
    received = values(table["received_at"])
    return [
        _Message(
            table,
            index,
            ids[index],
            kinds[index] or "",
            received[index],
            properties[index],
            system[index],
            bodies[index] or b"",
            first_parked[index] if first_parked is not None else None,
        )
        for index in range(table.num_rows)
    ]


def _question(measurement: Measurement) -> Question:
    return Question(measurement.device_id, measurement.occurred_at_microseconds, measurement.encounter_id)


def _set_aside(message: _Message, error: MessageError) -> SetAside:
    row = message.row
    return SetAside(
        record_id(DEVICE_MESSAGES, row),
        row,
        GROUP,
        error.reason,
        str(error),
        error.template,
        error.expression,
        error.position,
    )


def _no_mapping(kind: str) -> MessageError:
    known = f"the catalog has no kind {kind!r}" if kind else "the device has no catalog kind"
    return MessageError(
        f"No mapping for this device: {known} and the site has no mapping of its own."
        " Register the device with a kind of the catalog, or set the site's mappings; then redrive.",
        reason="no-mapping",
    )


def _wrong_shape() -> MessageError:
    return MessageError(
        "The body is neither a JSON object nor an array, so no template can match. Send an object.",
        reason="wrong-shape",
        position="$.Body",
    )
