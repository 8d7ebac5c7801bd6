"""Durability and isolation of the FHIR store: kills, failing units, reopening, number texts."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulseweir.clock import Clock
from pulseweir.errors import DataDirectoryNewer
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.interactions import read
from pulseweir.fhir_store.json_text import join_resource, split_resource
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.storage import FILE_NAME, FhirStore
from pulseweir.sqlite import connect

PATIENT = {"resourceType": "Patient"}


async def test_a_failing_unit_does_not_disturb_its_neighbours(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path, Clock())

    def put(name: str) -> Any:
        return lambda session: session.insert("Patient", name, PATIENT, (b"", b""))

    def fail(session: WriteSession) -> None:
        session.insert("Patient", "half", PATIENT, (b"", b""))
        session.terms.intern("never stored")
        raise Refusal(412, "conflict", "No.")

    results = await asyncio.gather(
        *(store.write(work) for work in (put("a"), fail, put("b"), fail)), return_exceptions=True
    )

    assert [isinstance(result, Refusal) for result in results] == [False, True, False, True]
    with pytest.raises(Refusal):
        store.read(lambda session: read(session, "Patient", "half"))
    assert store.read(lambda session: read(session, "Patient", "b")).version == 1
    store.close()


async def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path, Clock())
    await store.write(lambda session: session.insert("Patient", "a", PATIENT, (b"", b'"active":true')))
    store.close()

    reopened = FhirStore.open(tmp_path, Clock())

    assert reopened.read(lambda session: read(session, "Patient", "a")).tree()["active"] is True
    reopened.close()


def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    connection = connect(tmp_path / FILE_NAME)
    connection.pragma("user_version", 99)
    connection.close()

    with pytest.raises(DataDirectoryNewer):
        FhirStore.open(tmp_path, Clock())


decimals = st.from_regex(r"-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
texts = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=20)
words = st.text("abcxyz0189-._~", min_size=1, max_size=20)
extensions = st.recursive(
    st.builds(
        lambda url, number: {"url": "http://example.org/" + url, "valueDecimal": number}, words, decimals.map(float)
    ),
    lambda inner: st.builds(
        lambda items: {"url": "http://example.org/x", "extension": items}, st.lists(inner, min_size=1)
    ),
    max_leaves=8,
)


@given(decimals, st.lists(extensions, max_size=3), texts)
def test_a_resource_survives_cutting_and_joining(number: str, items: list[Any], text: str) -> None:
    members = {"resourceType": "Basic", "id": "b", "meta": {"tag": [{"code": "x"}]}, "code": {"text": text}}
    resource = members | ({"extension": items, "_language": {"extension": items}} if items else {})
    body = json.dumps(resource, separators=(",", ":")).replace('"code":"x"', f'"code":"x","n":{number}').encode()

    meta, content = split_resource(body)
    joined = join_resource(("Basic", "b", 3, 0), meta, content)

    before, after = (json.loads(part, parse_float=str, parse_int=str) for part in (body, joined))
    assert after.pop("meta").items() >= before.pop("meta").items()
    assert after == before


@settings(max_examples=25, deadline=None)
@given(decimals, st.lists(extensions, min_size=1, max_size=2), texts)
def test_a_resource_survives_the_server(number: str, items: list[Any], text: str) -> None:
    name = {"given": [text, None], "_given": [None, {"extension": items}], "_family": {"id": "f", "extension": items}}
    inner = {"resourceType": "Patient", "id": "p", "name": [name], "birthDate": "1980-02-29", "_birthDate": {"id": "x"}}
    resource = {
        "resourceType": "Basic",
        "id": "b",
        "contained": [inner],
        "code": {"text": text, "_text": {"extension": items}, "extension": items},
        "subject": {"reference": "#p"},
        "_created": {"extension": items},
    }
    body = json.dumps(resource).replace(
        '"id": "b"', f'"extension": [{{"url": "u", "valueDecimal": {number}}}], "id": "b"'
    )

    answered = asyncio.run(_put_and_read(body.encode()))

    sent, back = (json.loads(part, parse_float=str, parse_int=str) for part in (body, answered))
    back.pop("meta")
    assert back == sent


async def _put_and_read(body: bytes) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        store = FhirStore.open(Path(directory), Clock())
        try:
            transport = httpx.ASGITransport(create_app(store))
            async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/") as http:
                written = await http.put("Basic/b", content=body, headers={"content-type": "application/fhir+json"})
                assert written.status_code == 201, written.text
                return (await http.get("Basic/b")).content
        finally:
            store.close()
