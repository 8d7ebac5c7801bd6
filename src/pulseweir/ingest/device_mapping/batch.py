"""Step 4: a batch of message bodies to tables, by the quickest tier that can decide each message. Pure.

Three tiers make the same table: the typed decoder reads what a mapping needs straight from the bytes (tier 2),
generated source looks into decoded messages (tier 1), and the interpreter evaluates every expression one by one. What
a tier leaves undecided the next one takes; the interpreter decides everything, every refusal among it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from pulseweir.errors import MessageError
from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA, Normalized, reject_table
from pulseweir.ingest.device_mapping.bodies import decode_body, decode_properties, refuse_large
from pulseweir.ingest.device_mapping.budget import FIELD_STEPS
from pulseweir.ingest.device_mapping.columns import Rows, to_table
from pulseweir.ingest.device_mapping.generated_runtime import FAST_STEPS, LEFT_TO_THE_INTERPRETER, TEXT_STEPS
from pulseweir.ingest.device_mapping.source_writer import Program
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.device_mapping.tiers import Tiers
from pulseweir.ingest.device_mapping.tokens import number_of, parse_instant, render
from pulseweir.ingest.device_mapping.typed_decoder import TypedPlan

Tier = Literal["auto", "tier1", "tier2", "interpreter"]
Normalize = Callable[[dict[str, object]], list[Measurement]]
_REMEMBERED_PROPERTIES = 1_000
_SHORT = TEXT_STEPS * FIELD_STEPS * 2  # a character of a text or of a large integer costs less than half a step


@dataclass(frozen=True, slots=True)
class Messages:
    """A batch as it came.

    Attributes:
        bodies: JSON texts.
        properties: Application properties of each message as JSON text; None for none at all.
        system_properties: System properties, likewise.
        nesting_limit: Bodies nested deeper are refused.
        body_limit_bytes: Larger bodies are refused.
    """

    bodies: Sequence[bytes]
    properties: Sequence[str | None] | None
    system_properties: Sequence[str | None] | None
    nesting_limit: int
    body_limit_bytes: int

    def envelopes(self) -> Callable[[int], dict[str, object]]:
        """A function from the index of a message to what the templates see of it; nobody changes an envelope.

        The function raises MessageError for a body or properties that cannot be decoded.
        """
        bodies, properties, system_properties = self.bodies, self.properties, self.system_properties
        nesting_limit, body_limit_bytes = self.nesting_limit, self.body_limit_bytes
        decoded: dict[str | None, object] = {}

        def envelope(index: int) -> dict[str, object]:
            body = bodies[index]
            if len(body) > body_limit_bytes:
                refuse_large(body, body_limit_bytes)
            return {
                "Body": decode_body(body, nesting_limit),
                "Properties": _decoded(properties[index], decoded) if properties else {},
                "SystemProperties": _decoded(system_properties[index], decoded) if system_properties else {},
            }

        return envelope

    def longest_properties(self) -> int:
        """How many characters the properties of any one message have at most."""
        texts = (self.properties or (), self.system_properties or ())
        return sum(max((len(text) for text in each if text), default=0) for each in texts)


def _decoded(text: str | None, decoded: dict[str | None, object]) -> object:
    known = decoded.get(text)
    if known is None:
        known = decode_properties(text)
        if len(decoded) < _REMEMBERED_PROPERTIES:
            decoded[text] = known
    return known


class _Batch(NamedTuple):
    """What one tier made of some messages; `refused` are the errors by index."""

    measurements: pa.Table
    refused: dict[int, MessageError]


def interpret(normalize: Normalize, messages: Messages, chosen: Sequence[int]) -> _Batch:
    """Messages through the interpreter, one by one: slow, and what the faster tiers must equal."""
    columns: list[list[object]] = [[] for _ in NORMALIZED_SCHEMA]
    refused: dict[int, MessageError] = {}
    envelope = messages.envelopes()
    for index in chosen:
        try:
            measurements = normalize(envelope(index))
        except MessageError as error:
            refused[index] = error
            continue
        for place, measurement in enumerate(measurements):
            _append(columns, index, place, measurement)
    arrays = [_array(column, field.type) for column, field in zip(columns, NORMALIZED_SCHEMA, strict=True)]
    return _Batch(pa.Table.from_arrays(arrays, schema=NORMALIZED_SCHEMA), refused)


def generate(program: Program, normalize: Normalize, messages: Messages, chosen: Sequence[int]) -> _Batch:
    """Messages through generated source; what it leaves undecided goes through the interpreter."""
    rows = Rows(program.layouts)
    run = program.bind(*rows.appends())
    refused: dict[int, MessageError] = {}
    undecided: list[int] = []
    envelope = messages.envelopes()
    bodies, devices, codes = messages.bodies, rows.devices, rows.codes
    add_message, add_end = rows.messages.append, rows.ends.append
    longest = messages.longest_properties()
    for index in chosen:
        before = len(devices)
        try:
            left = run(before, envelope(index))
        except MessageError as error:
            refused[index] = error
            continue
        except LEFT_TO_THE_INTERPRETER:
            rows.forget(before)
            undecided.append(index)
            continue
        add_message(index)
        add_end(len(codes))
        # No text of a message is longer than the message: most cannot spend too much on texts.
        if (FAST_STEPS - left) * (len(bodies[index]) + longest) > _SHORT and rows.text_steps() > TEXT_STEPS:
            rows.uncomplete()
            rows.forget(before)
            undecided.append(index)
    measurements, undated = to_table(rows)
    made = _Batch(measurements, refused)
    rest = sorted({*undecided, *undated})
    return _merged(made, interpret(normalize, messages, rest)) if rest else made


def measurements_of(rows: Rows) -> list[Measurement]:
    """The rows of one message as measurements.

    Raises:
        ExpressionFault: A timestamp is none.
    """
    moments = [parse_instant(moment) if isinstance(moment, str) else moment for moment in rows.moments]
    found: list[Measurement] = []
    columns = [zip(*each, strict=True) for each in rows.own]
    for head, code in zip(rows.heads, rows.codes, strict=True):
        layout = rows.layouts[code]
        cells = next(columns[code], ())
        identities = dict(zip(layout.identities, cells, strict=False))
        values = zip(layout.names, cells[len(layout.identities) :], strict=True)
        properties = {name: render(cell) for name, cell in values if cell is not None}
        patient, encounter, correlation = map(identities.get, ("patient_id", "encounter_id", "correlation_id"))
        made = (layout.type_name, rows.devices[head], moments[head], patient, encounter, correlation, properties)
        found.append(Measurement._make(made))
    return found


def normalize_one(tiers: Tiers, normalize: Normalize, envelope: dict[str, object]) -> list[Measurement]:
    """One envelope through generated source, or through the interpreter where that leaves it undecided.

    Raises:
        MessageError: The interpreter refuses it.
    """
    program = tiers.program
    if program is None:
        return normalize(envelope)
    rows = Rows(program.layouts)
    try:
        program.bind(*rows.appends())(0, envelope)
        rows.complete(0)
        if rows.text_steps() <= TEXT_STEPS:
            return measurements_of(rows)
    except LEFT_TO_THE_INTERPRETER:
        pass
    return normalize(envelope)


def decode_typed(typed: TypedPlan, tier: Callable[[Sequence[int]], _Batch], messages: Messages) -> _Batch:
    """Messages straight from their bytes; what that leaves undecided goes through another tier."""
    small = [index for index, body in enumerate(messages.bodies) if len(body) <= messages.body_limit_bytes]
    is_all = len(small) == len(messages.bodies)
    given = (messages.bodies, messages.properties, messages.system_properties)
    bodies, properties, system_properties = (
        each if is_all or each is None else [each[index] for index in small] for each in given
    )
    table, doubtful = typed.decode(
        bodies,  # type: ignore[arg-type]
        properties,  # type: ignore[arg-type]
        system_properties,  # type: ignore[arg-type]
        nesting_limit=messages.nesting_limit,
    )
    if not is_all:
        kept = pa.array(small, pa.int32())
        table = table.set_column(0, "message", kept.take(table["message"].combine_chunks()))
    rest = [small[place] for place in doubtful]
    if not is_all:
        rest = sorted({*rest, *range(len(messages.bodies))} - (set(small) - set(rest)))
    made = _Batch(table, {})
    return _merged(made, tier(rest)) if rest else made


def normalize_messages(tiers: Tiers, normalize: Normalize, messages: Messages, tier: Tier) -> Normalized:
    """A batch through the tier that is asked for, and through the slower ones what it leaves undecided.

    Args:
        tiers: What was compiled of the mapping.
        normalize: The interpreter.
        messages: The batch.
        tier: ``auto`` takes the quickest the mapping allows; any other name starts there, where the mapping allows it.
    """

    def below(chosen: Sequence[int]) -> _Batch:
        program = None if tier == "interpreter" else tiers.program
        return generate(program, normalize, messages, chosen) if program else interpret(normalize, messages, chosen)

    typed = tiers.typed if tier in {"auto", "tier2"} else None
    made = decode_typed(typed, below, messages) if typed else below(range(len(messages.bodies)))
    return Normalized(made.measurements, reject_table(made.refused))


def _merged(first: _Batch, second: _Batch) -> _Batch:
    """Two tables of different messages as one, in the order of the messages."""
    refused = first.refused | second.refused
    if second.measurements.num_rows == 0 or first.measurements.num_rows == 0:
        return _Batch((first if first.measurements.num_rows else second).measurements, refused)
    table = pa.concat_tables([first.measurements, second.measurements]).unify_dictionaries().combine_chunks()
    order = np.argsort(table["message"].to_numpy(), kind="stable")
    return _Batch(table.take(pa.array(order)), refused)


def _append(columns: list[list[object]], index: int, place: int, measurement: Measurement) -> None:
    head = (
        index,
        place,
        measurement.type,
        measurement.device_id,
        measurement.occurred_at_microseconds,
        measurement.patient_id,
        measurement.encounter_id,
        measurement.correlation_id,
    )
    properties: list[tuple[str | None, str | None]] = list(measurement.properties.items())
    for name, text in properties or [(None, None)]:
        number = None if text is None else number_of(text)
        for column, cell in zip(columns, (*head, name, text, number), strict=True):
            column.append(cell)


def _array(column: list[object], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(column, pa.utf8()).dictionary_encode().cast(kind)
    if pa.types.is_timestamp(kind):
        return pa.array(column, pa.int64()).cast(kind)
    return pa.array(column, kind)
