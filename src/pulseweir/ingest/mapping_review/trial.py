"""Steps 4 and 5c: what messages become, without a house. Pure."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from pulseweir.errors import MessageError
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.loader import Compatibility
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.device_mapping.tokens import instant_text
from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.ingest.mapping_review.messages import envelope_of

Json = dict[str, object]
NORMALIZATION = "NORMALIZATION"
FHIR_TRANSFORMATION = "FHIRTRANSFORMATION"


@dataclass(frozen=True, slots=True)
class Reject:
    """What was refused of a message.

    Attributes:
        category: ``NORMALIZATION`` (nothing of the message is used) or ``FHIRTRANSFORMATION`` (one Observation is
            not made).
        reason: Stable kebab-case word.
        message: What failed and what to do; no value of the message.
        template: Index of the device template, or the measurement type.
        expression: The expression or value name at fault, if one is.
    """

    category: str
    reason: str
    message: str
    template: str | None
    expression: str | None


@dataclass(frozen=True, slots=True)
class Trial:
    """What one message becomes.

    Attributes:
        measurements: In template, then match order.
        observations: As the house would write them if it had no stored ones.
        rejects: What was refused.
        warnings: What is lost without being refused.
    """

    measurements: tuple[Json, ...]
    observations: tuple[Json, ...]
    rejects: tuple[Reject, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> Json:
        """The trial as plain values."""
        return asdict(self)


def dry_run(
    device_mapping: DeviceMapping,
    fhir_mapping: FhirMapping | None,
    messages: Iterable[object],
    *,
    compatibility: Compatibility = "pulseweir",
) -> list[Trial]:
    """What each message becomes: measurements, Observations, rejects, warnings.

    Args:
        device_mapping: The device mapping.
        fhir_mapping: The FHIR mapping; without one no Observations are made.
        messages: Each a body, or an envelope with ``Body``, ``Properties``, ``SystemProperties``.
        compatibility: As for `FhirMapping.observation`.

    Patient and device references show the identifiers of the message, since nobody is asked for FHIR ids.
    """
    return [_try(device_mapping, fhir_mapping, envelope_of(message), compatibility) for message in messages]


def shown(measurement: Measurement) -> Json:
    """A measurement as plain values."""
    return {
        "type": measurement.type,
        "device_id": measurement.device_id,
        "occurred_at": instant_text(measurement.occurred_at_microseconds),
        "patient_id": measurement.patient_id,
        "encounter_id": measurement.encounter_id,
        "correlation_id": measurement.correlation_id,
        "properties": measurement.properties,
    }


def _try(
    device_mapping: DeviceMapping,
    fhir_mapping: FhirMapping | None,
    envelope: Json,
    compatibility: Compatibility,
) -> Trial:
    try:
        measurements = device_mapping.normalize(envelope)
    except MessageError as error:
        return Trial((), (), (_reject(NORMALIZATION, error, error.template),), ())
    warnings: dict[str, None] = {}
    if not measurements:
        warnings["No measurements were produced: no template's typeMatchExpression selects anything."] = None
    observations: list[Json] = []
    rejects: list[Reject] = []
    for group in [] if fhir_mapping is None else _groups(measurements):
        _convert(fhir_mapping, group, compatibility, (observations, rejects, warnings))  # type: ignore[arg-type]
    return Trial(tuple(map(shown, measurements)), tuple(observations), tuple(rejects), tuple(warnings))


def _groups(measurements: Iterable[Measurement]) -> list[list[Measurement]]:
    """Measurements that share type, device, patient, encounter and correlation, in order of the first of each."""
    groups: dict[tuple[str | None, ...], list[Measurement]] = {}
    for one in measurements:
        key = (one.type, one.device_id, one.patient_id, one.encounter_id, one.correlation_id)
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _convert(
    fhir_mapping: FhirMapping,
    group: list[Measurement],
    compatibility: Compatibility,
    into: tuple[list[Json], list[Reject], dict[str, None]],
) -> None:
    observations, rejects, warnings = into
    first = group[0]
    if fhir_mapping.template(first.type) is None:
        warnings[f"No matching Fhir Template exists for type [{first.type}]: it becomes no Observation."] = None
        return
    for name in {name: None for one in group for name in one.properties}:
        if fhir_mapping.binding(first.type, name) is None:
            warnings[
                f"The value [{name}] in Device Mapping [{first.type}] is not represented in its Fhir Template."
            ] = None
    try:
        made = fhir_mapping.observation(
            _group(group),
            patient_id=first.patient_id or "patient",
            device_id=first.device_id,
            encounter_id=first.encounter_id,
            compatibility=compatibility,
        )
    except MessageError as error:
        rejects.append(_reject(FHIR_TRANSFORMATION, error, first.type))
    else:
        observations += made if isinstance(made, list) else [made]


def _group(measurements: list[Measurement]) -> Json:
    return {
        "measureType": measurements[0].type,
        "correlationId": measurements[0].correlation_id,
        "data": [
            {"occurrenceTimeUtc": instant_text(one.occurred_at_microseconds), "properties": one.properties}
            for one in measurements
        ],
    }


def _reject(category: str, error: MessageError, template: str | None) -> Reject:
    return Reject(category, error.reason, str(error), template, error.expression)
