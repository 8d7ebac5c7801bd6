"""Requests by chance over all routes, open and with tokens: never a 500, and what is refused leaves nothing behind."""

import asyncio
import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_site import Site
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, parameters_of
from pulseweir.fhir_store.patching import JSON_PATCH, MERGE_PATCH
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.fhir_store.validation import resource_issues
from shaped_resources import SQL, as_json, odd, shaped

FHIR_JSON = "application/fhir+json"
STATUSES = {
    *(200, 201, 202, 204, 304),
    *(400, 401, 403, 404, 405, 406, 409, 410, 412, 413, 414, 415, 422, 429, 501),
}
METHODS = ["GET", "GET", "POST", "POST", "PUT", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "X"]
NAMES = [*RESOURCE_TYPES, *(["Patient", "Observation", "Basic", "Bundle", "Binary"] * 4), "Nonsense", "patient", "*"]
IDS = ["a", "a", "b", "c", "a" * 64, "a" * 65, "a_b", "..", ".", "%2e%2e", "../../x", "a b", "é", "\0", "-", "1"]
WORDS = ["_history", "_search", "metadata", "$validate", "$lastn", "$everything", "$status", "$events", "$x", "1", "2"]
CONTROLS = [
    *("_count", "_sort", "_since", "_at", "_page", "_summary", "_elements", "_include", "_revinclude", "_id", "_total"),
    *("_include:iterate", "_revinclude:iterate", "_has:Observation:patient:code", "_lastUpdated", "_format", "_pretty"),
    *(
        "_type",
        "_text",
        "_filter",
        "_list",
        "_query",
        "_contained",
        "mode",
        "profile",
        "max",
        "start",
        "end",
        "resource",
    ),
    *("subject:Patient.name", "patient.identifier", "_has:X:y:z", "_has:", ":", ".", "", "_totalMethod", "x", "_tag:x"),
]
MODIFIERS = ["", "", "", "", ":missing", ":not", ":exact", ":contains", ":Patient", ":text", ":in", ":identifier", ":x"]
VALUES = [
    *(
        "",
        "1",
        "0",
        "-1",
        "1e9",
        "a",
        "a|b",
        "|",
        "a,b",
        ",",
        "\\",
        "$",
        "2023-02-30",
        "ge2024",
        "true",
        "false",
        "count",
    ),
    *("Patient/a", "Patient:general-practitioner", "*", "-date", "date,-_id", "1e400", "9" * 400, "lt5||mg", "5|u|mg"),
    *(
        "gt2024-01-01T00:00:00+14:00",
        "ap1e308",
        "sa0001",
        "eb9999",
        "Observation:subject:Patient",
        "WzFd",
        "json",
        "xml",
    ),
    *("urn:uuid:x", "http://fhir.test/fhir/Patient/a", "\ud7ff", "𝕏", SQL, "\0", "a\\,b", "\\|", "code$5", "summary"),
]
HEADER_VALUES = [
    *(
        "*",
        'W/"1"',
        '"1"',
        "1",
        "%",
        "",
        'W/"1", W/"2"',
        "return=minimal",
        "return=OperationOutcome",
        "handling=strict",
    ),
    *("handling=x", "identifier=a|b", "x?y", "code=x", "_id=a", "http://fhir.test/fhir/Patient?_id=a", "_sort=x"),
    *(
        FHIR_JSON,
        JSON_PATCH,
        MERGE_PATCH,
        "application/json",
        "text/xml",
        "*/*;q=0",
        "application/fhir+json;q=0.5, */*",
    ),
    *("Sat, 01 Jan 2000 00:00:00 GMT", "Sat, 99 Jan 2000 00:00:00 GMT", "Fri, 31 Dec 99999 00:00:00 -9999", "9" * 30),
    *(
        "application/x-www-form-urlencoded",
        "image/png",
        "respond-async",
        "{}",
        "a, b",
        "[::1]",
        "x y",
        "gzip",
        "\u00ff",
    ),
    '{"resourceType":"Provenance","target":[{"reference":"Patient/a"}],"recorded":"2024-01-01T00:00:00Z",'
    '"agent":[{"who":{"display":"x"}}]}',
]
HEADERS = [
    *("if-match", "if-none-match", "if-none-exist", "if-modified-since", "prefer", "accept", "content-type", "host"),
    *(
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
        "x-provenance",
        "content-encoding",
        "x-security-context",
    ),
]


