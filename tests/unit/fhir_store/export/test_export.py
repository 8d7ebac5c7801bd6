"""Bulk export over HTTP: who, what, when, and what becomes of the files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from export_site import ASYNC, begin, client, exported, lines, manifest, names
from fhir_site import Site, observation, patient
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.export.exports import FOLDER, Exports
from pulseweir.fhir_store.export.writing import Stopped, write_files
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.operations.backup import backup

PATIENTS = {"Patient/p1", "Patient/p2", "Patient/p3"}
CARE = {"Observation/o1", "Observation/o2", "Observation/shared", "Flag/f1"}


class SlowWriter:
    """Writes an export once it is told to go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *arguments: Any) -> Any:
        self.begun.set()
        assert self.go_on.wait(30)
        return write_files(*arguments)


async def test_everything_of_the_system_as_it_is_stored(ward: Site) -> None:
    async with client(ward) as http:
        made = await manifest(http, await begin(http))
        found = await lines(http, made)
        read = (await http.get("Observation/o1")).json()

    assert names(found) == PATIENTS | CARE | {"Practitioner/d1", "Group/g1"}
    assert next(each for each in found if each["id"] == "o1") == read
    assert (made["request"], made["requiresAccessToken"], made["error"]) == (
        "http://fhir.test/fhir/$export",
        False,
        [],
    )


async def test_what_is_in_compartments_of_patients(ward: Site) -> None:
    async with client(ward) as http:
        assert await exported(http, "Patient/$export") - {"Group/g1"} == PATIENTS | CARE


async def test_what_is_of_the_members_of_a_group_comes_once(ward: Site) -> None:
    async with client(ward) as http:
        found = await exported(http, "Group/g1/$export")
        absent = await http.get("Group/none/$export", headers=ASYNC)

    assert found - {"Group/g1"} == {"Patient/p1", "Patient/p3", "Observation/o1", "Observation/shared", "Flag/f1"}
    assert absent.status_code == 404


async def test_types_and_an_instant_narrow_it(ward: Site) -> None:
    async with client(ward) as http:
        assert await exported(http, _type="Observation,Flag") == CARE
        since = (await manifest(http, await begin(http)))["transactionTime"]
        await asyncio.sleep(0.002)
        await ward.fill(observation("new"))
        await http.delete("Observation/o1")
        assert await exported(http, _type="Observation,Flag", _since=since) == {"Observation/new"}


async def test_parameters_may_come_in_a_body(ward: Site) -> None:
    body = {"resourceType": "Parameters", "parameter": [{"name": "_type", "valueString": "Flag"}]}
    async with client(ward) as http:
        answer = await http.post("$export", json=body, headers=ASYNC)
        found = await lines(http, await manifest(http, answer.headers["content-location"]))

    assert names(found) == {"Flag/f1"}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("$export", {}, 400),
        ("$export?_type=Nothing", ASYNC, 400),
        ("$export?_since=yesterday", ASYNC, 400),
        ("$export?_outputFormat=text/csv", ASYNC, 400),
        ("$export?_typeFilter=x", ASYNC, 400),
        ("$export?_typeFilter=Observation", ASYNC, 400),
        ("$export?_typeFilter=Nothing%3Fcode%3Dx", ASYNC, 400),
        ("$export?_typeFilter=Observation%3Fnothing%3Dx", ASYNC, 400),
        ("$export?_typeFilter=Observation%3F_sort%3Ddate", ASYNC, 400),
        ("$export?_typeFilter=Observation%3F_include%3DObservation:subject", ASYNC, 400),
        ("$export?_typeFilter=Observation%3Fcode:strange%3Dx", ASYNC, 400),
        ("$export?_typeFilter=Observation%3Fdate%3Dyesterday", ASYNC, 400),
        ("$export?_type=Flag&_typeFilter=Observation%3Fstatus%3Dfinal", ASYNC, 400),
        ("$export?_elements=a/b", ASYNC, 400),
        ("$export?_elements=Nothing.id", ASYNC, 400),
        ("Patient/$export?patient=Patient/p1", ASYNC, 400),
        ("$export?includeAssociatedData=LatestProvenanceResources", ASYNC, 400),
        ("$export?_since=2024-01-01T00:00:00Z&organizeOutputBy=Patient", ASYNC, 400),
        ("$export", {"prefer": "respond-async, handling=odd"}, 400),
        ("$export?_typeFilter=x", {"prefer": "respond-async, handling=lenient"}, 202),
        ("$export?_outputFormat=application/fhir%2Bndjson", ASYNC, 202),
        ("Observation/$export", ASYNC, 404),
        ("$export-status/none", {}, 404),
        ("$export-status", {}, 404),
    ],
)
async def test_what_cannot_be_exported_is_said_at_once(
    ward: Site, path: str, headers: dict[str, str], status: int
) -> None:
    async with client(ward) as http:
        answer = await http.get(path, headers=headers)

    assert answer.status_code == status
    if status != 202:
        assert answer.json()["resourceType"] == "OperationOutcome"


