"""Does the outside FHIR server of the settings answer, speak R4, let this house in, and do what the steps need?"""

from pulseweir.backends.fhir_capabilities import Capabilities, missing, worked_around
from pulseweir.backends.fhir_client import FhirClient, FhirVersionUnsupported
from pulseweir.errors import FhirRefused, PulseweirError
from pulseweir.operations.findings import Finding
from pulseweir.settings import Settings
from pulseweir.systems import open_fhir

_SHUT = frozenset({401, 403})
_ASK = "Ask its operator"


async def examine_fhir(settings: Settings) -> list[Finding]:
    """What is found out about the server; nothing where the embedded store is used."""
    if settings.fhir.base_url is None:
        return []
    try:
        fhir = open_fhir(settings)
    except PulseweirError as error:
        return [Finding("FHIR credentials", False, "cannot be used", str(error))]
    try:
        return await _examine(fhir)
    finally:
        await fhir.close()


async def _examine(fhir: FhirClient) -> list[Finding]:
    try:
        found = await fhir.discover()
    except FhirVersionUnsupported as error:
        return [Finding("FHIR server", False, f"FHIR {error.version}", "Set fhir.base_url to the server's R4 base.")]
    except PulseweirError as error:
        return [Finding("FHIR server", False, f"{fhir.base_url}: no answer", str(error))]
    server = Finding("FHIR server", True, f"{found.software or fhir.base_url}, FHIR {found.fhir_version}")
    return [server, await _door(fhir), *_abilities(found)]


async def _door(fhir: FhirClient) -> Finding:
    """Whether a question that the connector asks is answered."""
    try:
        await fhir.search("Device", [("_count", "1"), ("_elements", "id")], limit=1)
    except FhirRefused as refused:
        if refused.status in _SHUT:
            remedy = f"{_ASK} for access, or correct fhir.credentials."
            return Finding("FHIR credentials", False, f"answered {refused.status}", remedy)
        return Finding("FHIR credentials", True, f"let in; answered {refused.status} to a search of Devices")
    except PulseweirError as error:
        return Finding("FHIR credentials", False, "no access", str(error))
    return Finding("FHIR credentials", True, "let in")


def _abilities(found: Capabilities) -> list[Finding]:
    lacking = list(missing(found))
    remedy = f"{_ASK} to allow it. Steps that need it wait, or leave it out." if lacking else ""
    listed = f"does not list: {'; '.join(lacking)}" if lacking else "does all that the steps need"
    ways = "; ".join(worked_around(found))
    return [
        Finding("FHIR capability", not lacking, listed, remedy),
        *([Finding("FHIR habits", True, ways)] if ways else []),
    ]
