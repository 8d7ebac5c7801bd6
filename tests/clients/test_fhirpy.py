"""fhirpy, the asynchronous client: single resources, conditions, operations and errors, as its README has them."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import pytest
from fhirpy import AsyncFHIRClient
from fhirpy.base.exceptions import (
    AuthorizationError,
    ForbiddenError,
    MultipleResourcesFound,
    OperationOutcome,
    ResourceNotFound,
)

from served_store import AskingServer

SYSTEM = "http://example.com/env"


@pytest.fixture
def client(base_url: str) -> AsyncFHIRClient:
    return AsyncFHIRClient(base_url)


@dataclass
class TypedPatient:
    """A data model of one's own, as the client takes them."""

    resourceType: str = "Patient"  # noqa: N815 - FHIR's own word
    id: str | None = None
    meta: Any = None
    active: bool | None = None
    gender: str | None = None

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((each.name, getattr(self, each.name)) for each in fields(self))


def patient(client: AsyncFHIRClient, word: str, **members: Any) -> Any:
    return client.resource("Patient", identifier=[{"system": SYSTEM, "value": word}], **members)


async def stored(client: AsyncFHIRClient, word: str) -> int:
    total: int = await client.resources("Patient").search(identifier=f"{SYSTEM}|{word}").count()
    return total


class TestResources:
    async def test_a_resource_is_saved_changed_in_part_and_as_a_whole(self, client: AsyncFHIRClient) -> None:
        organization = client.resource("Organization", name="beda.software", active=False)
        await organization.save()
        assert organization.id
        assert organization.meta.versionId == "1"

        organization.active = True
        await organization.save(fields=["active"])
        assert (organization["name"], organization.active, organization.meta.versionId) == ("beda.software", True, "2")

        await organization.patch(name="renamed")
        assert (organization.name, organization.active, organization.meta.versionId) == ("renamed", True, "3")

        organization["alias"] = ["other"]
        await organization.update()
        again = await client.reference("Organization", organization.id).to_resource()
        assert again.serialize() == organization.serialize()
        assert again.alias == ["other"]

    async def test_a_patch_with_null_removes_the_element(self, client: AsyncFHIRClient) -> None:
        person = await client.resource("Patient", gender="female", birthDate="1980-02-29").save()
        await person.patch(gender=None)
        read = await client.get("Patient", person.id)
        assert "gender" not in read
        assert read["birthDate"] == "1980-02-29"

    async def test_a_resource_keeps_the_id_it_comes_with(self, client: AsyncFHIRClient, word: str) -> None:
        """`save` with an id is PUT: an update as create, also with ids of 64 characters."""
        name = word.ljust(64, "0")
        await client.resource("Device", id=name, status="active").save()
        assert (await client.reference("Device", name).to_resource()).status == "active"

    async def test_names_of_all_the_world_survive(self, client: AsyncFHIRClient, word: str) -> None:
        person = await patient(client, word, name=[{"family": "Ångström-Ибрагимов", "given": ["李", "👩‍⚕️"]}]).save()
        read = await client.reference("Patient", person.id).to_resource()
        assert read.get_by_path(["name", 0, "given"]) == ["李", "👩‍⚕️"]
        found = await client.resources("Patient").search(family="Ångström-Ибрагимов", identifier=word).first()
        assert found == read

    async def test_data_models_of_ones_own_are_stored_and_read(self, client: AsyncFHIRClient, word: str) -> None:
        created = await client.create(TypedPatient(active=False))
        assert created.id
        assert (await client.patch(TypedPatient, created.id, active=True)).active is True
        assert (await client.patch(f"Patient/{created.id}", gender="other"))["gender"] == "other"
        assert (await client.patch("Patient", created.id, gender=None))["active"] is True
        saved = await client.save(TypedPatient(id=created.id, gender="female"), fields=["gender"])
        assert (saved.gender, saved.active) == ("female", True)
        assert await client.get(TypedPatient, created.id) == saved
        updated = await client.update(TypedPatient(id=created.id, gender="male"))
        assert (updated.gender, updated.active) == ("male", None)
        assert await client.resources(TypedPatient).search(_id=created.id).fetch_all() == [updated]
        await client.delete(updated)
        with pytest.raises(ResourceNotFound):
            await client.get(TypedPatient, created.id)

    async def test_references_lead_to_their_resources(self, client: AsyncFHIRClient) -> None:
        person = await client.resource("Patient", active=True).save()
        episode = client.resource("EpisodeOfCare", status="active", patient=person.to_reference(display="the one"))
        await episode.save()
        read = await client.reference("EpisodeOfCare", episode.id).to_resource()
        assert read.patient.reference == f"Patient/{person.id}"
        assert read.patient.display == "the one"
        assert await read.patient.to_resource() == person
        await read.patient.patch(active=False)
        assert (await person.refresh()).active is False

    async def test_refresh_keeps_what_has_not_changed(self, client: AsyncFHIRClient) -> None:
        """`refresh` sends the bare version as If-None-Match, without the quotes of an entity tag."""
        person = await client.resource("Patient", active=True).save()
        before = person.serialize()
        assert (await person.refresh()).serialize() == before
        _, status = await client._do_request(
            "get", person.reference, extra_headers={"If-None-Match": "1"}, returning_status=True
        )
        assert status == 304

    async def test_a_deleted_resource_is_gone(self, client: AsyncFHIRClient) -> None:
        person = await client.resource("Patient", active=True).save()
        reference = person.to_reference()
        await person.delete()
        with pytest.raises(ResourceNotFound, match="deleted"):
            await reference.to_resource()
        await reference.delete()