def path_of(random: Random) -> list[str]:
    """Segments of a path: mostly one that there is."""
    name = random.choice(NAMES)
    shapes: list[list[str]] = [[], [name], [name], [name, random.choice(IDS)], [name, random.choice(IDS)]]
    shapes += [[name, random.choice(IDS), random.choice(WORDS)], [name, random.choice(WORDS)], [random.choice(WORDS)]]
    shapes += [
        [name, random.choice(IDS), "_history", random.choice(IDS)],
        [name, random.choice(IDS), random.choice(NAMES)],
    ]
    shapes += [[random.choice(NAMES + IDS + WORDS) for _ in range(random.randrange(6))]]
    return random.choice(shapes)


def query_of(random: Random, resource_type: str) -> list[tuple[str, str]]:
    """Parameters of a type, control ones, and some that nobody knows."""
    own = [*parameters_of(resource_type)] if resource_type in RESOURCE_TYPES else ["code"]
    pairs = []
    for _ in range(random.choice([0, 0, 1, 1, 2, 4])):
        name = random.choice(own) + random.choice(MODIFIERS) if random.random() < 0.6 else random.choice(CONTROLS)
        pairs.append((name, random.choice(VALUES)))
    return pairs


def bundle_of(random: Random) -> Any:
    entries: list[Any] = []
    for number in range(random.choice([0, 1, 2, 3, 6])):
        name = random.choice(NAMES)
        path = "/".join(path_of(random)) if random.random() < 0.5 else name
        query = urlencode(query_of(random, name))
        request = {"method": random.choice(METHODS), "url": f"{path}?{query}" if query else path}
        for member in ("ifMatch", "ifNoneMatch", "ifNoneExist", "ifModifiedSince"):
            if random.random() < 0.1:
                request[member] = random.choice(HEADER_VALUES)
        entry: dict[str, Any] = {"request": request, "fullUrl": f"urn:uuid:{number % 3}"}
        if random.random() < 0.8:
            entry["resource"] = resource_of(random)
        entries.append(entry if random.random() < 0.9 else odd(random))
    return {"resourceType": "Bundle", "type": random.choice(["batch", "transaction", "transaction"]), "entry": entries}


def resource_of(random: Random, resource_type: str = "") -> Any:
    kind = resource_type if resource_type in RESOURCE_TYPES else random.choice(RESOURCE_TYPES)
    tree = shaped(random, kind, random.choice([0, 0, 1, 1, 2, 5]))
    if random.random() < 0.5:
        tree["id"] = random.choice(IDS)
    return tree


def patch_of(random: Random) -> Any:
    places = [
        "/status",
        "/name/0",
        "/name/-",
        "/",
        "",
        "/id",
        "/meta/tag",
        "/contained/0/id",
        "/x~1y",
        "/~",
        "/code",
        5,
    ]
    operation = {
        "op": random.choice(["add", "remove", "replace", "move", "copy", "test", "x"]),
        "path": random.choice(places),
    }
    operation |= {"from": random.choice(places)} if random.random() < 0.3 else {}
    operation |= {"value": odd(random)} if random.random() < 0.8 else {}
    return random.choice([[operation], [operation] * 3, {random.choice(["status", "id", "name"]): odd(random)}])


def body_of(random: Random, path: list[str]) -> tuple[bytes, str]:
    """A body and what it says it is."""
    match random.randrange(12):
        case 0:
            return as_json(random, patch_of(random)), random.choice([JSON_PATCH, MERGE_PATCH])
        case 1:
            return urlencode(query_of(random, path[0] if path else "")).encode(), "application/x-www-form-urlencoded"
        case 2 | 3 | 4:
            return as_json(random, bundle_of(random)), FHIR_JSON
        case 5:
            parts = [{"name": random.choice(CONTROLS), "valueString": random.choice(VALUES)}]
            parts += [{"name": "resource", "resource": resource_of(random)}, odd(random)][: random.randrange(3)]
            return as_json(random, {"resourceType": "Parameters", "parameter": parts}), FHIR_JSON
        case 6:
            return random.randbytes(random.randrange(30)), random.choice(["", "image/png", FHIR_JSON, "x"])
    tree = resource_of(random, path[0] if path else "")
    if len(path) > 1 and random.random() < 0.8:
        tree["id"] = path[1]
    return as_json(random, tree), random.choice([FHIR_JSON, "application/json"])


def request_of(seed: int) -> dict[str, Any]:
    """One request."""
    random = Random(seed)
    method, path = random.choice(METHODS), path_of(random)
    url = "/".join(quote(part.encode("utf-8", "replace"), safe=random.choice(["$*", "$*/.%"])) for part in path)
    query = urlencode(query_of(random, path[0] if path else ""), errors="replace")
    body, kind = body_of(random, path)
    headers = {"content-type": kind}
    for _ in range(random.choice([0, 0, 1, 2])):
        headers[random.choice(HEADERS)] = random.choice(HEADER_VALUES)
    return {
        "method": method,
        "url": f"{url}?{query}" if query else url,
        "content": body if method in {"POST", "PUT", "PATCH", "X"} else None,
        "headers": {name: text.encode("latin-1", "replace") for name, text in headers.items()},
    }


