"""The chain of AuditEvents: whatever is done to it behind the server is found, where it was done."""

import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from fhir_site import Site, audited_reads
from pulseweir.fhir_store.security.audit_chain import Anchor, AnchorUnusable, Verified, verify_directory


def tampered(site: Site, statement: str) -> Verified:
    connection = apsw.Connection(str(site.store.path))
    connection.execute(statement)
    connection.close()
    return verify_directory(site.directory)


KIND = "type = (SELECT id FROM term WHERE text = 'AuditEvent')"


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        (
            f"UPDATE resource SET content = CAST(replace(content, 'o2', 'o9') AS BLOB) WHERE {KIND} AND id = 'audit-2'",
            2,
        ),
        (
            f"UPDATE resource SET content = CAST(replace(content, 'o1', 'o9') AS BLOB) WHERE {KIND} AND id = 'audit-5'",
            5,
        ),
        (
            f"UPDATE resource SET content = CAST(replace(content, 'o1', 'o9') AS BLOB) WHERE {KIND} AND id = 'audit-1'",
            1,
        ),
        (f"UPDATE resource SET content = x'7b' WHERE {KIND} AND id = 'audit-2'", 2),
        (f"UPDATE resource SET content = 'text' WHERE {KIND} AND id = 'audit-5'", 5),
        (f"DELETE FROM resource WHERE {KIND} AND id = 'audit-3'", 3),
        (f"DELETE FROM resource WHERE {KIND} AND id = 'audit-5'", 5),
        (f"UPDATE resource SET deleted = 1 WHERE {KIND} AND id = 'audit-4'", 4),
        (
            f"UPDATE resource SET id = CASE id WHEN 'audit-2' THEN 'audit-3!' ELSE 'audit-2' END"
            f" WHERE {KIND} AND id IN ('audit-2', 'audit-3');"
            "UPDATE resource SET id = 'audit-3' WHERE id = 'audit-3!'",
            2,
        ),
    ],
)
async def test_a_change_behind_the_server_is_found_where_it_is(site: Site, statement: str, number: int) -> None:
    await audited_reads(site)
    assert verify_directory(site.directory).broken is None
    assert verify_directory(site.directory).events == 5

    found = tampered(site, statement)

    assert found.broken is not None
    assert found.broken.number == number


COPY = (
    "INSERT INTO resource (type, id, version, updated, meta, content)"
    f" SELECT type, '{{}}', version, updated, meta, content FROM resource WHERE {KIND} AND id = 'audit-2'"
)
CUT = f"""
    DELETE FROM resource WHERE {KIND} AND id IN ('audit-4', 'audit-5');
    UPDATE setting SET value = '3:' || (
        SELECT json_extract('{{' || CAST(content AS TEXT) || '}}', '$.extension[0].valueString') FROM kept
    ) WHERE name = 'audit_head'
"""


@pytest.mark.parametrize(
    ("name", "number"), [("audit-6", 6), ("audit-007", 0), ("audit-0", 0), ("audit-x", 0), ("audit-99999", 99999)]
)
async def test_an_invented_event_is_found(site: Site, name: str, number: int) -> None:
    await audited_reads(site)

    found = tampered(site, COPY.format(name))

    assert found.broken is not None
    assert found.broken.number == number
    assert "none that this store wrote" in found.broken.reason


@pytest.mark.parametrize(
    "statement",
    [
        # The note of the newest is gone with it, or says less than there is.
        "DELETE FROM setting WHERE name = 'audit_head'",
        f"DELETE FROM resource WHERE {KIND} AND id = 'audit-5'; DELETE FROM setting WHERE name = 'audit_head'",
        "UPDATE setting SET value = '0:' || substr(value, 3) WHERE name = 'audit_head'",
        "UPDATE setting SET value = '7:' || substr(value, 3) WHERE name = 'audit_head'",
    ],
)
async def test_a_head_that_does_not_agree_is_found(site: Site, statement: str) -> None:
    await audited_reads(site)

    assert tampered(site, statement).broken is not None


