"""HAPI's Java client does against the store what its documentation does; each step of it is a test."""

import re
from typing import Any

import pytest

from foreign_clients import SOURCES, Report, run_java
from served_store import asking_store
from tracked_files import ROOT

# The first run on a machine fetches the client.
pytestmark = pytest.mark.timeout(400)
SAW: dict[str, Any] = {
    "server validation": ["GET /metadata", "GET /Patient"],
    "capability statement": {"version": "4.0.1", "patients": True},
    "create": {
        "created": [True, True],
        "version": "1",
        "family": "Smith",
        "minimal": True,
        "asked": ["POST /Patient", "POST /Patient"],
    },
    "read": {"family": "Smith", "version": "1", "updated": True, "unchanged": True, "same": True},
    "update": {"version": "2", "created": True, "at": "/Patient/eve/_history/1"},
    "vread": {"version": "1", "born": None},
    "patch": {"version": "3", "active": True},
    "delete": {"version": None},
    "round trip": {"value": "72.50", "equal": True, "contained": "active"},
    "conditional create": {"created": [True, False], "same": True},
    "conditional update": {"created": None, "version": "2"},
    "conditional patch": {"version": "3"},
    "conditional delete": {"created again": True},
    "read of what is deleted": {"kind": "ResourceGoneException", "status": 410, "code": "deleted"},
    "read of what never was": {"kind": "ResourceNotFoundException", "status": 404, "code": "not-found"},
    "update of a version that is past": {"kind": "PreconditionFailedException", "status": 412, "code": "conflict"},
    "several match a condition": {"kind": "PreconditionFailedException", "status": 412, "code": "multiple-matches"},
    "create of what is wrong": {"kind": "UnprocessableEntityException", "status": 422, "code": "required"},
    "XML": [
        {"kind": "UnclassifiedServerFailureException", "status": 406, "code": "not-supported"},
        {"kind": "UnclassifiedServerFailureException", "status": 406, "code": "not-supported"},
    ],
    "FHIRPath patch": {"kind": "UnclassifiedServerFailureException", "status": 415, "code": "not-supported"},
    "what is looked for": 6,
    "search": {"found": ["Observation/hr-4", "Observation/hr-3"], "total": 4},
    "search by value, chain and name": [
        ["Observation/hr-3", "Observation/hr-4"],
        ["Observation/hr-0"],
        ["Patient/ida"],
    ],
    "search with what belongs to it": [["Observation/hr-0", "Patient/ida"], 6],
    "search in each style": {
        "found": [["Observation/hr-0"], ["Observation/hr-0"], ["Observation/hr-0"]],
        "asked": ["GET /Observation", "GET /Observation/_search", "POST /Observation/_search"],
    },
    "search in a compartment": ["Observation/hr-0"],
    "search by URL": ["Observation/hr-4"],
    "parts of resources": {"total": 5, "status": "final", "value": False},
    "search that is not understood": {"kind": "InvalidRequestException", "status": 400, "code": "invalid"},
    "pages": [["Observation/hr-0", "Observation/hr-1"], ["Observation/hr-2", "Observation/hr-3"], ["Observation/hr-4"]],
    "pages of a search by POST": [
        ["Observation/hr-0", "Observation/hr-1"],
        ["Observation/hr-2", "Observation/hr-3"],
        ["Observation/hr-4"],
    ],
    "history of an instance": {"type": "history", "methods": ["DELETE", "PUT"], "deleted without content": True},
    "history of a type": {"newest": ["Observation/hr-4", "Observation/hr-3"], "walked": True, "pages": 3},
    "history of everything": {"newest": ["Observation/hr-4"], "later": 0},
    "transaction": {"type": "transaction-response", "statuses": ["201", "201", "200", "201"], "linked": True},
    "transaction of resources": ["Patient/true", "Observation/true"],
    "transaction that fails as a whole": {
        "error": {"kind": "UnprocessableEntityException", "status": 422, "code": "required"},
        "stored": 0,
    },
    "batch": {"type": "batch-response", "statuses": ["200", "404", "201"], "read": "ida", "outcome": "not-found"},
    "$validate": [False, True],
    "$everything": [
        [
            "Patient/ida",
            "Observation/hr-0",
            "Observation/hr-1",
            "Observation/hr-2",
            "Observation/hr-3",
            "Observation/hr-4",
        ],
        6,
        ["Patient/ida"],
    ],
    "$lastn": ["Observation/hr-4", "Observation/hr-3"],
    "no token": {"kind": "AuthenticationException", "status": 401, "code": "login"},
    "bearer token": {
        "created": True,
        "delete": {"kind": "ForbiddenOperationException", "status": 403, "code": "forbidden"},
    },
}
"""What each step has to see, in the order of the script."""


@pytest.fixture(scope="module")
def report(base_url: str, tmp_path_factory: pytest.TempPathFactory) -> Report:
    with asking_store(tmp_path_factory.mktemp("closed")) as closed:
        token = closed.site.token("system/Patient.cru", "system/*.s", name="hapi")
        return run_java("pulseweir.client.HapiClient", base_url, closed.base_url, token)


@pytest.mark.parametrize("step", SAW)
def test_the_client_sees(report: Report, step: str) -> None:
    assert report.saw(step) == SAW[step]


def test_every_step_is_looked_at(report: Report) -> None:
    assert (list(report.steps), report.broke) == (list(SAW), "")


def test_client_and_server_are_of_one_version() -> None:
    client = (SOURCES / "java" / "pom.xml").read_text(encoding="utf-8")
    server = (ROOT / "benchmarks" / "hapi" / "pom.xml").read_text(encoding="utf-8")

    [version] = re.findall(r"<hapi.version>(.+)</hapi.version>", client)
    assert set(re.findall(r"<artifactId>hapi-fhir-\S+</artifactId>\s*<version>(.+)</version>", server)) == {version}
