"""Versions of a mapping: put in force, rolled back, refused when damaged, found again for what they made."""

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from pulseweir.ingest.catalog import MappingPair, Mappings, catalog_directory
from pulseweir.ingest.mapping_versions import (
    MappingHistoryDamaged,
    MappingVersionDamaged,
    MappingVersions,
    NoEarlierMapping,
)
from pulseweir.ingest.mapping_watch import MappingWatch
from pulseweir.records.identifiers import mapping_version

KIND = "thermometer"
FHIR = '{"templateType": "CollectionFhir", "template": []}'


def pair(word: str, name: str = KIND) -> MappingPair:
    """A good pair whose version depends on a word."""
    return MappingPair.loads(name, '{"templateType": "CollectionContent", "template": []}' + " " * len(word), FHIR)


FIRST, SECOND = pair("a"), pair("ab")


class House:
    """The mappings of one process on a data directory, with a clock that only moves when told to."""

    def __init__(self, directory: Path) -> None:
        self.now = 0.0
        self.versions = MappingVersions(directory)
        self.mappings = Mappings.load(catalog_directory())
        self.own = self.mappings.by_kind[KIND].version
        self.watch = MappingWatch(self.mappings, self.versions, monotonic=lambda: self.now)
        self.watch.begin()

    async def version_later(self) -> str:
        self.now += 1
        await self.watch.look()
        return self.mappings.by_kind[KIND].version


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def refused() -> float:
    return REGISTRY.get_sample_value("pulseweir_connector_mapping_changes_total", {"outcome": "refused"}) or 0.0


async def test_a_version_put_in_force_is_taken_over_and_rolled_back(house: House) -> None:
    seen = [house.own]
    changes: list[Callable[[], object]] = [
        lambda: house.versions.use(KIND, FIRST, 1),
        lambda: house.versions.use(KIND, SECOND, 2),
        lambda: house.versions.roll_back(KIND, 3),
        lambda: house.versions.roll_back(KIND, 4),
    ]
    for change in changes:
        change()
        seen.append(await house.version_later())

    assert seen == [house.own, FIRST.version, SECOND.version, FIRST.version, house.own]
    with pytest.raises(NoEarlierMapping):
        house.versions.roll_back(KIND, 5)
    assert [(one.version, one.at_microseconds, one.by) for one in house.versions.histories()[KIND].changes] == [
        (FIRST.version, 1, "use"),
        (SECOND.version, 2, "use"),
        (FIRST.version, 3, "rollback"),
        (None, 4, "rollback"),
    ]


async def test_it_looks_once_a_second_and_not_between(house: House) -> None:
    house.versions.use(KIND, FIRST, 1)

    house.now = 0.9
    await house.watch.look()
    early = house.mappings.by_kind[KIND].version

    assert early == house.own
    assert await house.version_later() == FIRST.version


async def test_what_any_version_made_can_be_found_after_it_was_replaced(house: House, tmp_path: Path) -> None:
    house.versions.use(KIND, FIRST, 1)
    house.versions.use(KIND, SECOND, 2)

    later = House(tmp_path)
    later.mappings.by_kind.clear()

    for version in (FIRST.version, SECOND.version, later.own):
        assert later.mappings.by_version[version].version == version
    assert later.mappings.by_version.get("0123456789ab") is None
    assert later.mappings.by_version.get("../thermometer") is None


async def test_versions_of_an_earlier_release_stay_on_disk(tmp_path: Path) -> None:
    mappings = Mappings.load(catalog_directory())
    mappings.put_in_force(KIND, FIRST)
    MappingWatch(mappings, MappingVersions(tmp_path)).begin()

    upgraded = House(tmp_path)

    assert upgraded.mappings.by_kind[KIND].version == upgraded.own != FIRST.version
    assert upgraded.mappings.by_version[FIRST.version].version == FIRST.version


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def remove(path: Path) -> None:
    path.unlink()


def garble(path: Path) -> None:
    path.write_bytes(b"\xff")


