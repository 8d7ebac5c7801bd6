"""Step 5c: Observations of one instant as JSON text from prepared pieces: the common case, made quickly. Pure.

The text decodes to what `observations.new_observation` builds; a test holds the two equal.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import msgspec

from pulseweir.errors import MessageError
from pulseweir.ingest.fhir_mapping.consciousness import is_by_list, level_concept
from pulseweir.ingest.fhir_mapping.observations import IMPLAUSIBLE, concept
from pulseweir.ingest.fhir_mapping.templates import FhirTemplate, ValueTemplate
from pulseweir.ingest.fhir_mapping.values import decimal_text
from pulseweir.ingest.grouping import SINGLE
from pulseweir.records.codes import SERVICE_SYSTEM


def json_text(value: object) -> str:
    """The JSON of a value."""
    return msgspec.json.encode(value).decode()


_HEAD = '{"resourceType":"Observation","id":"'
_IDENTIFIER = f'","identifier":[{{"system":{json_text(SERVICE_SYSTEM)},"value":'
_MARK = f',"interpretation":[{json_text(IMPLAUSIBLE)}]'


class Particulars(NamedTuple):
    """What differs from one Observation of a type to the next; ids are legal FHIR ids.

    Attributes:
        resource_id: Id of the Observation.
        identifier: Value of its identifier.
        patient_id: FHIR id of the Patient.
        device_id: FHIR id of the Device.
        encounter_id: FHIR id of the Encounter, None when there is none.
        effective: When it was measured, RFC 3339.
        issued: When the hub had it, RFC 3339.
    """

    resource_id: str
    identifier: str
    patient_id: str
    device_id: str
    encounter_id: str | None
    effective: str
    issued: str


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    before: str
    value: Callable[[str], str]
    after: str


@dataclass(frozen=True, slots=True)
class ObservationText:
    """Prepared pieces of one type's Observation.

    Attributes:
        names: Every value name the type has; the text needs all of them.
    """

    names: frozenset[str]
    _middle: str
    _own: _Part | None
    _components: tuple[_Part, ...]

    def render(self, about: Particulars, texts: Mapping[str, str], implausible: Collection[str] = ()) -> str:
        """The JSON of one Observation.

        Raises:
            MessageError: A value that should be a number is none.
        """
        encounter = f',"encounter":{{"reference":"Encounter/{about.encounter_id}"}}' if about.encounter_id else ""
        own = "" if self._own is None else "," + _filled(self._own, texts, implausible)
        components = ""
        if self._components:
            filled = ",".join(f"{{{_filled(part, texts, implausible)}}}" for part in self._components)
            components = f',"component":[{filled}]'
        return (
            f"{_HEAD}{about.resource_id}{_IDENTIFIER}{json_text(about.identifier)}}}]{self._middle}"
            f',"subject":{{"reference":"Patient/{about.patient_id}"}}{encounter}'
            f',"device":{{"reference":"Device/{about.device_id}"}}'
            f',"effectiveDateTime":"{about.effective}","issued":"{about.issued}"{own}{components}}}'
        )


def prepare(template: FhirTemplate) -> ObservationText | None:
    """The pieces for a type whose Observation covers one instant; None for every other type."""
    values = [value for _, value in template.parts]
    names = frozenset(value.value_name for value in values)
    if template.interval != SINGLE or len(names) != len(values):
        return None
    if any(value.value_type == "SampledData" for value in values):
        return None
    category = f',"category":{json_text(list(template.category))}' if template.category else ""
    code = json_text(concept(template.codes, template.type_name))
    components = tuple(
        _part(component.value, f'"code":{json_text(concept(component.codes, component.value.value_name))},')
        for component in template.components
    )
    own = _part(template.value, "") if template.value else None
    return ObservationText(names, f',"status":"final"{category},"code":{code}', own, components)


def _filled(part: _Part, texts: Mapping[str, str], implausible: Collection[str]) -> str:
    mark = _MARK if part.name in implausible else ""
    return f"{part.before}{part.value(texts[part.name])}{part.after}{mark}"


def _part(value: ValueTemplate, code: str) -> _Part:
    if value.value_type == "String":
        return _Part(value.value_name, f'{code}"valueString":', json_text, "")
    if value.value_type == "CodeableConcept":
        fixed = json_text(value.concept or {})
        if is_by_list(value):
            return _Part(value.value_name, f'{code}"valueCodeableConcept":', partial(_level, fixed), "")
        return _Part(value.value_name, f'{code}"valueCodeableConcept":', lambda text: fixed, "")
    named = (("unit", value.unit), ("system", value.system), ("code", value.code))
    unit = "".join(f',"{name}":{json_text(written)}' for name, written in named if written is not None)
    return _Part(value.value_name, f'{code}"valueQuantity":{{"value":', _number(value.value_name), f"{unit}}}")


def _level(otherwise: str, text: str) -> str:
    told = level_concept(text)
    return otherwise if told is None else json_text(told)


def _number(name: str) -> Callable[[str], str]:
    def number(text: str) -> str:
        found = decimal_text(text)
        if found is None:
            raise MessageError(
                f"[{name}]: Error encountered processing value: it is no decimal number."
                " Use valueType String, or correct the device mapping.",
                reason="not-a-quantity",
                expression=name,
            )
        return found

    return number