async def test_an_end_that_was_cut_off_with_care_is_found_by_an_anchor_only(site: Site) -> None:
    await audited_reads(site)
    before = verify_directory(site.directory)
    connection = apsw.Connection(str(site.store.path))
    connection.execute(f"CREATE TEMP TABLE kept AS SELECT content FROM resource WHERE {KIND} AND id = 'audit-4'")
    connection.execute(CUT)
    connection.close()

    whole, anchored = verify_directory(site.directory), verify_directory(site.directory, (Anchor.read(before.anchor),))

    assert (whole.events, whole.broken) == (3, None)
    assert anchored.broken is not None
    assert (anchored.broken.number, anchored.events) == (4, 3)
    assert "longer" in anchored.broken.reason


async def test_a_chain_written_anew_is_found_by_an_anchor(site: Site) -> None:
    await audited_reads(site)
    before = verify_directory(site.directory)
    number, _, digest = before.anchor.partition(":")
    assert (number, digest) == ("5", before.head)

    for anchor, broken in ((before.anchor, None), (f"3:{digest}", 3), (f"6:{digest}", 6), (f"5:{'0' * 64}", 5)):
        found = verify_directory(site.directory, (Anchor.read(anchor),))
        assert (found.broken and found.broken.number) == broken
    several = verify_directory(site.directory, (Anchor.read(before.anchor), Anchor.read(f"2:{digest}")))
    assert several.broken is not None
    assert several.broken.number == 2


@pytest.mark.parametrize("text", ["", "5", "5:", "x:" + "0" * 64, "0:" + "0" * 64, "5:" + "G" * 64, "5:abc"])
def test_what_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(AnchorUnusable, match="NUMBER:HASH"):
        Anchor.read(text)


async def test_an_anchor_still_holds_when_the_chain_went_on(site: Site) -> None:
    await audited_reads(site, 2)
    anchor = Anchor.read(verify_directory(site.directory).anchor)
    async with site.http(site.token("system/*.rs", name="later")) as http:
        await http.get("Observation/o1")
    await site.settle()

    found = verify_directory(site.directory, (anchor,))
    assert (found.events, found.broken) == (3, None)


def test_a_store_that_is_gone_with_its_audit_is_found_by_an_anchor(tmp_path: Path) -> None:
    assert verify_directory(tmp_path, (Anchor(3, "0" * 64),)).broken is not None


def test_a_directory_without_a_store_has_nothing_to_verify(tmp_path: Path) -> None:
    assert verify_directory(tmp_path).events == 0
    assert list(tmp_path.iterdir()) == []


async def test_the_command_names_the_first_broken_event(site: Site) -> None:
    await audited_reads(site)
    command = [sys.executable, "-m", "pulseweir", "fhir", "audit", "verify", "--data-dir", str(site.directory.parent)]
    whole = subprocess.run(command, capture_output=True, text=True, check=False)
    tampered(
        site,
        f"UPDATE resource SET content = CAST(replace(content, 'o1', 'o9') AS BLOB) WHERE {KIND} AND id = 'audit-3'",
    )
    broken = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)

    assert (whole.returncode, whole.stdout.split(",")[0]) == (0, "5 AuditEvents")
    assert broken.returncode == 1
    assert '"number":3' in broken.stdout


async def test_the_command_takes_what_it_printed(site: Site) -> None:
    await audited_reads(site)
    command = [sys.executable, "-m", "pulseweir", "fhir", "audit", "verify", "--data-dir", str(site.directory.parent)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    anchor = printed.rpartition("Newest: ")[2].strip()
    again = subprocess.run([*command, "--anchor", anchor], capture_output=True, text=True, check=False)
    later = subprocess.run([*command, "--anchor", f"9{anchor}"], capture_output=True, text=True, check=False)
    odd = subprocess.run([*command, "--anchor", "x"], capture_output=True, text=True, check=False)

    assert [each.returncode for each in (again, later, odd)] == [0, 1, 2]
    assert "longer" in later.stdout
    assert "NUMBER:HASH" in odd.stderr
