"""Whose a resource is: its patients by the Patient compartment, and the tokens that scopes restrict by. Pure.

Source: HL7 FHIR R4 CompartmentDefinition patient, http://hl7.org/fhir/R4/compartmentdefinition-patient.html.
"""

from pulseweir.fhir_store.extraction import reference_text, tokens, values_at
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.parameters import compartment_parameters, parameters_of

_PATIENT = "Patient"


def patients_of(resource_type: str, resource_id: str, tree: Json) -> set[str]:
    """Logical ids of the Patients in whose compartment a resource is; a Patient is in its own.

    References to Patients of other servers count for none.

    >>> patients_of("Flag", "f1", {"subject": {"reference": "Patient/p1"}})
    {'p1'}
    """
    found = {resource_id} if resource_type == _PATIENT else set()
    parameters = parameters_of(resource_type)
    for name in compartment_parameters(_PATIENT, resource_type):
        for path in parameters[name].paths:
            for value in values_at(path, tree):
                owner, _, patient_id = (reference_text(value) or "").partition("/")
                if owner == _PATIENT and patient_id:
                    found.add(patient_id)
    return found


def has_token(resource_type: str, tree: Json, name: str, wanted: str) -> bool:
    """Whether a token parameter of a resource has a value, written ``code``, ``system|code`` or ``|code``.

    >>> has_token("Flag", {"status": "active"}, "status", "active")
    True
    """
    parameter = parameters_of(resource_type)[name]
    system, bar, code = wanted.rpartition("|")
    plain = code if bar and system in parameter.code_systems else wanted
    for each in (parameter, *parameter.parts):
        for path in each.paths:
            for value in values_at(path, tree):
                asked = plain if path.type == "code" else wanted
                if any(_matches(token, asked) for token in tokens(value, path.type)):
                    return True
    return False


def _matches(token: tuple[str, str], wanted: str) -> bool:
    code, system = token
    wanted_system, bar, wanted_code = wanted.rpartition("|")
    if not bar:
        return code == wanted_code
    return system == wanted_system and wanted_code in {"", code}
