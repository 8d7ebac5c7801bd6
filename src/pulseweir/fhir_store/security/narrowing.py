"""A caller's rights as conditions of a search: what it may not see does not match, and is not counted. Pure."""

from pulseweir.fhir_store.parameters import compartment_parameters, parameters_of
from pulseweir.fhir_store.query import ID, Criterion, SearchRequest
from pulseweir.fhir_store.search_values import RELATIVE
from pulseweir.fhir_store.security.caller import Alternative, Caller
from pulseweir.fhir_store.security.scopes import SEARCH


def narrow(request: SearchRequest, caller: Caller) -> None:
    """Hold a search to what its caller may see."""
    if not caller.is_bounded:
        return
    resource_type = request.resource_type
    ways = caller.alternatives(resource_type, SEARCH)
    if not ways or caller.is_narrowed(resource_type, SEARCH):
        request.within = [each for way in ways for each in _criteria(resource_type, way)]


def _criteria(resource_type: str, way: Alternative) -> list[list[Criterion]]:
    """The ways of matching: any of them, each with all of its criteria."""
    parameters = parameters_of(resource_type)
    tokens = [Criterion(parameters[name], "", (value,)) for name, value in way.tokens]
    if way.patient is None:
        return [tokens]
    places = [
        Criterion(parameters[name], RELATIVE, (f"Patient/{way.patient}",))
        for name in compartment_parameters("Patient", resource_type)
    ]
    if resource_type == "Patient":
        places.append(Criterion(ID, "", (way.patient,)))
    return [[place, *tokens] for place in places]
