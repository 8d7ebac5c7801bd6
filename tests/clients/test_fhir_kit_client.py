"""fhir-kit-client (npm) does against the store what its README does; each step of it is a test."""

from typing import Any

import pytest

from foreign_clients import Report, run_node
from pulseweir.fhir_store.security.settings import FhirSecuritySettings
from served_store import asking_store

# The first run on a machine fetches the client.
pytestmark = pytest.mark.timeout(400)
ISSUER = FhirSecuritySettings(
    authorization_url="https://issuer.example/authorize", token_url="https://issuer.example/token"
)
SAW: dict[str, Any] = {
    "capability statement": {
        "version": "4.0.1",
        "server": [True, True, True, True],
        "interactions": [
            "create",
            "delete",
            "history-instance",
            "history-type",
            "patch",
            "read",
            "search-type",
            "update",
            "vread",
        ],
        "create": True,
        "birthdate": True,
        "parameters": True,
        "unknown": False,
        "conditional": [True, True, "single"],
    },
    "smart metadata of an open server": [None, None, None],
    "smart metadata of a closed server": ["https://issuer.example/authorize", "https://issuer.example/token"],
    "probe of OpenID configuration": 404,
    "create": {"status": 201, "etag": 'W/"1"', "family": "Smith", "at": True},
    "create with a minimal answer": {"status": 201, "members": 0, "family": "Minimal"},
    "create of what there is already": {"status": 200, "same": True},
    "read": {"status": 200, "etag": 'W/"1"', "family": "Smith", "same": True},
    "update": {"status": 200, "etag": 'W/"2"', "born": "1980-02-29"},
    "vread": {"status": 200, "etag": 'W/"1"', "born": None},
    "update under a new id": {"status": 201, "etag": 'W/"1"'},
    "update of a version that is past": {"status": 412, "type": "OperationOutcome", "code": "conflict"},
    "conditional update": {"status": 200, "etag": 'W/"3"', "same": True, "family": "Smith-Jones"},
    "patch": {"status": 200, "etag": 'W/"4"', "active": False, "names": 2},
    "patch that does not apply": {"status": 422, "type": "OperationOutcome", "code": "business-rule"},
    "delete": 204,
    "read of what is deleted": {"status": 410, "type": "OperationOutcome", "code": "deleted"},
    "read of what never was": {"status": 404, "type": "OperationOutcome", "code": "not-found"},
    "create of what is wrong": {"status": 422, "type": "OperationOutcome", "code": "code-invalid"},
    "raw requests": [201, 200, 204],
    "raw request that does not say what it sends": {"status": 415, "type": "OperationOutcome", "code": "not-supported"},
    "what is looked for": 6,
    "search": {"type": "searchset", "total": 1, "found": ["Patient/eve"], "mode": "match"},
    "search with what belongs to it": ["Observation/hr-0", "Patient/eve"],
    "search by POST": {"found": ["Patient/eve"], "sentTo": "/Patient/_search"},
    "system search": [["Observation/hr-0", "Patient/eve"], ["Observation/hr-0", "Patient/eve"], "/fhir/"],
    "compartment search": [["Observation/hr-4", "Observation/hr-3"], ["Observation/hr-4", "Observation/hr-3"], 0],
    "search that is not understood": {"status": 400, "type": "OperationOutcome", "code": "invalid"},
    "next pages": [
        ["Observation/hr-0", "Observation/hr-1"],
        ["Observation/hr-2", "Observation/hr-3"],
        ["Observation/hr-4"],
    ],
    "next pages under another name of the server": {"pages": 3, "asAsked": True},
    "next pages of a search by POST": [
        ["Observation/hr-0", "Observation/hr-1"],
        ["Observation/hr-2", "Observation/hr-3"],
        ["Observation/hr-4"],
    ],
    "previous page": {"ofFirst": True, "back": None},
    "history of an instance": {"type": "history", "total": 2, "versions": ["DELETE 204", "PUT 201"]},
    "history of a type": {"type": "history", "types": ["Patient"], "newest": "DELETE 204"},
    "history of everything": {"type": "history", "several": True, "walked": True},
    "transaction": {
        "sentTo": "/",
        "type": "transaction-response",
        "statuses": ["201", "201", "200", "201"],
        "linked": True,
    },
    "transaction of more than 64 KiB": {"large": True, "created": 300},
    "transaction that fails as a whole": {
        "status": 422,
        "type": "OperationOutcome",
        "code": "code-invalid",
        "stored": 0,
    },
    "batch": {
        "type": "batch-response",
        "statuses": ["200", "200", "404", "201"],
        "read": "eve",
        "found": 5,
        "outcome": "OperationOutcome",
    },
    "$validate": {"answers": ["OperationOutcome", "OperationOutcome"], "errors": [False, True]},
    "$everything": [
        [
            "Observation/hr-0",
            "Observation/hr-1",
            "Observation/hr-2",
            "Observation/hr-3",
            "Observation/hr-4",
            "Patient/eve",
        ],
        ["Observation/hr-0", "Observation/hr-1", "Observation/hr-2", "Observation/hr-3", "Observation/hr-4"],
    ],
    "$lastn": ["Observation/hr-4"],
    "operation that is not there": {"status": 404, "type": "OperationOutcome", "code": "not-supported"},
    "resolve": ["Patient/eve", "Patient/eve", "Patient/eve", "Device/monitor", "Patient/eve", "Patient/ward"],
    "bearer token": {"stored": 201, "found": ["Patient/eve"]},
    "custom headers and a signer": [200, 200],
    "no token, a wrong one, rights that are not given": [
        {"status": 401, "type": "OperationOutcome", "code": "login"},
        {"status": 401, "type": "OperationOutcome", "code": "login"},
        {"status": 403, "type": "OperationOutcome", "code": "forbidden"},
    ],
}
"""What each step has to see, in the order of the script."""


@pytest.fixture(scope="module")
def report(base_url: str, tmp_path_factory: pytest.TempPathFactory) -> Report:
    with asking_store(tmp_path_factory.mktemp("closed"), security=ISSUER) as closed:
        token = closed.site.token("system/Patient.cru", "system/*.s", name="kit")
        return run_node("kit.mjs", base_url, closed.base_url, token)


@pytest.mark.parametrize("step", SAW)
def test_the_client_sees(report: Report, step: str) -> None:
    assert report.saw(step) == SAW[step]


def test_every_step_is_looked_at(report: Report) -> None:
    assert (list(report.steps), report.broke) == (list(SAW), "")
