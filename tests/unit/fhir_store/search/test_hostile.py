"""Searches that mean harm: SQL and nonsense in every name and value get an answer, never a failure."""

from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, parameters_of
from pulseweir.fhir_store.query import read_search
from pulseweir.fhir_store.searching import run_search
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

SQL = [
    "'; DROP TABLE resource; --",
    "1 OR 1=1",
    '") OR ("1"="1',
    "x' UNION SELECT 1 --",
    "%",
    "\x00",
    "\\",
    "?",
    "|$,",
    "😀",
]
NAMES = [
    "_id",
    "_lastUpdated",
    "_sort",
    "_include",
    "_revinclude",
    "_elements",
    "_summary",
    "_total",
    "_count",
    "_type",
]
SETTINGS = FhirStoreSettings()


@pytest.mark.parametrize("resource_type", RESOURCE_TYPES)
def test_sql_in_every_parameter_is_a_value(ward: FhirStore, resource_type: str) -> None:
    held = ward.read(lambda session: session.connection.execute("SELECT count(*) FROM resource").get)

    for name, parameter in parameters_of(resource_type).items():
        for text in SQL:
            for asked in (name, f"{name}:missing", f"{name}:not", f"{name}:exact", f"{name}.{name}", f"{name}:{text}"):
                for value in (text, f"{text}$gt{text}", f"gt{text}|{text}|{text}"):
                    _search(ward, resource_type, [(asked, value), ("_sort", name)])
        if parameter.kind == "reference":
            _search(ward, resource_type, [(f"{name}._id", SQL[0])])

    assert ward.read(lambda session: session.connection.execute("SELECT count(*) FROM resource").get) == held


@pytest.mark.parametrize("name", [*NAMES, "_has:Observation:patient:code", "_page"])
async def test_sql_in_a_control_is_answered(http: httpx.AsyncClient, name: str) -> None:
    for text in SQL:
        for path in ("Patient", "", "Patient/p1/Observation", "Patient/p1/$everything", "Observation/$lastn"):
            response = await http.get(f"{path}?{quote(name)}={quote(text)}&patient={quote(text)}")
            assert response.status_code < 500


words = st.sampled_from(
    ["Observation", "Patient", "subject", "code", "name", "_has", "_id", ":", ".", "not", "", "'", "*"]
)
names = st.lists(words, max_size=7).map("".join) | st.text(max_size=20)
values = st.lists(
    st.sampled_from(["gt", "1", "2024", "|", "$", ",", "\\", "Patient/", "e", "-", "'", "T", ":"]), max_size=9
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["", "Observation", "Patient", "Flag"]), names, values.map("".join) | st.text(max_size=20))
def test_any_text_is_read_or_refused(ward: FhirStore, resource_type: str, name: str, value: str) -> None:
    _search(ward, resource_type, [(name, value)])


def _search(store: FhirStore, resource_type: str, pairs: list[tuple[str, str]]) -> None:
    statuses = {400}
    try:
        request = read_search(resource_type, pairs, strict=False, settings=SETTINGS)
        store.read(lambda session: run_search(session, request))
    except Refusal as refusal:
        statuses.add(refusal.status)
    assert statuses == {400}