class TestConditions:
    async def test_get_or_create_makes_one_resource(self, client: AsyncFHIRClient, word: str) -> None:
        found = client.resources("Patient").search(identifier=f"{SYSTEM}|{word}")
        first, was_created = await found.get_or_create(patient(client, word, name=[{"text": "Mr. Smith"}]))
        assert was_created
        second, was_created = await found.get_or_create(patient(client, word, name=[{"text": "Somebody else"}]))
        assert not was_created
        assert second.id == first.id
        assert second.name[0].text == "Mr. Smith"
        assert await stored(client, word) == 1

    async def test_many_at_once_make_one_resource(self, client: AsyncFHIRClient, word: str) -> None:
        found = client.resources("Patient").search(identifier=f"{SYSTEM}|{word}")
        answers = await asyncio.gather(*(found.get_or_create(patient(client, word)) for _ in range(12)))
        assert sum(was_created for _, was_created in answers) == 1
        assert len({each.id for each, _ in answers}) == 1
        assert await stored(client, word) == 1

    async def test_create_with_criteria_makes_one_resource(self, client: AsyncFHIRClient, word: str) -> None:
        first = await patient(client, word).create(identifier=word)
        second = await patient(client, word).create(identifier=word)
        assert first.id == second.id
        assert await stored(client, word) == 1

    async def test_update_overwrites_the_match(self, client: AsyncFHIRClient, word: str) -> None:
        found = client.resources("Patient").search(identifier=word)
        first, was_created = await found.update(patient(client, word, active=False, gender="male"))
        assert was_created
        second, was_created = await found.update(patient(client, word, active=True))
        assert not was_created
        assert (second.id, second.active, second.get("gender")) == (first.id, True, None)
        assert await stored(client, word) == 1

    @pytest.mark.filterwarnings("ignore:The first arg of method patch:DeprecationWarning")
    async def test_patch_changes_the_match(self, client: AsyncFHIRClient, word: str) -> None:
        found = client.resources("Patient").search(identifier=word)
        with pytest.raises(ResourceNotFound):
            await found.patch(gender="female")
        await patient(client, word, active=True).save()
        changed = await found.patch(gender="female")
        assert (changed.gender, changed.active) == ("female", True)

    async def test_delete_removes_the_match(self, client: AsyncFHIRClient, word: str) -> None:
        found = client.resources("Patient").search(identifier=word)
        await patient(client, word).save()
        _, status = await found.delete()
        assert status in {200, 204}
        assert await stored(client, word) == 0
        _, status = await found.delete()
        assert status == 204

    async def test_several_matches_are_refused(self, client: AsyncFHIRClient, word: str) -> None:
        for _ in range(2):
            await patient(client, word).save()
        found = client.resources("Patient").search(identifier=word)
        for refused in (found.get_or_create, found.update):
            with pytest.raises(MultipleResourcesFound):
                await refused(patient(client, word))
        assert await stored(client, word) == 2


