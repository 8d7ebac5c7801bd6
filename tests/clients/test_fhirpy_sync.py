"""fhirpy, the synchronous client: another HTTP library beneath, so each kind of request once."""

from typing import Any

import pytest
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import (
    AuthorizationError,
    ForbiddenError,
    MultipleResourcesFound,
    OperationOutcome,
    ResourceNotFound,
)

from served_store import AskingServer


@pytest.fixture
def client(base_url: str) -> SyncFHIRClient:
    return SyncFHIRClient(base_url)


def patient(client: SyncFHIRClient, word: str, **members: Any) -> Any:
    return client.resource("Patient", identifier=[{"system": "http://example.com/env", "value": word}], **members)


def test_a_resource_lives_its_life(client: SyncFHIRClient, word: str) -> None:
    person = patient(client, word, active=False)
    person.save()
    person.active = True
    person.save(fields=["active"])
    person.patch(gender="female")
    person["birthDate"] = "1980-02-29"
    person.update()
    read = client.reference("Patient", person.id).to_resource()
    assert read.serialize() == person.serialize()
    assert (read.active, read.gender, read.birthDate, read.meta.versionId) == (True, "female", "1980-02-29", "4")
    assert person.refresh() == read
    read.delete()
    with pytest.raises(ResourceNotFound):
        client.reference("Patient", person.id).to_resource()


@pytest.mark.filterwarnings("ignore:The first arg of method patch:DeprecationWarning")
def test_conditions_meet_one_resource(client: SyncFHIRClient, word: str) -> None:
    found = client.resources("Patient").search(identifier=word)
    first, was_created = found.get_or_create(patient(client, word))
    assert was_created
    second, was_created = found.get_or_create(patient(client, word, active=False))
    assert (second.id, bool(was_created)) == (first.id, False)
    updated, was_created = found.update(patient(client, word, active=True))
    assert (updated.id, updated.active, bool(was_created)) == (first.id, True, False)
    assert found.patch(gender="other").gender == "other"
    assert found.count() == 1
    patient(client, word).save()
    with pytest.raises(MultipleResourcesFound):
        found.get_or_create(patient(client, word))


def test_searches_page_sort_and_include(client: SyncFHIRClient, word: str) -> None:
    person = patient(client, word).save()
    days = [f"2024-01-{day:02}" for day in range(1, 8)]
    for day in days:
        code = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
        client.resource(
            "Observation", status="final", code=code, subject=person.to_reference(), effectiveDateTime=day
        ).save()
    found = client.resources("Observation").search(subject=person).sort("-date")
    assert [each.effectiveDateTime for each in found.limit(3).fetch_all()] == days[::-1]
    assert [each.effectiveDateTime for each in found.limit(2)] == days[::-1]
    assert found.first().effectiveDateTime == days[-1]
    assert found.search(date__ge="2024-01-03", date__lt="2024-01-06").count() == 3
    modes = [each.search.mode for each in found.limit(2).include("Observation", "subject").fetch_raw().entry]
    assert sorted(modes) == ["include", "match", "match"]
    bundle = client.resources("Patient").search(_id=person.id).revinclude("Observation", "subject").fetch_raw()
    assert len(bundle.entry) == 8
    assert len(person.execute("$everything", method="get").entry) == 8
    last = client.resources("Observation").execute("$lastn", method="get", params={"subject": person.reference})
    assert last.entry[0].resource.effectiveDateTime == days[-1]


def test_refusals_have_the_clients_names(base_url: str, client: SyncFHIRClient, asking: AskingServer) -> None:
    assert client.resource("Patient", birthDate="1998-01-01").is_valid()
    assert not client.resource("Patient", birthDate="date").is_valid()
    with pytest.raises(OperationOutcome):
        client.resource("Patient", birthDate="date").is_valid(raise_exception=True)
    with pytest.raises(OperationOutcome):
        client.resource("Patient", gender="unheard-of").save()
    person = client.resource("Patient", active=True).save().patch(active=False)
    with pytest.raises(MultipleResourcesFound):  # its name for every 412
        SyncFHIRClient(base_url, extra_headers={"If-Match": 'W/"1"'}).resource("Patient", id=person.id).save()
    with pytest.raises(AuthorizationError):
        SyncFHIRClient(asking.base_url).resources("Patient").fetch()
    reader = asking.site.token("system/Patient.rs", name="synchronous reader")
    with pytest.raises(ForbiddenError):
        SyncFHIRClient(asking.base_url, authorization=f"Bearer {reader}").resource("Patient").save()
