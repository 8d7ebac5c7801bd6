"""A FHIR service that holds what a test puts in, and can refuse, fail or cut its answers short by type."""

from typing import Any

import httpx

from patient_measurements import NOON
from pulseweir.clock import to_text

Json = dict[str, Any]
LOCATION_TYPE = "http://terminology.hl7.org/CodeSystem/location-physical-type"


class Hospital:
    """Answers reads and searches by id and patient."""

    def __init__(self) -> None:
        self.held: dict[str, list[Json]] = {}
        self.answers: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.tells_total = True

    def put(self, kind: str, **resource: Any) -> None:
        self.held.setdefault(kind, []).append({"resourceType": kind, **resource})

    def stay(self, name: str, patient: str, *places: Json, changed: str = "2026-01-01T00:00:00Z", **more: Any) -> None:
        self.put(
            "Encounter",
            id=name,
            status="in-progress",
            subject={"reference": f"Patient/{patient}"},
            location=list(places),
            meta={"lastUpdated": changed},
            **more,
        )

    def bed(self, name: str, ward: str) -> None:
        self.put("Location", id=name, name=name, partOf={"reference": f"Location/{ward}"})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        kind, _, resource_id = request.url.path.strip("/").partition("/")
        if kind in self.answers:
            return httpx.Response(self.answers[kind])
        found = self.held.get(kind, [])
        if resource_id:
            return next((httpx.Response(200, json=one) for one in found if one["id"] == resource_id), _nothing())
        params = request.url.params
        ids, patients = params.get("_id"), params.get("patient")
        found = [one for one in found if ids is None or one["id"] in ids.split(",")]
        found = [one for one in found if patients is None or _subject(one) in patients.split(",")]
        bundle: Json = {"resourceType": "Bundle", "type": "searchset"}
        if self.tells_total:
            bundle["total"] = len(found)
        if params.get("_summary") != "count":
            bundle["entry"] = [{"resource": one} for one in found[: self.most.get(kind)]]
        return httpx.Response(200, json=bundle)


def _nothing() -> httpx.Response:
    return httpx.Response(404)


def _subject(resource: Json) -> str:
    return str(resource["subject"]["reference"]).rpartition("/")[2]


def at(place: str, **more: Any) -> Json:
    """An Encounter's entry about a place."""
    return {"location": {"reference": f"Location/{place}"}, **more}


def ago(microseconds: int) -> str:
    """An instant before `NOON`."""
    return to_text(NOON - microseconds)


def coded(code: str, system: str | None = None) -> Json:
    """A CodeableConcept."""
    return {"coding": [{"code": code} | ({"system": system} if system else {})]}
