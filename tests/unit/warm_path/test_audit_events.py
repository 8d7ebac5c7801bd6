"""Step 17: an AuditEvent of every kind of act is taken by the FHIR store."""

import pytest
import structlog

from pulseweir.backends.channels.log import LogChannel
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository
from pulseweir.warm_path import audit
from pulseweir.warm_path.delivery import OutboxSender
from pulseweir.warm_path.settings import CoordinationSettings


@pytest.mark.parametrize(
    "subject", ["worklist unit", "ward-overview Ward A", "ward-overview", "patient-page", "charts", "Task/t1", ""]
)
async def test_what_a_person_looked_at_is_told_to_fhir(repository: Repository, fhir: FhirClient, subject: str) -> None:
    out = OutboxSender(repository, fhir, {"log": LogChannel()}, CoordinationSettings())
    with repository.writing() as transaction:
        audit.record(transaction, actor="morgan", action="read", now=1, subject=subject)

    with structlog.testing.capture_logs() as lines:
        while await out.write_fhir():
            pass

    [event] = await fhir.search("AuditEvent", {})
    told = [{**each["what"]} for each in event.get("entity", [])]
    name = "reference" if subject.startswith("Task/") else "display"
    assert told == ([{name: subject}] if subject else [])
    assert lines == []
