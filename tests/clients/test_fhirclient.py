"""fhirclient, SMART's own for Python: what its README does, on an open store.

Its models are strict: an answer with an element that R4 does not have raises.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from fhirclient import client
from fhirclient.models.bundle import Bundle
from fhirclient.models.encounter import Encounter
from fhirclient.models.fhirdate import FHIRDate
from fhirclient.models.fhirreference import FHIRReference
from fhirclient.models.humanname import HumanName
from fhirclient.models.observation import Observation
from fhirclient.models.operationoutcome import OperationOutcome
from fhirclient.models.parameters import Parameters
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRNotFoundException, FHIRServer


@pytest.fixture
def smart(base_url: str) -> Iterator[client.FHIRClient]:
    smart = client.FHIRClient(settings={"app_id": "my_web_app", "api_base": base_url})
    yield smart
    smart.server.session.close()


def observation(patient_id: str, encounter_id: str, minute: int) -> Observation:
    return Observation(
        {
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "subject": {"reference": f"Patient/{patient_id}"},
            "encounter": {"reference": f"Encounter/{encounter_id}"},
            "effectiveDateTime": f"2024-01-01T00:{minute:02}:00Z",
            "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
        }
    )


@pytest.fixture
def ward(smart: client.FHIRClient) -> tuple[str, list[str]]:
    """A patient with two encounters, ten observations in the first; gives the patient's id and the encounters'."""
    patient = Patient({"name": [{"prefix": ["Mr."], "given": ["steve"], "family": "Smith"}], "birthDate": "1992-07-03"})
    patient_id = patient.create(smart.server)["id"]
    encounters = []
    for status, text in (("finished", "Encounter for symptom"), ("in-progress", "Encounter for check up")):
        encounter = Encounter(
            {
                "status": status,
                "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
                "type": [{"text": text}],
                "subject": {"reference": f"Patient/{patient_id}"},
            }
        )
        encounters.append(encounter.create(smart.server)["id"])
    for minute in range(10):
        observation(patient_id, encounters[0], minute).create(smart.server)
    return patient_id, encounters


def refusal(error: Any, status: int) -> Any:
    """The first issue of the outcome that an error carries."""
    assert error.response.status_code == status
    return OperationOutcome(error.response.json()).issue[0]


def test_an_open_server_needs_no_authorization(smart: client.FHIRClient) -> None:
    assert not smart.ready
    assert smart.prepare()
    assert smart.ready
    assert smart.prepare()
    assert smart.authorize_url is None
    statement = smart.server.capabilityStatement
    assert (statement.fhirVersion, statement.kind) == ("4.0.1", "instance")
    assert "Patient" in {each.type for each in statement.rest[0].resource}


def test_a_patient_is_read_by_client_server_and_state(smart: client.FHIRClient, ward: tuple[str, list[str]]) -> None:
    patient = Patient.read(ward[0], smart.server)
    assert patient.birthDate.isostring == "1992-07-03"
    assert smart.human_name(patient.name[0]) == "Mr. steve Smith"

    bare = FHIRServer(None, smart.server.base_uri)
    assert Patient.read(ward[0], bare).name[0].given == ["steve"]
    bare.session.close()

    smart.prepare()
    smart.patient_id = ward[0]
    later = client.FHIRClient(state=smart.state)
    assert later.prepare()
    assert later.patient.name[0].family == "Smith"
    later.server.session.close()


def test_records_are_searched_with_what_they_refer_to(smart: client.FHIRClient, ward: tuple[str, list[str]]) -> None:
    search = Encounter.where(struct={"subject": ward[0], "status": "finished"})
    assert {each.type[0].text for each in search.perform_resources_iter(smart.server)} == {"Encounter for symptom"}
    search = search.include("subject")
    assert {each.resource_type for each in search.perform_resources_iter(smart.server)} == {"Encounter", "Patient"}
    search = search.include("encounter", Observation, reverse=True)
    expected = {"Encounter", "Patient", "Observation"}
    assert {each.resource_type for each in search.perform_resources_iter(smart.server)} == expected
    bundles = list(search.perform_iter(smart.server))
    assert {entry.resource.resource_type for bundle in bundles for entry in bundle.entry} == expected
    assert {entry.search.mode for bundle in bundles for entry in bundle.entry} == {"match", "include"}


def test_every_page_comes_by_its_link(smart: client.FHIRClient, ward: tuple[str, list[str]]) -> None:
    struct = {"subject": ward[0], "_sort": "-date", "_count": "3", "code": "http://loinc.org|8867-4,a|b"}
    bundles = list(Observation.where(struct).perform_iter(smart.server))
    assert [len(bundle.entry) for bundle in bundles] == [3, 3, 3, 1]
    found = [
        each.effectiveDateTime.as_json() for each in Observation.where(struct).perform_resources_iter(smart.server)
    ]
    assert found == [f"2024-01-01T00:{minute:02}:00Z" for minute in reversed(range(10))]
    with pytest.warns(DeprecationWarning, match="perform_resources"):
        assert len(Observation.where(struct).perform_resources(smart.server)) == 10
    nothing = Observation.where({"subject": "nobody"})
    assert list(nothing.perform_resources_iter(smart.server)) == []


def test_search_structures_reach_names_and_modifiers(smart: client.FHIRClient, word: str) -> None:
    Patient({"name": [{"family": f"Ångström & {word}"}], "gender": "other"}).create(smart.server)
    for struct in (
        {"family": f"Ångström & {word}"},
        {"family": {"$exact": f"Ångström & {word}"}},
        {"name": f"ångström & {word}", "birthdate": {"$missing": "true"}},
    ):
        found = Patient.where(struct).perform_resources_iter(smart.server)
        assert [each.gender for each in found] == ["other"]


def test_a_resource_is_created_changed_and_deleted(smart: client.FHIRClient) -> None:
    name = HumanName()
    name.given, name.family = ["Peter"], "Parker"
    patient = Patient()
    patient.name = [name]
    created = patient.create(smart.server)
    read = Patient.read(created["id"], smart.server)
    assert read.as_json() == created
    assert (read.meta.versionId, read.name[0].given) == ("1", ["Peter"])

    read.birthDate = FHIRDate("1962-08-10")
    assert read.update()["meta"]["versionId"] == "2"
    assert Patient.read(created["id"], smart.server).birthDate.isostring == "1962-08-10"

    read.delete()
    with pytest.raises(requests.HTTPError) as caught:
        Patient.read(created["id"], smart.server)
    assert refusal(caught.value, 410).code == "deleted"


def test_a_transaction_is_created_at_the_base(smart: client.FHIRClient) -> None:
    """The client posts it to the base URL with a slash at its end."""
    person = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"
    measured = observation("x", "y", 0)
    measured.subject = FHIRReference({"reference": person})
    measured.encounter = None
    entries: list[dict[str, Any]] = [
        {"fullUrl": person, "resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}},
        {"resource": measured.as_json(), "request": {"method": "POST", "url": "Observation"}},
    ]
    answer = Bundle(Bundle({"type": "transaction", "entry": entries}).create(smart.server))
    assert [each.response.status[:3] for each in answer.entry] == ["201", "201"]
    patient_id = answer.entry[0].response.location.split("/")[-3]
    found = list(Observation.where({"subject": patient_id}).perform_resources_iter(smart.server))
    assert len(found) == 1


def test_refusals_are_http_errors_with_an_outcome(smart: client.FHIRClient) -> None:
    with pytest.raises(FHIRNotFoundException) as missing:
        Patient.read("nobody", smart.server)
    assert refusal(missing.value, 404).code == "not-found"
    with pytest.raises(requests.HTTPError) as refused:
        Patient({"gender": "unheard-of"}).create(smart.server)
    assert refusal(refused.value, 422).expression == ["Patient.gender"]


def test_answers_of_operations_fit_the_models(smart: client.FHIRClient, ward: tuple[str, list[str]]) -> None:
    server = smart.server
    everything = Bundle.read_from(f"Patient/{ward[0]}/$everything", server)
    assert everything.total == 13
    last = Bundle.read_from(f"Observation/$lastn?subject=Patient/{ward[0]}", server)
    assert last.entry[0].resource.effectiveDateTime.as_json() == "2024-01-01T00:09:00Z"
    history = Bundle.read_from(f"Patient/{ward[0]}/_history", server)
    assert (history.type, history.entry[0].resource.meta.versionId) == ("history", "1")
    compartment = Bundle.read_from(f"Patient/{ward[0]}/Observation?_summary=count", server)
    assert compartment.total == 10
    wanted = Parameters({"parameter": [{"name": "resource", "resource": {"resourceType": "Patient", "active": True}}]})
    outcome = server.post_json("Patient/$validate", wanted.as_json()).json()
    assert OperationOutcome(outcome).issue[0].severity == "information"
