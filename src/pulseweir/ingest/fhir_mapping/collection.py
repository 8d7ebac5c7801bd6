"""Step 5c: a whole FHIR mapping: which code a value has, and the Observations of a group."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from pulseweir.errors import MappingError, MessageError
from pulseweir.ingest.device_mapping.collection import file_text
from pulseweir.ingest.device_mapping.loader import Compatibility, Faults, read_collection, read_document
from pulseweir.ingest.device_mapping.located_json import LocatedJsonError, Node, from_plain
from pulseweir.ingest.fhir_mapping.observations import Subject, merged_observation, new_observation
from pulseweir.ingest.fhir_mapping.templates import FhirTemplate, load_template
from pulseweir.ingest.fhir_mapping.values import decimal_text, parse_ticks
from pulseweir.ingest.grouping import INTERVALS, observation_groups
from pulseweir.records.codes import LOINC

_Json = dict[str, object]


class Binding(NamedTuple):
    """What a FHIR mapping says about one measured value.

    Attributes:
        code: Its LOINC code; None when it has none.
        unit: The code of its unit; None when it has none.
    """

    code: str | None
    unit: str | None


@dataclass(frozen=True, slots=True)
class FhirMapping:
    """A FHIR mapping, read.

    Attributes:
        templates: By measurement type, case folded.
        bindings: By (measurement type case folded, value name).
    """

    templates: dict[str, FhirTemplate]
    bindings: dict[tuple[str, str], Binding]

    @classmethod
    def load(cls, source: Path | str | Mapping[str, object], *, compatibility: Compatibility = "strict") -> Self:
        """Read a mapping from a file or from decoded JSON.

        Args:
            source: Path of a file, or the decoded document.
            compatibility: ``pulseweir`` refuses a periodInterval that nothing can be grouped by; ``strict`` loads it
                and refuses the groups, as the predecessor does.

        Raises:
            MappingError: Every fault of the mapping, with its place and remedy.
        """
        if isinstance(source, Mapping):
            faults = Faults()
            try:
                return cls._from_node(from_plain(dict(source)), faults, "FHIR mapping", compatibility)
            except LocatedJsonError as cause:
                faults.add(None, "document", cause.problem, "Flatten it.")
                raise MappingError("FHIR mapping", faults.found) from None
        return cls.loads(file_text(Path(source)), source=Path(source).name, compatibility=compatibility)

    @classmethod
    def loads(cls, text: str, *, source: str = "FHIR mapping", compatibility: Compatibility = "strict") -> Self:
        """Read a mapping from its text.

        Raises:
            MappingError: As `load`.
        """
        faults = Faults()
        return cls._from_node(read_document(text, faults), faults, source, compatibility)

    @classmethod
    def _from_node(cls, root: Node | None, faults: Faults, source: str, compatibility: Compatibility) -> Self:
        names = ("CollectionFhir", "CollectionFhirTemplate")
        containers = [] if root is None else read_collection(root, "CollectionFhir", names, faults)
        templates: dict[str, FhirTemplate] = {}
        for index, container in enumerate(containers):
            place = f"template[{index}]"
            template = load_template(container, place, faults, compatibility)
            if template is None:
                continue
            if template.type_name.casefold() in templates:
                problem = f"Duplicate template defined for type name: '{template.type_name}'."
                faults.add(container, place, problem, "Merge the two, or rename one.")
            templates[template.type_name.casefold()] = template
        if faults.found:
            raise MappingError(source, faults.found)
        return cls(templates, _bindings(templates))

    def template(self, type_name: str) -> FhirTemplate | None:
        """The template of a measurement type, whatever its case; None when there is none."""
        return self.templates.get(type_name.casefold())

    def binding(self, type_name: str, value_name: str) -> Binding | None:
        """Code and unit of one value of a measurement type; None when no Observation holds it."""
        return self.bindings.get((type_name.casefold(), value_name))

    def observation(
        self,
        group: Mapping[str, object],
        existing: _Json | None = None,
        *,
        patient_id: str | None = None,
        device_id: str | None = None,
        encounter_id: str | None = None,
        compatibility: Compatibility = "strict",
    ) -> _Json | list[_Json]:
        """The Observation of a measurement group, or a list when the group makes several.

        Args:
            group: ``measureType, deviceId, patientId, encounterId, correlationId, data: [{occurrenceTimeUtc,
                properties}]``, names in any case.
            existing: The stored Observation to merge into; the result equals it when nothing changes.
            patient_id: FHIR id of the Patient; the group's own patient id when not given.
            device_id: FHIR id of the Device; as above.
            encounter_id: FHIR id of the Encounter; none when not given.
            compatibility: ``pulseweir`` writes a single instant as effectiveDateTime, shows fractions of a second in
                its identifier and reads numbers with an exponent; ``strict`` does none of it, as the predecessor.

        Raises:
            MessageError: No template has the type, or the measurements do not fit it.
        """
        members = _folded(group)
        type_name = str(members.get("measuretype") or members.get("type") or "")
        template = self.template(type_name)
        if template is None:
            raise MessageError(
                f"No Fhir Template exists with the type name [{type_name}]. Add one to the FHIR mapping.",
                reason="no-fhir-template",
            )
        correlation = members.get("correlationid")
        subject = Subject(
            patient_id or _optional(members.get("patientid")),
            device_id or _optional(members.get("deviceid")),
            encounter_id,
        )
        _refuse_interval(template)
        make_dates = compatibility == "pulseweir"
        rows = _rows(members)
        if not make_dates:
            _refuse_exponents(template, rows)
        found = observation_groups(template.interval, rows, _optional(correlation), with_fraction=make_dates)
        if existing is not None:
            return merged_observation(template, found[0][1], existing, dates=make_dates) if found else existing
        made = [new_observation(template, part, one, subject, dates=make_dates) for part, one in found]
        return made[0] if len(made) == 1 else made


def _refuse_interval(template: FhirTemplate) -> None:
    if template.interval not in INTERVALS.values():
        raise MessageError(
            f"[{template.type_name}]: periodInterval {template.interval} is not supported."
            " Use CorrelationId (-1), Single (0), Hourly (60), Daily (1440).",
            reason="unknown-interval",
            template=template.type_name,
        )


def _refuse_exponents(template: FhirTemplate, rows: list[tuple[int, dict[str, str]]]) -> None:
    """Refuse what the predecessor's decimal parser refuses and ours reads."""
    names = [value.value_name for _, value in template.parts if value.value_type == "Quantity"]
    for name in names:
        if any("E" in (decimal_text(properties.get(name, "")) or "").upper() for _, properties in rows):
            raise MessageError(
                f"[{name}]: Error encountered processing value: it has an exponent. Scale it in the device mapping,"
                " or use compatibility pulseweir.",
                reason="not-a-quantity",
                expression=name,
            )