async def test_long_types_come_in_several_files(make_site: Callable[..., Site]) -> None:
    site = make_site(export={"file_bytes": 1024})
    await site.fill(*(observation(f"o{place}") for place in range(10)))
    async with client(site) as http:
        made = await manifest(http, await begin(http, _type="Observation"))
        found = await lines(http, made)

    assert len(made["output"]) > 2
    assert len(found) == len(names(found)) == 10


async def test_what_is_written_while_it_works_is_not_in_it(ward: Site) -> None:
    slow = SlowWriter()
    async with client(ward, write=slow) as http:
        place = await begin(http, _type="Observation")
        await asyncio.to_thread(slow.begun.wait, 30)
        await ward.fill(observation("late"), observation("o1", status="amended"))
        slow.go_on.set()
        found = await lines(http, await manifest(http, place))

    assert names(found) == {"Observation/o1", "Observation/o2", "Observation/shared"}
    assert {each["status"] for each in found} == {"final"}


async def test_a_cancelled_export_is_gone(ward: Site) -> None:
    async with client(ward) as http:
        place = await begin(http)
        made = await manifest(http, place)
        assert (await http.delete(place)).status_code == 202
        assert (await http.get(place)).status_code == 404
        assert (await http.get(made["output"][0]["url"])).status_code == 404

    assert list((ward.directory / FOLDER).iterdir()) == []


async def test_an_export_at_work_can_be_cancelled(ward: Site) -> None:
    slow = SlowWriter()
    made = Exports(ward.store, write=slow)
    transport = httpx.ASGITransport(create_app(ward.store, exports=made))
    async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/") as http:
        place = await begin(http)
        await asyncio.to_thread(slow.begun.wait, 30)
        assert (await http.delete(place)).status_code == 202
        assert (await http.get(place)).status_code == 404
        slow.go_on.set()
        made._pool.submit(lambda: None).result()

    assert list((ward.directory / FOLDER).iterdir()) == []


async def test_an_expired_export_is_removed(make_site: Callable[..., Site]) -> None:
    site = make_site(export={"hours_kept": 1})
    await site.fill(patient("p1"))
    now = [0]
    async with client(site, now=lambda: now[0]) as http:
        place = await begin(http)
        await manifest(http, place)
        now[0] = 3_600 * 1_000_000 - 1
        assert (await http.get(place)).status_code == 200
        now[0] += 1
        assert (await http.get(place)).status_code == 404

    assert list((site.directory / FOLDER).iterdir()) == []


async def test_a_restart_keeps_what_is_ready_and_begins_the_rest_anew(ward: Site) -> None:
    begun = threading.Event()

    def never(*_: Any) -> Any:
        begun.set()
        raise Stopped

    async with client(ward) as http:
        ready = await begin(http, _type="Flag")
        await manifest(http, ready)
    async with client(ward, write=never) as http:
        unfinished = await begin(http, _type="Patient")
        await asyncio.to_thread(begun.wait, 30)
    ward.store.close()
    again = Site(FhirStore.open(ward.directory, Clock()), ward.directory)
    try:
        async with client(again) as http:
            assert names(await lines(http, await manifest(http, ready))) == {"Flag/f1"}
            assert names(await lines(http, await manifest(http, unfinished))) == PATIENTS
    finally:
        again.store.close()


