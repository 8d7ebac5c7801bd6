"""What `/metadata` says of searches is what they do."""

from typing import Any

import httpx
import pytest

from pulseweir.fhir_store.definitions.make_definitions import _ADDITIONS
from pulseweir.fhir_store.definitions.tables import parameter_rows
from pulseweir.fhir_store.parameters import RESOURCE_TYPES

Json = dict[str, Any]
VALUES = {
    "token": "x",
    "reference": "Patient/x",
    "date": "2024",
    "string": "x",
    "quantity": "1",
    "number": "1",
    "uri": "urn:x",
}
STRICT = {"prefer": "handling=strict"}


@pytest.fixture
async def rest(http: httpx.AsyncClient) -> Json:
    found: Json = (await http.get("metadata")).json()["rest"][0]
    return found


async def test_every_declared_parameter_searches_and_sorts(http: httpx.AsyncClient, rest: Json) -> None:
    for resource in rest["resource"]:
        for parameter in resource["searchParam"]:
            name, kind = parameter["name"], parameter["type"]
            if kind == "composite":
                continue
            query = f"{resource['type']}?{name}={VALUES[kind]}&{name}:missing=false&_sort={name},-{name}&_count=1"
            response = await http.get(query, headers=STRICT)
            assert (query, response.status_code) == (query, 200)


async def test_every_parameter_of_r4_is_declared(rest: Json) -> None:
    declared = {each["type"]: {parameter["name"] for parameter in each["searchParam"]} for each in rest["resource"]}

    assert set(declared) == set(RESOURCE_TYPES)
    for resource_type in RESOURCE_TYPES:
        own = {name for name, row in parameter_rows(resource_type).items() if row.type != "special"}
        assert declared[resource_type] == own | {"_id", "_lastUpdated", "_profile", "_security", "_source", "_tag"}
    # 445 parameters of R4's registry on these types: all but near, and two of Patient that have no expression.
    assert sum(len(parameter_rows(each)) for each in RESOURCE_TYPES) == 445 - 2 + len(
        {("Flag", "status"), ("Flag", "category")}
    )


async def test_parameters_that_are_not_r4s_say_so(rest: Json) -> None:
    noted = {
        (resource["type"], each["name"])
        for resource in rest["resource"]
        for each in resource["searchParam"]
        if "documentation" in each
    }

    assert noted == set(_ADDITIONS)


async def test_what_every_type_has_is_declared_for_all(http: httpx.AsyncClient, rest: Json) -> None:
    names = [each["name"] for each in rest["searchParam"]]

    assert names == ["_id", "_lastUpdated", "_profile", "_security", "_source", "_tag"]
    for each in rest["searchParam"]:
        query = f"?{each['name']}={VALUES[each['type']]}"
        assert (await http.get(query, headers=STRICT)).status_code == 200


async def test_every_declared_include_can_be_asked(http: httpx.AsyncClient, rest: Json) -> None:
    for resource in rest["resource"]:
        for word, named in (("_include", "searchInclude"), ("_revinclude", "searchRevInclude")):
            for value in resource.get(named, ()):
                response = await http.get(f"{resource['type']}?_count=1&{word}={value}", headers=STRICT)
                assert (value, response.status_code) == (value, 200)


@pytest.mark.parametrize(
    "query",
    ["Observation?code:below=x", "Observation?subject:below=x", "Location?partof:above=x", "Location?near=1|2"]
    + [f"Patient?{name}=x" for name in ("_text", "_content", "_filter", "_list", "_query", "_contained")],
)
async def test_what_is_not_declared_is_refused(http: httpx.AsyncClient, query: str) -> None:
    response = await http.get(query, headers=STRICT)

    assert (response.status_code, response.json()["issue"][0]["code"]) == (400, "not-supported")
