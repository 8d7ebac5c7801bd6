"""Deterministic identifiers: the same thing always has the same id, two things never share one."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from pulseweir.records import identifiers

PARTS = st.lists(st.one_of(st.text(), st.binary(), st.integers()), max_size=4)


def spelled(parts: list[str | bytes | int]) -> list[bytes]:
    return [part if isinstance(part, bytes) else str(part).encode() for part in parts]


@given(PARTS)
def test_an_id_is_sixty_four_hex_digits_and_never_changes(parts: list[str | bytes | int]) -> None:
    found = identifiers.digest(*parts)

    assert len(found) == 64
    assert set(found) <= set("0123456789abcdef")
    assert identifiers.digest(*parts) == found


@given(PARTS, PARTS)
def test_parts_cannot_run_into_each_other(one: list[str | bytes | int], other: list[str | bytes | int]) -> None:
    assert (identifiers.digest(*one) == identifiers.digest(*other)) == (spelled(one) == spelled(other))


def test_ids_are_pinned_because_stored_data_refers_to_them() -> None:
    assert identifiers.digest("a", "bc") == "5b0b3db62a1024509708acc5af387f39ac604bcd8e5130d035150f8634637809"
    assert identifiers.shard_of("monitor-1", 8) == 1


@given(st.text(min_size=1), st.text(min_size=1), st.binary(), st.integers(0), st.integers(0))
def test_a_message_with_the_senders_own_id_is_one_message_however_often_it_comes(
    device: str, own: str, body: bytes, first: int, second: int
) -> None:
    assert identifiers.message_id(device, own, body, first) == identifiers.message_id(device, own, b"", second)


@given(st.text(min_size=1), st.binary(), st.integers(0), st.integers(0))
def test_two_honest_equal_bodies_are_two_messages(device: str, body: bytes, first: int, second: int) -> None:
    is_same = identifiers.message_id(device, None, body, first) == identifiers.message_id(device, None, body, second)

    assert is_same == (first == second)


def test_things_of_different_kinds_never_share_an_id() -> None:
    window = ("patient-1", "news2", "1", 0, 60)

    ids = {
        identifiers.risk_assessment_id(*window),
        identifiers.score_observation_id(*window),
        identifiers.flag_id("patient-1", "news2", 0),
    }

    assert len(ids) == 3


@given(st.text(), st.integers(1, 256))
def test_a_shard_is_one_of_those_there_are(key: str, count: int) -> None:
    assert 0 <= identifiers.shard_of(key, count) < count


def test_shards_are_the_same_in_every_process() -> None:
    keys = [f"monitor-{number}" for number in range(50)]
    program = (
        "from pulseweir.records.identifiers import shard_of;print([shard_of(f'monitor-{n}', 8) for n in range(50)])"
    )

    answer = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)

    assert answer.stdout.strip() == str([identifiers.shard_of(key, 8) for key in keys])
    assert set(identifiers.shard_of(key, 8) for key in keys) == set(range(8))
