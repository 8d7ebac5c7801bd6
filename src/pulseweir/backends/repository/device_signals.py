"""Step 14: when each device was heard, how far its clock is ahead, and what is wrong with it, as stored."""

from collections.abc import Iterable

from sqlalchemy import select

from pulseweir.backends.repository import changes
from pulseweir.backends.repository.rows import DeviceSignalRow
from pulseweir.backends.repository.schema import DEVICE_SIGNAL
from pulseweir.backends.repository.store import Transaction


def save(transaction: Transaction, rows: Iterable[DeviceSignalRow]) -> None:
    """Store what is known of devices; what is older than what is stored changes nothing."""
    newest: dict[tuple[str, str], DeviceSignalRow] = {}
    for row in rows:
        key = (row.device_id, row.patient_id)
        if key not in newest or row.updated_at >= newest[key].updated_at:
            newest[key] = row
    if not newest:
        return
    stored = {
        (device_id, patient_id): updated_at
        for device_id, patient_id, updated_at in transaction.execute(
            select(DEVICE_SIGNAL.c.device_id, DEVICE_SIGNAL.c.patient_id, DEVICE_SIGNAL.c.updated_at).where(
                DEVICE_SIGNAL.c.device_id.in_({device_id for device_id, _ in newest})
            )
        )
    }
    fresh = [row for key, row in newest.items() if row.updated_at >= stored.get(key, row.updated_at)]
    changes.upsert(transaction, DEVICE_SIGNAL, map(changes.values_of, fresh))


def by_device(transaction: Transaction) -> dict[str, DeviceSignalRow]:
    """What is known of every device at the patient it was heard of last, by device id."""
    query = select(*changes.columns(DeviceSignalRow, DEVICE_SIGNAL)).order_by(DEVICE_SIGNAL.c.received_at)
    return {row.device_id: row for row in changes.typed(DeviceSignalRow, transaction.execute(query))}


def of_patient(transaction: Transaction, patient_id: str) -> list[DeviceSignalRow]:
    """What is known of the devices of one patient, by device id."""
    query = (
        select(*changes.columns(DeviceSignalRow, DEVICE_SIGNAL))
        .where(DEVICE_SIGNAL.c.patient_id == patient_id)
        .order_by(DEVICE_SIGNAL.c.device_id)
    )
    return changes.typed(DeviceSignalRow, transaction.execute(query))
