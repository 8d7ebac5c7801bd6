"""fhirpy, the asynchronous client: searches of its README, over a ward that does not change."""

import datetime
from typing import Any

import pytest
from fhirpy import AsyncFHIRClient
from fhirpy.base.exceptions import MultipleResourcesFound, ResourceNotFound
from fhirpy.base.searchset import Raw

UTC = datetime.UTC
HEART_RATE = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
BIRTHS = ("1944-05-01", "1950-01-01", "1963-12-31", "1964-01-01", "1990-07-20")
"""Of the patients p0 to p4."""


def people() -> list[dict[str, Any]]:
    """A hospital, two practitioners, five patients."""
    practitioners: list[dict[str, Any]] = [
        {"resourceType": "Practitioner", "id": "john-smith", "name": [{"family": "Smith", "given": ["John"]}]},
        {
            "resourceType": "Practitioner",
            "id": "jack",
            "active": True,
            "name": [{"text": "Jack"}],
            "address": [{"city": "Krasnoyarsk"}],
        },
    ]
    hospital = {"resourceType": "Organization", "id": "hospital", "name": "Hospital"}
    names = ["Moore", "Moorehead", "Rivera", "Eva", "John"]
    patients = [
        {
            "resourceType": "Patient",
            "id": f"p{number}",
            "active": number % 2 == 0,
            "name": [{"family": name, "given": ["John", "Q, R$|S"] if number == 2 else [f"G{number}"]}],
            "gender": ["male", "female", "other", "unknown", "male"][number],
            "birthDate": BIRTHS[number],
            "address": [{"state": "TX" if number < 2 else "NY"}],
            "generalPractitioner": [{"reference": "Practitioner/john-smith" if number else "Organization/hospital"}],
        }
        for number, name in enumerate(names)
    ]
    return [hospital, *practitioners, *patients]


def records() -> list[dict[str, Any]]:
    """A Group of one practitioner, twelve heart rates of p0, two conditions."""
    group = {
        "resourceType": "Group",
        "id": "pair",
        "type": "practitioner",
        "actual": True,
        "member": [{"entity": {"reference": "Practitioner/jack"}}],
    }
    rates = [
        {
            "resourceType": "Observation",
            "id": f"o{hour:02}",
            "status": "final" if hour % 3 else "preliminary",
            "code": HEART_RATE,
            "subject": {"reference": "Patient/p0"},
            "performer": [{"reference": "Practitioner/jack"}],
            "effectiveDateTime": f"2024-01-01T{hour:02}:00:00Z",
            "valueQuantity": {
                "value": 60 + hour,
                "unit": "beats/min",
                "system": "http://unitsofmeasure.org",
                "code": "/min",
            },
        }
        for hour in range(12)
    ]
    conditions = [
        {
            "resourceType": "Condition",
            "id": "headache",
            "subject": {"reference": "Patient/p0"},
            "code": {"text": "Headache, severe"},
        },
        {"resourceType": "Condition", "id": "cough", "subject": {"reference": "Patient/p1"}, "code": {"text": "Cough"}},
    ]
    return [group, *rates, *conditions]


