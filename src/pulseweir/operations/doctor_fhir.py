"""Does the outside FHIR server of the settings answer, speak R4, let this house in, and do what the steps need?"""

from urllib.parse import urlsplit

from pulseweir.backends.fhir_capabilities import Capabilities, missing, worked_around
from pulseweir.backends.fhir_client import FhirClient, FhirVersionUnsupported
from pulseweir.backends.fhir_connection import FhirLinkElsewhere
from pulseweir.errors import FhirRefused, PulseweirError
from pulseweir.operations.findings import Finding
from pulseweir.settings import Settings
from pulseweir.systems import open_fhir

_SHUT = frozenset({401, 403})
_ASK = "Ask its operator"
_PAGED = ("Device", "Patient", "Observation", "Encounter", "Practitioner")
"""Types to look for one that has two resources: a search that fits one page has no link to follow."""
_ENOUGH_PAGES = 2


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
    return [server, await _door(fhir), *await _pages(fhir, found), *_abilities(found)]


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


async def _pages(fhir: FhirClient, found: Capabilities) -> list[Finding]:
    """Whether a second page can be read: behind a proxy a server may name itself by a host that nobody here knows."""
    for resource_type in (each for each in _PAGED if not found.types or each in found.types):
        try:
            pages = fhir.pages(resource_type, [("_count", "1"), ("_elements", "id")])
            read = 0
            async for _ in pages:
                read += 1
                if read == _ENOUGH_PAGES:
                    return [Finding("FHIR pages", True, f"the second page of a search of {resource_type} is read")]
        except FhirLinkElsewhere as elsewhere:
            own = urlsplit(fhir.base_url).hostname
            said = f"the `next` link of a search leads to {elsewhere.host[:100]}, not to {own}"
            remedy = (
                f"{_ASK} to let it name itself {fhir.base_url} (on HAPI: hapi.fhir.server_address), or set "
                "fhir.base_url to the address it names, if that can be reached. Until then searches longer than a page "
                "wait."
            )
            return [Finding("FHIR pages", False, said, remedy)]
        except PulseweirError:
            continue
    return []


def _abilities(found: Capabilities) -> list[Finding]:
    lacking = list(missing(found))
    remedy = f"{_ASK} to allow it. Steps that need it wait, or leave it out." if lacking else ""
    listed = f"does not list: {'; '.join(lacking)}" if lacking else "does all that the steps need"
    ways = "; ".join(worked_around(found))
    return [
        Finding("FHIR capability", not lacking, listed, remedy),
        *([Finding("FHIR habits", True, ways)] if ways else []),
    ]
