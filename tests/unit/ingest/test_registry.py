"""The device registry: what operators do to it, and who else sees it."""

from base64 import b64decode
from pathlib import Path

import pytest

from pulseweir.errors import DeviceAlreadyRegistered, DeviceEntryInvalid, DeviceNotRegistered
from pulseweir.ingest.hub.registry import Activity, DeviceEntry, Registry, note_activity


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "hub")


def test_a_device_added_has_two_keys_of_32_bytes(registry: Registry) -> None:
    device = registry.add(DeviceEntry("monitor-1", "bedside-monitor"))

    assert registry.get("monitor-1") == device
    assert device.kind == "bedside-monitor"
    assert device.enabled
    assert [len(b64decode(key)) for key in device.keys] == [32, 32]
    assert device.primary_key != device.secondary_key


def test_a_device_is_not_added_twice(registry: Registry) -> None:
    device = registry.add(DeviceEntry("monitor-1"))

    with pytest.raises(DeviceAlreadyRegistered, match="pulseweir device show monitor-1"):
        registry.add(DeviceEntry("monitor-1"))

    assert registry.get("monitor-1") == device


def test_ids_are_case_sensitive(registry: Registry) -> None:
    registry.import_entries([DeviceEntry("A"), DeviceEntry("a")])

    assert [device.device_id for device in registry.list_devices()] == ["A", "a"]


def test_disable_enable_and_rotate_change_one_thing(registry: Registry) -> None:
    device = registry.add(DeviceEntry("monitor-1"))

    assert not registry.disable("monitor-1").enabled
    assert registry.enable("monitor-1") == device
    rotated = registry.rotate_key("monitor-1", "primary")
    assert rotated.primary_key != device.primary_key
    assert rotated.secondary_key == device.secondary_key
    assert rotated.generation == device.generation


def test_a_device_that_is_not_there_cannot_be_changed(registry: Registry) -> None:
    with pytest.raises(DeviceNotRegistered, match="pulseweir device add monitor-9"):
        registry.disable("monitor-9")


def test_another_process_sees_a_change_at_once(tmp_path: Path) -> None:
    first, second = Registry.open(tmp_path), Registry.open(tmp_path)
    device = first.add(DeviceEntry("monitor-1"))

    assert second.get("monitor-1") == device
    first.disable("monitor-1")
    assert second.refresh() == {"monitor-1"}
    assert second.refresh() == set()
    assert not second.list_devices()[0].enabled


def test_a_registry_opened_again_is_the_same(tmp_path: Path) -> None:
    registry = Registry.open(tmp_path)
    device = registry.add(DeviceEntry("gateway-1", "gateway", children=("a", "b")))
    registry.close()

    assert Registry.open(tmp_path).get("gateway-1") == device


def test_importing_again_keeps_keys_that_are_not_given(registry: Registry) -> None:
    before = registry.add(DeviceEntry("monitor-1", "bedside-monitor"))

    assert registry.import_entries([DeviceEntry("monitor-1", "pulse-oximeter"), DeviceEntry("monitor-2")]) == 2

    after = registry.get("monitor-1")
    assert after is not None
    assert after.kind == "pulse-oximeter"
    assert (after.keys, after.generation, after.created_at) == (before.keys, before.generation, before.created_at)


@pytest.mark.parametrize(
    "entry",
    [
        DeviceEntry(""),
        DeviceEntry("a/b"),
        DeviceEntry("a b"),
        DeviceEntry("ward#1"),
        DeviceEntry("é"),
        DeviceEntry("x" * 129),
        DeviceEntry("a", kind="Bedside Monitor"),
        DeviceEntry("a", primary_key="not base64"),
        DeviceEntry("a", secondary_key="c2hvcnQ="),
    ],
)
def test_an_impossible_entry_registers_nothing(registry: Registry, entry: DeviceEntry) -> None:
    with pytest.raises(DeviceEntryInvalid):
        registry.import_entries([DeviceEntry("good"), entry])

    assert registry.list_devices() == []


def test_activity_keeps_the_newest_instants(registry: Registry) -> None:
    note_activity(registry.path, {"monitor-1": (5, 5), "monitor-2": (3, None)})
    note_activity(registry.path, {"monitor-1": (7, None)})

    assert registry.activity() == {"monitor-1": Activity(7, 5), "monitor-2": Activity(3, None)}


def test_only_the_owner_may_read_the_keys(registry: Registry) -> None:
    registry.add(DeviceEntry("monitor-1"))

    assert registry.path.stat().st_mode & 0o077 == 0
    assert registry.path.parent.stat().st_mode & 0o077 == 0