def _bindings(templates: Mapping[str, FhirTemplate]) -> dict[tuple[str, str], Binding]:
    bindings: dict[tuple[str, str], Binding] = {}
    for folded, template in templates.items():
        for codes, value in template.parts:
            code = next((coding.get("code") for coding in codes if coding.get("system") == LOINC), None)
            unit = value.unit if value.value_type == "SampledData" else value.code
            bindings.setdefault((folded, value.value_name), Binding(code, unit))
    return bindings


def _optional(value: object) -> str | None:
    return None if value is None else str(value)


def _folded(members: Mapping[str, object]) -> dict[str, object]:
    return {name.casefold(): value for name, value in members.items()}


def _rows(members: Mapping[str, object]) -> list[tuple[int, dict[str, str]]]:
    data = members.get("data")
    rows: list[tuple[int, dict[str, str]]] = []
    for item in data if isinstance(data, list) else []:
        row = _folded(item)
        properties = row.get("properties") or {}
        if isinstance(properties, list):
            pairs = [_folded(pair) for pair in properties]
            properties = {str(pair.get("name")): pair.get("value") for pair in pairs}
        texts = {str(name): str(value) for name, value in dict(properties).items() if value is not None}  # type: ignore[call-overload]
        rows.append((parse_ticks(str(row.get("occurrencetimeutc"))), texts))
    return rows