def held(store: FhirStore) -> list[tuple[Any, ...]]:
    """How much of every type is there; what the audit writes aside."""
    statement = (
        "SELECT t.text, count(*), sum(r.version), sum(r.deleted), (SELECT count(*) FROM history h WHERE h.type = t.id)"
        " FROM resource r JOIN term t ON t.id = r.type WHERE t.text <> 'AuditEvent' GROUP BY t.text ORDER BY t.text"
    )
    return store.read(lambda session: session.connection.execute(statement).fetchall())


async def check(store: FhirStore, http: httpx.AsyncClient, asked: dict[str, Any]) -> None:
    before = held(store)
    response = await http.request(**asked)
    assert response.status_code in STATUSES, (asked, response.text)
    if response.status_code < 400:
        if response.content and "json" in response.headers["content-type"]:
            json.loads(response.content)
        return
    assert held(store) == before, asked
    if asked["method"] != "HEAD":
        outcome = response.json()
        assert outcome["resourceType"] == "OperationOutcome", (asked, outcome)
        assert resource_issues(outcome) == [], (asked, outcome)
        assert response.status_code >= 500 or all(issue["expression"] for issue in outcome["issue"]), (asked, outcome)


async def run(store: FhirStore, directory: Path, seeds: list[int], scopes: str) -> None:
    guard = Guard()
    headers = {}
    if scopes:
        patient = "a" if scopes.startswith("patient/") else None
        token = Site(store, directory).token(*scopes.split(), patient=patient)
        guard, headers = Guard.open(store), {"authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(create_app(store, guard=guard))
    async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/", headers=headers) as http:
        await http.put("Patient/a", json={"resourceType": "Patient", "id": "a", "name": [{"family": "x"}]})
        await http.put("Basic/a", json={"resourceType": "Basic", "id": "a", "code": {"text": "x"}})
        for seed in seeds:
            await check(store, http, request_of(seed))


SCOPES = ["", "", "system/*.cruds", "patient/*.cruds", "system/Patient.rs system/Observation.cu"]
SCOPES += ["system/Observation.cruds?category=vital-signs system/Patient.c", "user/*.read"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.lists(st.integers(0, 2**48), min_size=5, max_size=25),
    st.sampled_from(SCOPES),
    st.sampled_from(["structure", "structure", "strict", "off"]),
)
def test_no_request_makes_the_server_fail_and_none_refused_leaves_a_trace(
    seeds: list[int], scopes: str, level: str
) -> None:
    with tempfile.TemporaryDirectory(dir=_memory()) as name:
        chosen = FhirStoreSettings(maximum_bundle_entries=5, validation=level)
        store = FhirStore.open(Path(name) / "fhir", Clock(), chosen)
        try:
            asyncio.run(run(store, Path(name) / "fhir", seeds, scopes))
        finally:
            store.close()


async def test_every_resource_is_in_its_own_compartment(http: httpx.AsyncClient) -> None:
    for kind in ("Encounter", "Device", "Practitioner", "Patient"):
        assert (await http.get(f"{kind}/a/{kind}")).status_code == 200, kind
    encounter = {"resourceType": "Encounter", "id": "a", "status": "planned", "class": {"code": "AMB"}}
    await http.put("Encounter/a", json=encounter)
    await http.put("Encounter/b", json=encounter | {"id": "b"})

    found = (await http.get("Encounter/a/Encounter")).json()["entry"]

    assert [each["resource"]["id"] for each in found] == ["a"]


@pytest.mark.parametrize("text", ["", ",", ",,"])
async def test_a_list_of_no_types_is_as_none_given(http: httpx.AsyncClient, text: str) -> None:
    await http.put("Basic/a", json={"resourceType": "Basic", "id": "a", "code": {"text": "x"}})

    assert (await http.get(f"?_type={text}&_id=a")).json()["total"] == 1
    assert (await http.get(f"?_type={text}&code:not=x")).status_code in {200, 400}
    assert (await http.get(f"_history?_type={text}")).status_code in {200, 404}


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND"])
async def test_an_audited_request_by_a_method_that_fhir_has_not_is_refused_as_any_other(
    tmp_path: Path, store: FhirStore, method: str
) -> None:
    async with Site(store, tmp_path / "fhir").http(Site(store, tmp_path / "fhir").token("system/*.cruds")) as http:
        response = await http.request(method, "Patient")

    assert response.status_code == 405
    assert response.headers["allow"]


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - many stores, none worth a disk
