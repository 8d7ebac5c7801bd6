"""Whoever reads the count knows of a change as soon as the change has been answered."""

import os
from pathlib import Path

import pytest

from identity_house import IdentityHouse
from pulseweir.fhir_store.change_count import FILE_NAME, ChangeCount, read_change_count


async def test_every_answered_change_of_a_device_or_its_use_has_been_counted(tmp_path: Path) -> None:
    house = IdentityHouse(tmp_path)
    seen = [read_change_count(tmp_path / FILE_NAME)]

    async def look() -> None:
        seen.append(read_change_count(tmp_path / FILE_NAME))

    await house.add_device("d")
    await look()
    await house.add_use("u", "d", "anna", "08:00")
    await look()
    await house.add_use("u", "d", "anna", "08:00", "09:00")
    await look()
    transaction = [{"request": {"method": "DELETE", "url": "DeviceUseStatement/u"}}]
    await house.fhir.send_bundle(transaction, type="transaction")
    await look()
    assert None not in seen
    assert len(set(seen)) == len(seen)

    await house.put("Patient", "anna")
    await house.add_device("d")
    await look()
    assert seen[-1] == seen[-2]
    await house.close()


def test_a_store_that_opens_again_has_changed(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    first = ChangeCount(path, 1_000)
    first.add()
    first.close()
    assert read_change_count(path) == 1_001

    ChangeCount(path, 500).close()

    assert read_change_count(path) == 1_002


def test_no_count_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    assert read_change_count(path) is None
    path.write_bytes(b"123")
    assert read_change_count(path) is None


async def test_a_count_that_cannot_be_written_is_told_to_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = IdentityHouse(tmp_path)

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fail)
        with pytest.raises(Exception, match="503"):
            await house.add_device("d")
    await house.add_device("e")
    await house.close()