class TestOperations:
    async def test_validate_tells_what_is_wrong(self, client: AsyncFHIRClient) -> None:
        assert await client.resource("Patient", birthDate="1998-01-01").is_valid()
        wrong = client.resource("Patient", birthDate="date", custom_prop="123", telecom=True)
        assert not await wrong.is_valid()
        with pytest.raises(OperationOutcome) as caught:
            await wrong.is_valid(raise_exception=True)
        places = " ".join(text for issue in caught.value.resource["issue"] for text in issue.get("expression", ()))
        assert "Patient.birthDate" in places

    async def test_a_transaction_stores_all_its_entries(self, client: AsyncFHIRClient, word: str) -> None:
        mother = "urn:uuid:8a3f1c1e-6c58-4d0b-9f0c-1a2b3c4d5e6f"
        weight = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
            "subject": {"reference": mother},
        }
        bundle = client.resource(
            "Bundle",
            type="transaction",
            entry=[
                {
                    "fullUrl": mother,
                    "resource": dict(patient(client, word)),
                    "request": {"method": "POST", "url": "Patient"},
                },
                {"resource": weight, "request": {"method": "POST", "url": "Observation"}},
            ],
        )
        answer = await client.execute("", data=bundle.serialize())
        assert [each.response.status[:3] for each in answer.entry] == ["201", "201"]
        measured = await client.resources("Observation").search(subject__Patient__identifier=word).get()
        assert (await measured.subject.to_resource()).identifier[0].value == word

    async def test_operations_of_one_resource_and_of_a_type(self, client: AsyncFHIRClient, word: str) -> None:
        person = await patient(client, word).save()
        for day in ("2024-01-01", "2024-01-02"):
            await client.resource(
                "Observation",
                status="final",
                code={"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
                subject=person.to_reference(),
                effectiveDateTime=day,
            ).save()
        everything = await person.execute("$everything", method="get")
        assert sorted(each.resource.resourceType for each in everything.entry) == ["Observation"] * 2 + ["Patient"]
        assert await person.to_reference().execute("$everything", method="get", params={"_type": "Patient"})
        last = await client.resources("Observation").execute(
            "$lastn", method="get", params={"patient": person.reference, "code": "http://loinc.org|8867-4"}
        )
        assert [each.resource.effectiveDateTime for each in last.entry] == ["2024-01-02"]


class TestErrors:
    async def test_what_is_not_there_is_not_found(self, client: AsyncFHIRClient) -> None:
        with pytest.raises(ResourceNotFound):
            await client.reference("Patient", "nobody").to_resource()
        with pytest.raises(ResourceNotFound, match="metadata"):
            await client.resources("Invoice").first()
        with pytest.raises(ResourceNotFound):
            await client.patch("Patient", "nobody", active=True)

    async def test_what_the_server_refuses_comes_as_its_outcome(self, client: AsyncFHIRClient) -> None:
        with pytest.raises(OperationOutcome) as caught:
            await client.resource("Patient", gender="unheard-of").save()
        assert caught.value.resource["issue"][0]["expression"] == ["Patient.gender"]
        with pytest.raises(OperationOutcome, match="date"):
            await client.resources("Patient").search(birthdate="2023-02-30").fetch()
        with pytest.raises(OperationOutcome):
            await client.execute("Patient/$nonsense")

    async def test_a_stale_version_is_refused(self, base_url: str, client: AsyncFHIRClient) -> None:
        person = await client.resource("Patient", active=True).save()
        await person.patch(active=False)
        late = AsyncFHIRClient(base_url, extra_headers={"If-Match": 'W/"1"'})
        with pytest.raises(MultipleResourcesFound):  # its name for every 412
            await late.resource("Patient", id=person.id, active=True).save()
        assert (await person.refresh()).active is False

    async def test_tokens_decide(self, asking: AskingServer) -> None:
        reader = f"Bearer {asking.site.token('system/Patient.rs', name='reader')}"
        writer = f"Bearer {asking.site.token('system/*.cruds', name='writer')}"
        for authorization in (None, "Bearer nobody"):
            with pytest.raises(AuthorizationError):
                await AsyncFHIRClient(asking.base_url, authorization=authorization).resources("Patient").fetch()
        person = await AsyncFHIRClient(asking.base_url, authorization=writer).resource("Patient", active=True).save()
        client = AsyncFHIRClient(asking.base_url, authorization=reader)
        assert (await client.reference("Patient", person.id).to_resource()).active is True
        with pytest.raises(ForbiddenError):
            await client.resource("Patient", active=True).save()
        with pytest.raises(ForbiddenError):
            await client.resources("Observation").fetch()
