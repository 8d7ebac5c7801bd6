"""Steps 4-5b: the worker that makes measurements of device messages and settles whose they are.

Every message is counted once: normalized, quarantined with a reason, filtered by a named rule, or parked until its
device and patient are known. It is evaluated as a whole before anything of it goes on. What is done, is done for a
whole batch: there is no Python object a measurement.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pulseweir.backends.bus.base import SetAside
from pulseweir.clock import real_microseconds
from pulseweir.errors import MessageError
from pulseweir.ingest.catalog import MappingPair, Mappings
from pulseweir.ingest.identity import REJECTED, REMEDIES, Association, Identity, Question
from pulseweir.ingest.measurement_columns import Flags, Integers, NormalizedShare, Words
from pulseweir.ingest.settings import ConnectorSettings
from pulseweir.records.columns import values
from pulseweir.records.topics import DEVICE_MESSAGES, MEASUREMENT_SCHEMA, MEASUREMENTS
from pulseweir.telemetry import CLOCK_SKEW, CONNECTOR_DEVICE_EVENTS, CONNECTOR_NORMALIZED, CONNECTOR_UNMATCHED
from pulseweir.worker import Handled, Stage, record_id

GROUP = "connector"
NORMALIZED = "normalized"
DUPLICATE = "filtered:duplicate"
UNMATCHED = "filtered:unmatched"
_SECOND = 1_000_000
_JSON_SPACE = b" \t\r\n"


async def _nothing() -> None:
    return


class _Share(NamedTuple):
    """The messages of a batch that go through one mapping pair.

    Attributes:
        places: Of its messages in the batch, in order.
        columns: What the pair made of them; messages count from 0 within the share.
        is_made: For each message whether it made a measurement.
    """

    places: Integers
    columns: NormalizedShare
    is_made: Flags


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
    gather_seconds = 0.02

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
        messages = _joined(tables.values())
        CONNECTOR_DEVICE_EVENTS.inc(messages.num_rows)
        ids = values(messages["message_id"])
        # The first of equal ids stays.
        fresh = {message_id: place for place, message_id in reversed(list(enumerate(ids)))}
        for message_id in await self._seen_before(ids):
            fresh.pop(message_id, None)
        handled.outcome.count(DUPLICATE, len(ids) - len(fresh))
        places = sorted(fresh.values())
        if len(places) < len(ids):
            messages = messages.take(pa.array(places, pa.int64()))
        await self._process(_Batch(messages, None), handled)
        # Set aside counts as dealt with: the same message sent again must not wait beside itself.
        handled.outcome.seen = values(messages["message_id"])
        return handled

    async def handle_parked(self, rows: pa.Table, first_parked_microseconds: list[int]) -> Handled:
        """Try messages again whose device or patient was unknown, and messages a person redrives.

        Raises:
            RetryLater: The FHIR service does not answer; they stay parked.
        """
        await self._before_batch()
        handled = Handled()
        await self._process(_Batch(_joined([rows]), first_parked_microseconds), handled)
        return handled

    async def _process(self, batch: "_Batch", handled: Handled) -> None:
        shares = [self._normalized(pair, places, batch, handled) for pair, places in self._shared_out(batch, handled)]
        answers = await self._identity.resolve_many(
            [question for share in shares for question in share.columns.questions]
        )
        emitted = [self._emit(share, answers, batch, handled) for share in shares]
        rows = _in_order(emitted)
        if rows.num_rows:
            handled.publish.append((MEASUREMENTS, rows))

    def _shared_out(self, batch: "_Batch", handled: Handled) -> list[tuple[MappingPair, Integers]]:
        """The messages of each mapping pair; those without one go to quarantine."""
        kinds = batch.kinds()
        pairs: dict[str, MappingPair] = {}
        shared: dict[str, list[Integers]] = {}
        for kind, places in kinds.items():
            pair = self._mappings.for_kind(kind)
            if pair is None:
                handled.outcome.quarantined += [batch.set_aside(place, _no_mapping(kind)) for place in places.tolist()]
            else:
                pairs[pair.name] = pair
                shared.setdefault(pair.name, []).append(places)
        return [(pairs[name], np.sort(np.concatenate(found))) for name, found in shared.items()]

    def _normalized(self, pair: MappingPair, places: Integers, batch: "_Batch", handled: Handled) -> _Share:
        """What a pair makes of its messages; refused and unmatched ones go no further."""
        messages = batch.messages
        own = messages if len(places) == messages.num_rows else messages.take(pa.array(places))
        bodies = [body or b"" for body in values(own["body"])]
        normalized = pair.device.normalize_batch(
            bodies,
            properties=values(own["properties_json"]),
            system_properties=values(own["system_properties_json"]),
            nesting_limit=self._settings.nesting_limit,
            body_limit_bytes=self._settings.body_limit_bytes,
        )
        columns = NormalizedShare(pair, normalized.measurements)
        is_made = np.zeros(len(places), np.bool_)
        is_made[columns.message] = True
        is_refused = np.zeros(len(places), np.bool_)
        for row in normalized.rejects.to_pylist():
            is_refused[row["message"]] = True
            handled.outcome.quarantined.append(batch.set_aside(int(places[row["message"]]), _refusal(row)))
        for index in np.flatnonzero(~is_made & ~is_refused).tolist():
            if bodies[index].lstrip(_JSON_SPACE)[:1] in {b"{", b"["}:
                handled.outcome.count(UNMATCHED)
                CONNECTOR_UNMATCHED.labels("no-template").inc()
            else:
                handled.outcome.quarantined.append(batch.set_aside(int(places[index]), _wrong_shape()))
        return _Share(places, columns, is_made)

    def _emit(
        self, share: _Share, answers: Mapping[Question, Association], batch: "_Batch", handled: Handled
    ) -> tuple[pa.Table, Integers]:
        """Rows of a share with the place of their message; a message waits while any of it has no patient.

        Siblings of what has to wait go on at first sight; they repeat, without effect, when the message is complete.
        """
        missing: dict[int, str] = {}
        for message, question in zip(share.columns.run_message.tolist(), share.columns.questions, strict=True):
            word = answers[question].missing
            if word is not None and missing.get(message) not in REJECTED:
                missing[message] = word if word in REJECTED else missing.get(message, word)
        goes_on = share.is_made.copy()
        if batch.first_parked is not None:
            goes_on[list(missing)] = False
        rows, message_of_row, refused = share.columns.rows(answers, goes_on)
        for message, error in refused.items():
            handled.outcome.quarantined.append(batch.set_aside(int(share.places[message]), error))
        for message in missing.keys() - refused.keys():
            self._keep_waiting(int(share.places[message]), missing[message], batch, handled)
        is_normalized = share.is_made.copy()
        is_normalized[[*missing, *refused]] = False
        self._count(share, is_normalized, batch, handled)
        return batch.completed(rows, share.places[message_of_row]), share.places[message_of_row]

    @staticmethod
    def _count(share: _Share, is_normalized: Flags, batch: "_Batch", handled: Handled) -> None:
        handled.outcome.count(NORMALIZED, int(is_normalized.sum()))
        for type_name, number in share.columns.types(is_normalized).items():
            CONNECTOR_NORMALIZED.labels(type_name).inc(number)
        messages, occurred = share.columns.first_occurred(is_normalized)
        for seconds in ((batch.received_at[share.places[messages]] - occurred) / _SECOND).tolist():
            CLOCK_SKEW.observe(seconds)

    def _keep_waiting(self, place: int, missing: str, batch: "_Batch", handled: Handled) -> None:
        since = None if batch.first_parked is None else batch.first_parked[place]
        is_over = since is not None and self._real_clock() - since >= self._settings.identity_wait_seconds * _SECOND
        target = handled.outcome.quarantined if is_over or missing in REJECTED else handled.outcome.parked
        target.append(batch.set_aside(place, MessageError(REMEDIES[missing], reason=missing)))


class _Batch:
    """Device messages under way together.

    Attributes:
        messages: In the topic's schema, one chunk.
        first_parked: When each was parked, real microseconds; None for new messages.
        received_at: Hub clock of each, microseconds.
    """

    def __init__(self, messages: pa.Table, first_parked: Sequence[int] | None) -> None:
        self.messages = messages
        self.first_parked = first_parked
        self.received_at: Integers = messages["received_at"].cast(pa.int64()).to_numpy()

    def kinds(self) -> dict[str, Integers]:
        """The places of the messages of each kind."""
        kinds = Words.of(self.messages["kind"])
        found: dict[str, Integers] = {}
        for code in np.unique(kinds.codes).tolist():
            word = kinds.words[code] if code >= 0 else ""
            here = np.flatnonzero(kinds.codes == code)
            found[word] = np.sort(np.concatenate([found[word], here])) if word in found else here
        return found

    def completed(self, rows: pa.Table, places: Integers) -> pa.Table:
        """Rows of the measurements topic: these, with what their messages know."""
        place = pa.array(places)
        columns = {name: rows[name] for name in rows.column_names}
        for name in ("message_id", "received_at"):
            columns[name] = self.messages[name].take(place)
        return pa.table([columns[name] for name in MEASUREMENT_SCHEMA.names], schema=MEASUREMENT_SCHEMA)

    def set_aside(self, place: int, error: MessageError) -> SetAside:
        """A message with why it does not go on."""
        row = self.messages.slice(place, 1)
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


def _joined(tables: Iterable[pa.Table]) -> pa.Table:
    plain = [table.replace_schema_metadata(None) for table in tables]
    return pa.concat_tables(plain).unify_dictionaries().combine_chunks()


def _in_order(emitted: Sequence[tuple[pa.Table, Integers]]) -> pa.Table:
    """All rows in the order of their messages."""
    found = [pair for pair in emitted if pair[0].num_rows]
    if not found:
        return MEASUREMENT_SCHEMA.empty_table()
    if len(found) == 1:
        return found[0][0]
    order = np.argsort(np.concatenate([places for _, places in found]), kind="stable")
    return pa.concat_tables([rows for rows, _ in found]).unify_dictionaries().combine_chunks().take(pa.array(order))


def _refusal(row: dict[str, object]) -> MessageError:
    template, expression, position = (None if row[name] is None else str(row[name]) for name in _PLACES)
    return MessageError(
        str(row["error"]), reason=str(row["reason"]), template=template, expression=expression, position=position
    )


_PLACES = ("template", "expression", "position")


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
