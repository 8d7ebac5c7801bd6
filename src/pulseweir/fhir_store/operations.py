"""Extended operations: which there are, on what, and who answers them. None of them changes anything.

Source: HL7 FHIR R4, http://hl7.org/fhir/R4/operations.html.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pulseweir.fhir_store.calls import Reading
from pulseweir.fhir_store.control_parameters import refuse_modifiers
from pulseweir.fhir_store.outcomes import Answer, Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES
from pulseweir.fhir_store.query import Pairs
from pulseweir.fhir_store.search_operations import answer_search_operation
from pulseweir.fhir_store.security.limits import check_search_cost
from pulseweir.fhir_store.security.rights import check_search
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import ReadSession
from pulseweir.fhir_store.subscriptions.operations import answer_events, answer_status
from pulseweir.fhir_store.validating import answer_validate
from pulseweir.fhir_store.validation import check_id, check_type

Session = ReadSession | WriteSession


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        definition: Canonical URL of its OperationDefinition.
        answer: Who answers it.
        on_system: Whether it is asked of the base URL.
        on_type: Types it is asked of, as ``Type/$name``.
        on_instance: Types it is asked of, as ``Type/id/$name``.
        gettable: Levels ("system", "type", "instance") at which GET asks it too.
    """

    definition: str
    answer: Callable[[Session, Reading, FhirStoreSettings], Answer]
    on_system: bool = False
    on_type: tuple[str, ...] = ()
    on_instance: tuple[str, ...] = ()
    gettable: tuple[str, ...] = ()


def _like_search(session: Session, reading: Reading, settings: FhirStoreSettings) -> Answer:
    pairs = parameter_pairs(reading)
    # They may stand in the body, of which the checks at the door know nothing.
    check_search(session.access.caller, reading.segments[0], pairs)
    check_search_cost(pairs, settings.limits)
    if reading.document is not None:
        session.access.asks(pairs)
    return answer_search_operation(
        session,
        reading.segments,
        pairs,
        strict=reading.strict,
        settings=settings,
        base_url=reading.base_url,
    )


def _status(session: Session, reading: Reading, _: FhirStoreSettings) -> Answer:
    return answer_status(session, reading, parameter_pairs(reading))


def _events(session: Session, reading: Reading, settings: FhirStoreSettings) -> Answer:
    return answer_events(session, reading, parameter_pairs(reading), settings)


def parameter_pairs(reading: Reading) -> Pairs:
    """The query and, of a POST, the simple values of its Parameters.

    Raises:
        Refusal: 400 for a value that is not simple, or a modifier that the parameter does not take.
    """
    parts = reading.document.tree.get("parameter", []) if reading.document is not None else []
    pairs = list(reading.query)
    for part in parts if isinstance(parts, list) else []:
        members = part.items() if isinstance(part, dict) else ()
        values = [_simple(value) for name, value in members if name.startswith("value")]
        if not values or not isinstance(part.get("name"), str) or not isinstance(values[0], str | int | float):
            raise Refusal(
                400, "structure", "Parameters.parameter needs a name and a simple value.", "Parameters.parameter"
            )
        pairs.append((part["name"], json.dumps(values[0]) if not isinstance(values[0], str) else values[0]))
    refuse_modifiers(pairs, reading.segments[-1])
    return pairs


def _simple(value: Any) -> Any:
    """A Reference by its text; everything else as it is."""
    return value.get("reference") if isinstance(value, dict) else value


OPERATIONS: dict[str, Operation] = {
    "$validate": Operation(
        "http://hl7.org/fhir/OperationDefinition/Resource-validate",
        answer_validate,
        on_system=True,
        on_type=tuple(RESOURCE_TYPES),
        on_instance=tuple(RESOURCE_TYPES),
        gettable=("instance",),
    ),
    "$everything": Operation(
        "http://hl7.org/fhir/OperationDefinition/Patient-everything",
        _like_search,
        on_type=("Patient",),
        on_instance=("Patient",),
        gettable=("type", "instance"),
    ),
    "$lastn": Operation(
        "http://hl7.org/fhir/OperationDefinition/Observation-lastn",
        _like_search,
        on_type=("Observation",),
        gettable=("type",),
    ),
    "$status": Operation(
        "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-status",
        _status,
        on_type=("Subscription",),
        on_instance=("Subscription",),
        gettable=("type", "instance"),
    ),
    "$events": Operation(
        "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-events",
        _events,
        on_instance=("Subscription",),
        gettable=("instance",),
    ),
}


def operation_methods(segments: list[str]) -> tuple[str, ...]:
    """HTTP methods by which an operation is asked.

    Raises:
        Refusal: 404 when there is no such operation, or not there.
    """
    operation = OPERATIONS.get(segments[-1])
    if len(segments) > 1:
        check_type(segments[0])
    match segments:
        case [_] if operation and operation.on_system:
            level = "system"
        case [resource_type, _] if operation and resource_type in operation.on_type:
            level = "type"
        case [resource_type, resource_id, _] if operation and resource_type in operation.on_instance:
            check_id(resource_id)
            level = "instance"
        case _:
            raise Refusal(404, "not-supported", "This server has no such operation there; see /metadata.")
    return ("GET", "POST") if level in operation.gettable else ("POST",)


def answer_operation(session: Session, reading: Reading, settings: FhirStoreSettings) -> Answer:
    """What an operation answers.

    Raises:
        Refusal: There is no such operation, or it cannot be answered.
    """
    operation_methods(reading.segments)
    return OPERATIONS[reading.segments[-1]].answer(session, reading, settings)
