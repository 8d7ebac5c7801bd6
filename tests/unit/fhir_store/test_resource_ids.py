"""Ids of the server's: UUIDs that grow with time, none twice."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from pulseweir.fhir_store.resource_ids import new_resource_id
from pulseweir.fhir_store.validation import is_resource_id

INSTANTS = st.integers(0, 253_402_300_799_000_000)


@given(instant=INSTANTS)
def test_an_id_is_a_uuid_of_version_7_that_holds_its_millisecond(instant: int) -> None:
    text = new_resource_id(instant)
    read = uuid.UUID(text)

    assert is_resource_id(text)
    assert str(read) == text
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert read.int >> 80 == instant // 1_000


@given(earlier=INSTANTS, milliseconds=st.integers(1, 10**9))
def test_a_later_id_is_greater(earlier: int, milliseconds: int) -> None:
    assert new_resource_id(earlier) < new_resource_id(earlier + milliseconds * 1_000)


def test_ids_of_one_instant_differ_in_74_bits() -> None:
    ids = [uuid.UUID(new_resource_id(1_700_000_000_000_000)).int for _ in range(2_000)]
    changing = 0
    for each in ids:
        changing |= each ^ ids[0]

    assert len(set(ids)) == 2_000
    assert changing.bit_count() == 74
