"""Step 5c: what is sent to the FHIR service for one pending Observation. Pure."""

import re
from typing import Any

import msgspec

from pulseweir.ingest.bundle_sender import Entry
from pulseweir.ingest.device_mapping.tokens import instant_text
from pulseweir.ingest.fhir_mapping.observations import Subject, merged_observation, new_observation
from pulseweir.ingest.fhir_mapping.status import closes_at, first_status, issued_at, next_status
from pulseweir.ingest.fhir_mapping.templates import FhirTemplate
from pulseweir.ingest.fhir_mapping.text import ObservationText, Particulars
from pulseweir.ingest.grouping import identifier_value
from pulseweir.ingest.observation_groups import PendingObservation

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_HIDDEN = "…"
_SHORTEST_HIDDEN = 2


class Ready:
    """A pending Observation with what its writing needs."""

    __slots__ = ("device_resource_id", "identifier", "part", "pending", "template", "text")

    def __init__(
        self, pending: PendingObservation, template: FhirTemplate, text: ObservationText | None, part: str
    ) -> None:
        self.pending = pending
        self.template = template
        self.text = text
        self.part = part
        self.device_resource_id = pending.device_id
        self.identifier: str | None = pending.is_of(template, pending.device_id, part)

    @property
    def resource_id(self) -> str:
        """Id of the Observation."""
        return self.pending.resource_id

    @property
    def identifier_value(self) -> str:
        """Value of its identifier."""
        if self.identifier is not None:
            return self.identifier
        return identifier_value(self.pending.patient_id, self.device_resource_id, self.template.type_name, self.part)

    @property
    def is_plain(self) -> bool:
        """Whether all values of its one instant are here, so that it needs no merging unless it is there already."""
        return self.text is not None and self.pending.samples.keys() == self.text.names


def plain_entry(one: Ready) -> Entry:
    """Creates an Observation of one instant if there is none."""
    pending = one.pending
    if one.text is None:
        raise TypeError
    about = Particulars(
        pending.resource_id,
        one.identifier_value,
        pending.patient_id,
        one.device_resource_id,
        pending.encounter_id,
        instant_text(pending.occurred_at),
        instant_text(pending.received_at),
    )
    text = one.text.render(about, pending.texts(), pending.implausible)
    return put_entry(pending.resource_id, msgspec.Raw(text.encode()), if_absent=True)


def put_entry(resource_id: str, resource: object, *, etag: str | None = None, if_absent: bool = False) -> Entry:
    """Stores an Observation: over exactly the version named by `etag`, or only where there is none."""
    request = {"method": "PUT", "url": f"Observation/{resource_id}"}
    if etag is not None:
        request["ifMatch"] = etag
    elif if_absent:
        request["ifNoneMatch"] = "*"
    body = resource if isinstance(resource, msgspec.Raw) else msgspec.Raw(_ENCODER.encode(resource))
    return {"request": request, "resource": body}


def read_entry(resource_id: str) -> Entry:
    """Reads an Observation."""
    return {"request": {"method": "GET", "url": f"Observation/{resource_id}"}}


def new_resource(one: Ready, now: int, closing_microseconds: int) -> dict[str, Any]:
    """The Observation where none is stored.

    Raises:
        MessageError: Its measurements do not fit the mapping.
    """
    pending = one.pending
    subject = Subject(pending.patient_id, one.device_resource_id, pending.encounter_id)
    group = pending.group(one.template)
    made = new_observation(one.template, one.part, group, subject, dates=True, implausible=pending.implausible)
    made |= {"id": pending.resource_id, "issued": instant_text(pending.received_at)}
    made["status"] = first_status(one.template.interval, closes_at(made, closing_microseconds), now)
    return made


def merged_resource(one: Ready, stored: dict[str, Any], now: int, closing_microseconds: int) -> dict[str, Any] | None:
    """The stored Observation with these measurements in it; None when that changes nothing.

    Measurements that came before the newest stored one only add what is missing: so repeating a delivery never
    changes anything, whatever was written after it.

    Raises:
        MessageError: The stored one holds something else than the mapping says.
    """
    pending = one.pending
    newest = issued_at(stored)
    made = merged_observation(
        one.template,
        pending.group(one.template),
        stored,
        dates=True,
        implausible=pending.implausible,
        overrides=newest is None or pending.received_at >= newest,
    )
    if made is stored:
        return None
    made["issued"] = instant_text(max(pending.received_at, newest or 0))
    closes = closes_at(made, closing_microseconds)
    made["status"] = next_status(stored.get("status"), one.template.interval, closes, now)
    return made


def etag_of(resource: dict[str, Any], etag: str | None) -> str | None:
    """The entity tag of a read Observation: as the server gave it, or made of its version."""
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return etag or (f'W/"{version}"' if version else None)


def without_patient_data(text: str, pending: PendingObservation) -> str:
    """What the service said, with every id, instant and value of this Observation that it quotes left out."""
    named = {
        pending.patient_id,
        pending.encounter_id or "",
        pending.correlation_id or "",
        instant_text(pending.occurred_at),
        *(sample for texts in pending.samples.values() for sample in texts.values()),
    }
    for word in sorted(named, key=len, reverse=True):
        if len(word) >= _SHORTEST_HIDDEN or word.isdecimal():
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", _HIDDEN, text)
    return text