@pytest.mark.parametrize("damage", [cut, remove, garble])
async def test_a_damaged_version_is_refused_logged_and_counted_and_the_old_one_stays(
    house: House, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    house.versions.use(KIND, FIRST, 1)
    await house.version_later()
    house.versions.use(KIND, SECOND, 2)
    damage(tmp_path / "mappings" / KIND / SECOND.version / "fhir_mapping.json")
    before = refused()

    with capture_logs() as logs:
        versions = [await house.version_later() for _ in range(3)]

    assert versions == [FIRST.version] * 3
    assert refused() == before + 1
    assert [(one["event"], one["log_level"]) for one in logs] == [("mapping_refused", "error")]
    assert SECOND.version in logs[0]["problem"]
    house.versions.use(KIND, SECOND, 3)
    assert await house.version_later() == SECOND.version


async def test_a_version_that_does_not_load_is_refused(house: House, tmp_path: Path) -> None:
    bad = MappingPair(KIND, FIRST.device, FIRST.fhir, mapping_version("{}", "{}"), ("{}", "{}"))
    house.versions.use(KIND, bad, 1)

    with capture_logs() as logs:
        assert await house.version_later() == house.own

    assert "does not load" in logs[0]["problem"]


def test_a_damaged_newest_version_at_start_leaves_the_last_good_one(house: House, tmp_path: Path) -> None:
    house.versions.use(KIND, FIRST, 1)
    house.versions.use(KIND, SECOND, 2)
    cut(tmp_path / "mappings" / KIND / SECOND.version / "device_mapping.json")

    with capture_logs() as logs:
        again = House(tmp_path)

    assert again.mappings.by_kind[KIND].version == FIRST.version
    assert [(one["event"], one["log_level"]) for one in logs] == [("mapping_refused", "error")]


def test_a_rollback_to_a_damaged_version_is_refused_and_changes_nothing(house: House, tmp_path: Path) -> None:
    house.versions.use(KIND, FIRST, 1)
    house.versions.use(KIND, SECOND, 2)
    cut(tmp_path / "mappings" / KIND / FIRST.version / "device_mapping.json")

    with pytest.raises(MappingVersionDamaged):
        house.versions.roll_back(KIND, 3)

    assert house.versions.histories()[KIND].in_force == SECOND.version


async def test_a_damaged_history_stops_a_start_and_changes_nothing_while_running(house: House, tmp_path: Path) -> None:
    house.versions.use(KIND, FIRST, 1)
    await house.version_later()
    (tmp_path / "mappings" / "history.json").write_bytes(b'{"thermometer": 1}')

    assert await house.version_later() == FIRST.version
    with pytest.raises(MappingHistoryDamaged, match="Restore it"):
        House(tmp_path)


async def test_the_same_version_again_changes_nothing(house: House) -> None:
    own = house.mappings.by_kind[KIND]

    changed = house.versions.use(KIND, own, 1, own=own.version)
    house.versions.use(KIND, FIRST, 2)
    house.versions.use(KIND, FIRST, 3)

    assert (changed.version, changed.before) == (own.version, own.version)
    assert house.versions.histories()[KIND].line == (FIRST.version,)
    assert [one.at_microseconds for one in house.versions.histories()[KIND].changes] == [2]


async def test_a_site_mapping_comes_and_goes(house: House) -> None:
    site = pair("site", "site")

    house.versions.use("site", site, 1)
    await house.version_later()
    serving = house.mappings.for_kind("")
    house.versions.roll_back("site", 2)
    await house.version_later()

    assert serving is not None
    assert serving.version == site.version
    assert house.mappings.for_kind("") is None


async def test_line_endings_are_kept_as_they_are(house: House) -> None:
    windows = MappingPair.loads(KIND, FIRST.texts[0] + "\r\n", FHIR + "\r\n")

    house.versions.use(KIND, windows, 1)

    assert await house.version_later() == windows.version


async def test_changes_at_the_same_time_are_all_kept(house: House, tmp_path: Path) -> None:
    names = sorted(house.mappings.by_kind)[:4]
    begin = threading.Barrier(len(names) * 2)

    def change(name: str, word: str) -> None:
        made = pair(word, name)
        begin.wait(10)
        MappingVersions(tmp_path).use(name, made, len(word))

    threads = [threading.Thread(target=change, args=(name, word)) for name in names for word in ("x", "xy")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    histories = msgspec.json.decode((tmp_path / "mappings" / "history.json").read_bytes())
    assert {name: sorted(histories[name]["line"]) for name in names} == {
        name: sorted([pair("x").version, pair("xy").version]) for name in names
    }
    assert not list((tmp_path / "mappings").rglob("*.new"))
    for name in names:
        for version in histories[name]["line"]:
            assert house.versions.load(name, version).version == version
