"""fhirclient of npm (SMART JS) does against the store what its README does; each step of it is a test."""

import asyncio
from typing import Any

import pytest

from fhir_site import observation, patient
from foreign_clients import Report, run_node
from pulseweir.fhir_store.security.settings import FhirSecuritySettings
from served_store import asking_store

# The first run on a machine fetches the client.
pytestmark = pytest.mark.timeout(400)
ISSUER = FhirSecuritySettings(
    authorization_url="https://issuer.example/authorize", token_url="https://issuer.example/token"
)
SAW: dict[str, Any] = {
    "launch on an open server": {"shown": "ready", "patient": "eve", "encounter": "stay", "server": True},
    "launch on a closed server": {"at": "https://issuer.example/authorize", "aud": True, "pkce": "S256"},
    "version of FHIR": ["4.0.1", 4],
    "create": {"version": "1", "status": 201, "fresh": True, "located": True},
    "update": {"first": 201, "version": "2", "born": "1990-01-01"},
    "patch": {"version": "3", "active": True},
    "delete": {"status": 204, "then": {"name": "HttpError", "status": 410, "code": "deleted"}},
    "request": {"ids": ["eve", "eve"], "status": 200, "etag": 'W/"3"', "unchanged": 304},
    "errors": [
        {"name": "HttpError", "status": 404, "code": "not-found"},
        {"name": "HttpError", "status": 400, "code": "invalid"},
        {"name": "HttpError", "status": 404, "code": "not-supported"},
        {"name": "HttpError", "status": 422, "code": "code-invalid"},
        {"name": "HttpError", "status": 412, "code": "conflict"},
        {"name": "HttpError", "status": 422, "code": "business-rule"},
    ],
    "XML": {"name": "HttpError", "status": 406, "code": "not-supported"},
    "what is looked for": 7,
    "first page": ["Observation/hr-0", "Observation/hr-1"],
    "all pages, flat": ["hr-0", "hr-1", "hr-2", "hr-3", "hr-4"],
    "two pages": [["Observation/hr-0", "Observation/hr-1"], ["Observation/hr-2", "Observation/hr-3"]],
    "page by page": {
        "nothing": None,
        "pages": [
            ["Observation/hr-0", "Observation/hr-1"],
            ["Observation/hr-2", "Observation/hr-3"],
            ["Observation/hr-4"],
        ],
    },
    "generators of pages and resources": {"sizes": [2, 2, 1], "ids": ["hr-0", "hr-1", "hr-2"]},
    "references in place": ["eve", "stay", "eve"],
    "references apart": {"found": 5, "references": ["Encounter/stay", "Patient/eve"]},
    "references of a resource at hand": {"apart": ["Patient/eve"], "inPlace": "Patient"},
    "patient and encounter of the launch": ["eve", "stay"],
    "request about the patient": {
        "observations": ["hr-4", "hr-3", "hr-2", "hr-1", "hr-0"],
        "encounters": ["Encounter/stay"],
        "patients": ["Patient/eve"],
    },
    "request about the patient for every type": [
        "AllergyIntolerance",
        "AuditEvent",
        "Basic",
        "CarePlan",
        "CareTeam",
        "Communication",
        "CommunicationRequest",
        "Condition",
        "Consent",
        "DetectedIssue",
        "DeviceUseStatement",
        "DiagnosticReport",
        "Encounter",
        "EpisodeOfCare",
        "Flag",
        "Goal",
        "Group",
        "MedicationStatement",
        "Observation",
        "Patient",
        "Provenance",
        "RiskAssessment",
        "ServiceRequest",
    ],
    "closed server without a token": {"status": 401, "launch": True},
    "closed server with a token of one patient": {
        "patient": "eve",
        "mine": ["o-eve"],
        "all": [["o-eve", "eve"]],
        "other": {"name": "HttpError", "status": 404, "code": "not-found"},
        "write": {"name": "HttpError", "status": 403, "code": "forbidden"},
    },
}
"""What each step has to see, in the order of the script."""


@pytest.fixture(scope="module")
def report(base_url: str, tmp_path_factory: pytest.TempPathFactory) -> Report:
    ward = (patient("eve"), patient("other"), observation("o-eve", "eve"), observation("o-other", "other"))
    with asking_store(tmp_path_factory.mktemp("closed"), security=ISSUER) as closed:
        asyncio.run(closed.site.fill(*ward))
        token = closed.site.token("patient/*.rs", patient="eve", name="smart")
        return run_node("smart.mjs", base_url, closed.base_url, token)


@pytest.mark.parametrize("step", SAW)
def test_the_client_sees(report: Report, step: str) -> None:
    assert report.saw(step) == SAW[step]


def test_every_step_is_looked_at(report: Report) -> None:
    assert (list(report.steps), report.broke) == (list(SAW), "")
