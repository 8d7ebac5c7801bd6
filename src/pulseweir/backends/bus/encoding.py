"""Record batches as bytes: Arrow IPC streams, cut by shard and by size. Pure."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pulseweir.records.identifiers import shard_of

LARGEST_RECORD_BYTES = 1_000_000
_SMALL_DICTIONARY = 256
# A record is small: handing its buffers to other threads costs several times what it saves.
_READ_OPTIONS = pa.ipc.IpcReadOptions(use_threads=False)
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


def encode(table: pa.Table) -> bytes:
    """One table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def decode(payload: bytes) -> pa.Table:
    """The table of an Arrow IPC stream; it keeps the bytes alive."""
    with pa.ipc.open_stream(payload, options=_READ_OPTIONS) as reader:
        return reader.read_all()


def to_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of the schema, in its order and types, without metadata; one chunk a column.

    Raises:
        KeyError: A column of the schema is missing: a programming error, not data.
    """
    columns = [table.column(field.name) for field in schema]
    typed = [
        column if column.type == field.type else _cast(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.table(typed, schema=schema).combine_chunks().unify_dictionaries()


def cut(table: pa.Table, key_column: str, shard_count: int) -> Iterator[tuple[int, int, bytes]]:
    """(shard, rows, payload) records of at most one megabyte; rows of one shard keep their order."""
    key = table.column(key_column).combine_chunks()
    if not pa.types.is_dictionary(key.type):
        key = key.dictionary_encode()
    shard_by_entry = np.array([shard_of(entry or "", shard_count) for entry in key.dictionary.to_pylist()] or [0])
    indices = pc.fill_null(key.indices, 0).to_numpy(zero_copy_only=False)
    shards = shard_by_entry[indices]
    order = np.argsort(shards, kind="stable")
    rows = table.take(pa.array(order))
    present, starts = np.unique(shards[order], return_index=True)
    ends = [*starts[1:].tolist(), len(order)]
    for shard, start, end in zip(present.tolist(), starts.tolist(), ends, strict=True):
        pieces = _pieces(rows.slice(start, end - start))
        yield from ((shard, piece.num_rows, payload) for piece, payload in pieces)


def _pieces(table: pa.Table) -> Iterator[tuple[pa.Table, bytes]]:
    if table.nbytes > 4 * LARGEST_RECORD_BYTES and table.num_rows > 1:
        yield from _halves(table)
        return
    payload = encode(_compact(table))
    if len(payload) <= LARGEST_RECORD_BYTES or table.num_rows == 1:
        yield table, payload
    else:
        yield from _halves(table)


def _halves(table: pa.Table) -> Iterator[tuple[pa.Table, bytes]]:
    middle = table.num_rows // 2
    yield from _pieces(table.slice(0, middle))
    yield from _pieces(table.slice(middle))


def _compact(table: pa.Table) -> pa.Table:
    """Drop dictionary entries that no row of this piece uses, where they outnumber the rows."""
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(index).combine_chunks()
            if len(column.dictionary) > 2 * table.num_rows + _SMALL_DICTIONARY:
                table = table.set_column(index, field, column.cast(field.type.value_type).dictionary_encode())
    return table


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(wanted) and not pa.types.is_dictionary(column.type):
        return column.cast(wanted.value_type).dictionary_encode().cast(wanted)
    return column.cast(wanted)