async def test_an_export_that_ends_with_the_process_each_time_fails_in_the_end(ward: Site) -> None:
    def never(*_: Any) -> Any:
        raise Stopped

    async with client(ward, write=never) as http:
        place = await begin(http, _type="Flag")
    (ward.directory / FOLDER / "nobody's").mkdir()
    for _ in range(2):
        async with client(ward, write=never) as http:
            assert (await http.get(place)).status_code == 202
    async with client(ward) as http:
        answer = await http.get(place)
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (500, "exception")
        assert (await http.delete(place)).status_code == 202

    assert list((ward.directory / FOLDER).iterdir()) == []


async def test_a_failed_export_says_so(ward: Site) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    async with client(ward, write=fail) as http:
        place = await begin(http)
        while (answer := await http.get(place)).status_code == 202:
            await asyncio.sleep(0.01)

    assert (answer.status_code, answer.json()["resourceType"]) == (500, "OperationOutcome")


async def test_an_export_that_finds_no_room_is_asked_for_later_and_leaves_nothing(
    ward: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    async with client(ward) as http:
        with monkeypatch.context() as patched:
            patched.setattr(Exports, "_keep", fail)
            answer = await http.get("$export", headers=ASYNC)
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (503, "transient")
        assert list((ward.directory / FOLDER).iterdir()) == []
        await begin(http)


async def test_only_so_many_wait(make_site: Callable[..., Site]) -> None:
    slow = SlowWriter()
    site = make_site(export={"unfinished_exports": 2})
    async with client(site, write=slow) as http:
        await begin(http)
        await begin(http)
        answer = await http.get("$export", headers=ASYNC)
        slow.go_on.set()

    assert (answer.status_code, "retry-after" in answer.headers) == (429, True)


async def test_an_export_belongs_to_who_asked_and_reaches_what_it_may_search(ward: Site) -> None:
    system = ward.token("system/Observation.rs", "system/Flag.rs", name="system")
    other = ward.token("system/*.cruds", name="other")
    narrowed = ward.token("system/Observation.rs?category=vital-signs", name="narrowed")
    body = {"resourceType": "Parameters", "parameter": [{"name": "_type", "valueString": "Patient"}]}
    async with ward.http(system) as http:
        assert (await http.get("$export", headers=ASYNC)).status_code == 403
        assert (await http.get("$export?_type=Patient", headers=ASYNC)).status_code == 403
        assert (await http.post("$export?_type=Flag", json=body, headers=ASYNC)).status_code == 403
        place = await begin(http, _type="Observation,Flag")
        made = await manifest(http, place)
        assert names(await lines(http, made)) == CARE
    assert made["requiresAccessToken"] is True
    async with ward.http(narrowed) as http:
        assert (await http.get("$export?_type=Observation", headers=ASYNC)).status_code == 403
        assert (await http.get(place)).status_code == 404
    async with ward.http(other) as http:
        assert (await http.get(place)).status_code == 404
        assert (await http.get(made["output"][0]["url"])).status_code == 404
        assert (await http.delete(place)).status_code == 404
    async with ward.http() as http:
        assert (await http.get(made["output"][0]["url"])).status_code == 401


async def test_a_backup_leaves_exports_out(ward: Site, tmp_path: Path) -> None:
    async with client(ward) as http:
        await manifest(http, await begin(http))

    backup(tmp_path, tmp_path.with_name("saved"))

    assert (tmp_path.with_name("saved") / "fhir" / "fhir.sqlite").exists()
    assert not (tmp_path.with_name("saved") / "fhir" / FOLDER).exists()