@pytest.fixture
async def client(base_url: str) -> AsyncFHIRClient:
    client = AsyncFHIRClient(base_url)
    if not await client.resources("Patient").count():
        entries = [
            {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}}
            for each in [*people(), *records()]
        ]
        await client.execute("", data={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    return client


async def ids(searched: Any) -> list[str]:
    return sorted([each.id for each in await searched.fetch()])


PATIENT_SEARCHES = [
    ({"birthdate__gt": "1944", "birthdate__lt": "1964"}, "p1 p2"),
    ({"birthdate__ge": "1944", "birthdate__le": "1963-12"}, "p0 p1 p2"),
    ({"birthdate__lt": datetime.datetime(1950, 1, 1, tzinfo=UTC)}, "p0"),
    ({"birthdate__gt": datetime.date(1963, 12, 31)}, "p3 p4"),
    ({"name__contains": "OHN"}, "p2 p4"),
    ({"name": ["John", "Rivera"]}, "p2"),
    ({"name": "John,Eva"}, "p2 p3 p4"),
    ({"family__exact": "Moore"}, "p0"),
    ({"family": "moore"}, "p0 p1"),
    ({"given": r"Q\, R\$\|S"}, "p2"),
    ({"address_state": "TX"}, "p0 p1"),
    ({"active": True, "_id": "p0,p1,p2"}, "p0 p2"),
    ({"gender__not": ["male", "female"]}, "p2 p3"),
    ({"death_date__missing": True}, "p0 p1 p2 p3 p4"),
    ({"general_practitioner__Organization__name": "Hospital"}, "p0"),
    ({"general_practitioner__Practitioner__family": "Smith"}, "p1 p2 p3 p4"),
    ({"general_practitioner__name": "Hospital"}, "p0"),
    ({"_lastUpdated__gt": 2019}, "p0 p1 p2 p3 p4"),
    ({"_lastUpdated__lt": datetime.datetime(2019, 1, 1, tzinfo=UTC)}, ""),
]


@pytest.mark.parametrize(("criteria", "expected"), PATIENT_SEARCHES, ids=str)
async def test_criteria(client: AsyncFHIRClient, criteria: dict[str, Any], expected: str) -> None:
    searched = client.resources("Patient").search(**criteria)
    assert await ids(searched) == expected.split()
    assert await searched.count() == len(expected.split())


async def test_a_resource_is_a_criterion(client: AsyncFHIRClient) -> None:
    practitioner = await client.resources("Practitioner").search(_id="john-smith").first()
    patients = client.resources("Patient")
    assert await ids(patients.search(general_practitioner=practitioner)) == ["p1", "p2", "p3", "p4"]
    raw = Raw(**{"general-practitioner.name": "Hospital"})
    assert await ids(patients.search(raw)) == ["p0"]


async def test_modifiers_of_codes(client: AsyncFHIRClient) -> None:
    conditions = client.resources("Condition")
    assert await ids(conditions.search(code__text="headache")) == ["headache"]
    assert await ids(conditions.search(code__not="http://snomed.info/sct|25064002")) == ["cough", "headache"]


async def test_has_asks_what_refers_here(client: AsyncFHIRClient) -> None:
    patients = client.resources("Patient")
    assert await ids(patients.has("Observation", "subject", code="8867-4")) == ["p0"]
    assert await ids(patients.has("Condition", "subject", code__text="cough")) == ["p1"]


async def test_get_wants_exactly_one(client: AsyncFHIRClient) -> None:
    patients = client.resources("Patient")
    assert (await patients.search(active=True, _id="p0").get()).id == "p0"
    with pytest.raises(ResourceNotFound):
        await patients.search(active=False, _id="p0").get()
    with pytest.raises(MultipleResourcesFound):
        await patients.search(active=True).get()


async def test_first_is_the_first_in_order(client: AsyncFHIRClient) -> None:
    patients = client.resources("Patient")
    assert (await patients.sort("active", "-birthdate").first()).id == "p3"
    assert (await patients.sort("-active", "birthdate").first()).id == "p0"
    assert await patients.search(name="nobody").first() is None


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (("date",), [f"o{hour:02}" for hour in range(12)]),
        (("status", "-date"), [f"o{hour:02}" for hour in (11, 10, 8, 7, 5, 4, 2, 1, 9, 6, 3, 0)]),
        (("-status", "value-quantity"), [f"o{hour:02}" for hour in (0, 3, 6, 9, 1, 2, 4, 5, 7, 8, 10, 11)]),
        (("status", "-date", "category"), [f"o{hour:02}" for hour in (11, 10, 8, 7, 5, 4, 2, 1, 9, 6, 3, 0)]),
    ],
)
async def test_all_pages_come_once_and_in_order(
    client: AsyncFHIRClient, keys: tuple[str, ...], expected: list[str]
) -> None:
    """Every page but the first is fetched at the absolute address that the one before gives."""
    observations = client.resources("Observation").search(code="http://loinc.org|8867-4").sort(*keys)
    for size in (1, 5, 12, 100):
        assert [each.id for each in await observations.limit(size).fetch_all()] == expected
    assert [each.id async for each in observations.limit(7)] == expected
    assert [each.id for each in await observations.limit(7).fetch()] == expected[:7]


async def test_awkward_criteria_survive_the_pages(client: AsyncFHIRClient) -> None:
    """The client writes a page's address anew: escapes, bars, commas, blanks and letters beyond ASCII must hold."""
    codes = "http://loinc.org|8867-4,http://å.example/x y|a+b,|%2C"
    observations = client.resources("Observation").search(code=codes, subject__Patient__given="G0,Ибра гимов").limit(5)
    assert len(await observations.fetch_all()) == 12
    patients = client.resources("Patient").search(given=r"Q\, R\$\|S,G").sort("family").limit(2)
    assert [each.id for each in await patients.fetch_all()] == ["p3", "p4", "p0", "p1", "p2"]


async def test_count_counts_without_resources(client: AsyncFHIRClient) -> None:
    assert await client.resources("Observation").count() == 12
    assert await client.resources("Observation").search(status="final").limit(3).count() == 8
    assert await client.resources("Flag").count() == 0


async def test_elements_of_each_resource(client: AsyncFHIRClient) -> None:
    few = await client.resources("Patient").search(_id="p0").elements("name", "telecom").first()
    # Modifier elements come unasked: without `active` the rest could be misread.
    assert set(few) == {"resourceType", "id", "meta", "active", "name"}
    assert few.meta.tag[0].code == "SUBSETTED"
    without = await client.resources("Patient").search(_id="p0").elements("name", exclude=True).first()
    assert without.id == "p0"


async def raw_ids(searched: Any) -> list[str]:
    bundle = await searched.fetch_raw()
    return sorted(f"{each.search.mode} {each.resource.reference}" for each in bundle.get("entry", []))


async def test_included_resources_come_along(client: AsyncFHIRClient) -> None:
    headache = client.resources("Condition").search(_id="headache")
    matched, patient = "match Condition/headache", "include Patient/p0"
    hospital = "include Organization/hospital"
    assert await raw_ids(headache.include("Condition", "patient")) == [patient, matched]
    assert await raw_ids(headache.include("Condition", "subject", target_resource_type="Patient")) == [patient, matched]
    assert await raw_ids(headache.include("Condition", "subject", target_resource_type="Group")) == [matched]
    assert await raw_ids(headache.include("*")) == [patient, matched]
    further = headache.include("Condition", "patient").include("Patient", "general-practitioner", iterate=True)
    assert await raw_ids(further) == [hospital, patient, matched]
    assert [each.id for each in await headache.include("*").fetch()] == ["headache"]


async def test_referring_resources_come_along(client: AsyncFHIRClient) -> None:
    jack = client.resources("Practitioner").search(address_city="Krasnoyarsk")
    expected = ["include Group/pair", "match Practitioner/jack"]
    assert await raw_ids(jack.revinclude("Group", "member")) == expected
    assert await raw_ids(jack.include("Group", "member", reverse=True)) == expected
    everything = await raw_ids(jack.revinclude("*"))
    assert set(everything) == {*expected, *(f"include Observation/o{hour:02}" for hour in range(12))}
