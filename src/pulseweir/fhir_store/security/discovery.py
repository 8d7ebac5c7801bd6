"""How a client learns what it needs to come in: the CapabilityStatement's security and the SMART configuration. Pure.

Source: HL7 SMART App Launch 2.2, conformance, http://hl7.org/fhir/smart-app-launch/conformance.html.
"""

from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.security.settings import FhirSecuritySettings

_SERVICE = "http://terminology.hl7.org/CodeSystem/restful-security-service"
_OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_OPEN = (
    "No authentication: this server answers every request that reaches it. It listens on the loopback interface "
    "only; put nothing between it and a network before clients are configured."
)
_CLOSED = (
    "Bearer tokens or mutual TLS. Rights are SMART scopes, version 1 or 2, held to for each type, interaction and, "
    "where a scope restricts or the token is bound to a patient, each resource."
)
OPEN_SECURITY: Json = {"cors": False, "description": _OPEN}
"""`CapabilityStatement.rest.security` of a server that asks nobody who they are."""


def security_statement(settings: FhirSecuritySettings) -> Json:
    """`CapabilityStatement.rest.security` of a server that asks."""
    services = [{"coding": [{"system": _SERVICE, "code": "SMART-on-FHIR"}], "text": "SMART on FHIR bearer tokens"}]
    if settings.client_authority_file is not None:
        services.append({"coding": [{"system": _SERVICE, "code": "Certificates"}], "text": "Mutual TLS"})
    statement: Json = {"cors": False, "service": services, "description": _CLOSED}
    found = {"authorize": settings.authorization_url, "token": settings.token_url}
    places = [{"url": name, "valueUri": url} for name, url in found.items() if url]
    if places:
        statement["extension"] = [{"url": _OAUTH_URIS, "extension": places}]
    return statement


def smart_configuration(settings: FhirSecuritySettings) -> Json:
    """What `/.well-known/smart-configuration` says; endpoints are the issuer's, where the operator named them."""
    known = {
        "issuer": settings.issuer,
        "jwks_uri": settings.jwks_url,
        "authorization_endpoint": settings.authorization_url,
        "token_endpoint": settings.token_url,
    }
    return {name: url for name, url in known.items() if url} | {
        "grant_types_supported": ["authorization_code", "client_credentials"] if settings.issuer else [],
        "scopes_supported": ["patient/*.cruds", "user/*.cruds", "system/*.cruds", "patient/*.read", "system/*.read"],
        "capabilities": ["context-standalone-patient", "permission-patient", "permission-user"]
        + ["permission-v1", "permission-v2"],
        "code_challenge_methods_supported": ["S256"],
    }
