"""Changing a mapping by command: every fault listed, one command back, and a list that says what is in force."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from pulseweir.cli import app
from pulseweir.ingest.catalog import catalog_directory
from pulseweir.operations.backup import backup

KIND = "thermometer"
OWN = catalog_directory() / KIND


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["mapping", *arguments])


def answered(answer: Result) -> Any:
    assert answer.exit_code == 0, answer.output
    return msgspec.json.decode(answer.stdout)


class Site:
    """A data directory and mapping files to put in force there."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.folder = folder

    def pair(self, device: str = "", fhir: str = "") -> list[str]:
        arguments = []
        for option, own, text in (("device", "device_mapping.json", device), ("fhir", "fhir_mapping.json", fhir)):
            path = self.folder / own
            path.write_text(text or (OWN / own).read_text())
            arguments += [f"--{option}-mapping", str(path)]
        return arguments

    def use(self, *pair: str, name: str = KIND) -> Result:
        return call("use", name, *pair, "--json", "--data-dir", str(self.data))

    def rollback(self) -> Result:
        return call("rollback", KIND, "--json", "--data-dir", str(self.data))

    def versions(self, *name: str) -> list[dict[str, Any]]:
        found = answered(call("versions", *name, "--json", "--data-dir", str(self.data)))
        assert isinstance(found, list)
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def longer(text: str) -> str:
    return text + "\n"


def test_use_and_rollback_say_what_is_in_force(site: Site) -> None:
    [own] = site.versions(KIND)

    used = answered(site.use(*site.pair(device=longer((OWN / "device_mapping.json").read_text()))))
    during = site.versions(KIND)
    back = answered(site.rollback())
    after = site.versions(KIND)

    assert (own["in_force"], own["origin"], own["came_at"]) == (True, "own", None)
    assert used == {"name": KIND, "version": used["version"], "before": own["version"]}
    assert {one["version"]: (one["in_force"], one["origin"]) for one in during} == {
        own["version"]: (False, "own"),
        used["version"]: (True, "use"),
    }
    assert back == {"name": KIND, "version": own["version"], "before": used["version"]}
    assert {one["version"]: one["in_force"] for one in after} == {own["version"]: True, used["version"]: False}
    assert all(one["came_at"] for one in after)


def test_a_bad_version_is_refused_with_every_fault_of_both_files(site: Site) -> None:
    bad = site.pair(
        device='{"templateType": "CollectionContent", "template": [{"templateType": "Nonsense", "template": {}}]}',
        fhir='{"templateType": "Other"}',
    )

    answer = site.use(*bad)

    assert answer.exit_code == 1
    for told in ("device_mapping.json", "Nonsense", "fhir_mapping.json", "CollectionFhir"):
        assert told in answer.stderr
    assert [one["origin"] for one in site.versions(KIND)] == ["own"]


def test_a_name_that_nobody_has_is_refused_with_those_there_are(site: Site) -> None:
    answer = site.use(*site.pair(), name="thermomether")

    assert answer.exit_code == 2
    assert "thermometer" in answer.stderr
    assert not (site.data / "mappings" / "thermomether").exists()


def test_nothing_to_roll_back_is_told(site: Site) -> None:
    answer = site.rollback()

    assert answer.exit_code == 2
    assert "no version was put in force" in answer.stderr


def test_versions_of_all_names_are_listed(site: Site) -> None:
    assert answered(site.use(*site.pair(), name="site"))["before"] is None

    found = site.versions()

    assert {one["name"] for one in found if one["in_force"]} == {
        *(folder.name for folder in catalog_directory().iterdir() if (folder / "device_mapping.json").exists()),
        "site",
    }


def test_a_damaged_version_is_shown_as_such(site: Site) -> None:
    used = answered(site.use(*site.pair(device=longer((OWN / "device_mapping.json").read_text()))))
    (site.data / "mappings" / KIND / used["version"] / "fhir_mapping.json").write_text("{")

    assert [one["version"] for one in site.versions(KIND) if one["damaged"]] == [used["version"]]


def test_a_backup_holds_the_versions_and_which_is_in_force(site: Site, tmp_path: Path) -> None:
    used = answered(site.use(*site.pair(device=longer((OWN / "device_mapping.json").read_text()))))

    backup(site.data, tmp_path / "copy")
    site.data = tmp_path / "copy"

    assert [one["version"] for one in site.versions(KIND) if one["in_force"]] == [used["version"]]
