"""Each search parameter that `/metadata` advertises finds a resource that has a value for it; so does each chain."""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.definitions.tables import ValuePath, elements_of, json_names
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, Parameter, parameters_of
from pulseweir.fhir_store.query_conditions import targets_of
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
STRICT = {"prefer": "handling=strict"}
_numbers = count(1)


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a store that takes fragments, so that a resource may have nothing but the value."""
    store = FhirStore.open(tmp_path, Clock(), FhirStoreSettings(validation="off"))
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/") as client:
        yield client
    store.close()


def value_of(path: ValuePath, target: str) -> Any:
    """Some value of a data type."""
    coding = {"system": "urn:s", "code": "c"}
    made: dict[str, Any] = {
        "CodeableConcept": {"coding": [coding]},
        "Coding": coding,
        "Identifier": {"system": "urn:s", "value": "c"},
        "ContactPoint": {"system": "phone", "value": "c"},
        "boolean": True,
        "Reference": {"reference": target},
        "Resource": {"resourceType": target.partition("/")[0], "id": target.partition("/")[2]},
        "Period": {"start": "2024-03-01", "end": "2024-03-02"},
        "Timing": {"event": ["2024-03-01"]},
        "Quantity": {"value": 5, "system": "http://unitsofmeasure.org", "code": "mg"},
        "SimpleQuantity": {"value": 5},
        "SampledData": {"origin": {"value": 0}, "lowerLimit": 5, "upperLimit": 5},
        "Range": {"low": {"value": 5}, "high": {"value": 5}},
        "Duration": {"value": 5, "system": "http://unitsofmeasure.org", "code": "d"},
        "Age": {"value": 5, "system": "http://unitsofmeasure.org", "code": "a"},
        "Money": {"value": 5, "currency": "EUR"},
        "HumanName": {"family": "c"},
        "Address": {"city": "c"},
        "decimal": 5,
        "integer": 5,
        "positiveInt": 5,
        "date": "2024-03-01",
        "dateTime": "2024-03-01",
        "instant": "2024-03-01T00:00:00Z",
    }
    if path.truth:
        return True
    return made.get(path.type, "c")


def holding(resource_type: str, name: str, path: ValuePath, value: Any) -> Json:
    """A resource with a value at a path and nothing else."""
    held: Json = {"resourceType": resource_type, "id": name}
    return held | dict(_wrapped(resource_type, path.members, value))


def _wrapped(type_name: str, members: tuple[str, ...], value: Any) -> Any:
    if not members:
        return value
    plain, bracket, condition = members[0].partition("[")
    found = ((name, element) for name, element in elements_of(type_name).items() if plain in json_names(name, element))
    name, element = next(found)
    kinds = dict(zip(json_names(name, element), element.types, strict=True))
    below = value if len(members) == 1 else _wrapped(kinds[plain], members[1:], value)
    if bracket and "=" in condition:
        key, _, wanted = condition.removesuffix("]").partition("=")
        below = below | {key: wanted}
    return {plain: below if element.max == "1" else [below]}


def asked(parameter: Parameter, path: ValuePath, target: str) -> str:
    match parameter.kind:
        case "token":
            value = value_of(path, target)
            return "true" if value is True else value if isinstance(value, str) else "c"
        case "reference":
            return target
        case "date":
            return "ge2024-03-01"
        case "number" | "quantity":
            return "5"
    return "c"


async def ids(http: httpx.AsyncClient, resource_type: str, **query: str) -> list[str]:
    answer = await http.get(resource_type, params={**query, "_count": "1000"}, headers=STRICT)
    assert answer.status_code == 200, (resource_type, query, answer.text)
    return [entry["resource"]["id"] for entry in answer.json().get("entry", ())]


def advertised(statement: Json) -> dict[str, list[str]]:
    return {
        each["type"]: [parameter["name"] for parameter in each["searchParam"]]
        for each in statement["rest"][0]["resource"]
    }


@pytest.mark.parametrize("resource_type", sorted({*RESOURCE_TYPES} - {"Subscription"}))
async def test_every_advertised_parameter_and_chain_finds_something(
    http: httpx.AsyncClient, resource_type: str
) -> None:
    names = advertised((await http.get("metadata")).json())[resource_type]
    own = parameters_of(resource_type)
    for name in names:
        parameter = own.get(name)
        if parameter is None or parameter.kind == "composite" or name == "_source":
            continue
        for path in parameter.paths:
            possible = (path.target,) if path.target else parameter.targets or ("Patient",)
            for kind in possible if len(possible) < 12 else ("Patient",):
                number = next(_numbers)
                target = f"{kind}/t{number}"
                is_address = parameter.kind == "reference" and path.type in {"canonical", "uri", "url"}
                value = target if is_address else value_of(path, target)
                resource = holding(resource_type, f"r{number}", path, value)
                stored = await http.put(f"{resource_type}/r{number}", json=resource)
                assert stored.status_code == 201, stored.text
                found = await ids(http, resource_type, **{name: asked(parameter, path, target), "_id": f"r{number}"})
                assert (resource_type, name, path.members, found) == (
                    resource_type,
                    name,
                    path.members,
                    [f"r{number}"],
                )
                if (
                    parameter.kind != "reference"
                    or kind not in targets_of(parameter)
                    or path.type in {"canonical", "uri", "url"}
                ):
                    continue
                await http.put(target, json={"resourceType": kind, "id": f"t{number}"})
                for chain in (f"{name}._id", f"{name}:{kind}._id"):
                    assert f"r{number}" in await ids(http, resource_type, **{chain: f"t{number}"}), (name, chain)
                assert f"t{number}" in await ids(http, kind, **{f"_has:{resource_type}:{name}:_id": f"r{number}"})


async def test_a_subscription_is_found_by_all_that_is_advertised(http: httpx.AsyncClient) -> None:
    channel = {"type": "rest-hook", "endpoint": "http://127.0.0.1:1/x", "payload": "application/fhir+json"}
    contact = [{"system": "phone", "value": "1"}]
    body = {"resourceType": "Subscription", "id": "s", "status": "off", "reason": "x", "contact": contact}
    assert (await http.put("Subscription/s", json=body | {"criteria": "Flag?", "channel": channel})).status_code == 201
    values = {"contact": "1", "criteria": "Flag?", "payload": channel["payload"], "status": "off"}
    values |= {"type": "rest-hook", "url": channel["endpoint"]}

    names = {*advertised((await http.get("metadata")).json())["Subscription"]}
    assert {name for name in names if not name.startswith("_")} == {*values}
    for name, text in values.items():
        assert await ids(http, "Subscription", **{name: text}) == ["s"], name


@pytest.mark.parametrize("handling", ["strict", "lenient"])
@pytest.mark.parametrize(
    "query",
    [
        "Bundle?composition.title=x",
        "Bundle?message.event=x",
        "Bundle?composition:Composition.title=x",
        "Observation?specimen.type=x",
        "Observation?patient._has:Bundle:composition.title:_id=x",
        "Location?near=1|2",
        "Patient?age=5",
        "Patient?birthOrderBoolean=true",
        "?_type=Location&near=1|2",
    ],
)
async def test_what_can_find_nothing_is_refused(http: httpx.AsyncClient, query: str, handling: str) -> None:
    answer = await http.get(query, headers={"prefer": f"handling={handling}"})

    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (400, "not-supported")


async def test_every_chain_through_types_that_are_not_held_is_refused(http: httpx.AsyncClient) -> None:
    for resource_type in RESOURCE_TYPES:
        for parameter in parameters_of(resource_type).values():
            if parameter.kind == "reference" and not targets_of(parameter):
                answer = await http.get(f"{resource_type}?{parameter.name}.code=x")
                assert (resource_type, parameter.name, answer.status_code) == (resource_type, parameter.name, 400)


async def test_no_include_is_advertised_that_leads_to_nothing_held(http: httpx.AsyncClient) -> None:
    for each in (await http.get("metadata")).json()["rest"][0]["resource"]:
        for include in each.get("searchInclude", ()):
            owner, _, name = include.partition(":")
            assert targets_of(parameters_of(owner)[name]), include


async def test_a_document_is_found_by_its_composition_and_a_message_by_its_header(http: httpx.AsyncClient) -> None:
    for name, kind, inside in (("d", "document", "Composition"), ("m", "message", "MessageHeader")):
        first = {"resource": {"resourceType": inside, "id": "x"}}
        body = {"resourceType": "Bundle", "id": name, "type": kind, "entry": [first]}
        assert (await http.put(f"Bundle/{name}", json=body)).status_code == 201

    assert await ids(http, "Bundle", composition="Composition/x") == ["d"]
    assert await ids(http, "Bundle", composition="x") == ["d"]
    assert await ids(http, "Bundle", message="MessageHeader/x") == ["m"]
    assert await ids(http, "Bundle", message="Composition/x") == []
    assert await ids(http, "Bundle", **{"message:missing": "true"}) == ["d"]
