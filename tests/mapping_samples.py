"""Small mappings for tests, each part to be replaced."""

from typing import Any

from pulseweir.mapping import DeviceMapping, FhirMapping

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
Json = dict[str, Any]


def device_json(*templates: Json) -> Json:
    """A device mapping of these templates; each may give its own templateType as ``kind``."""
    return {"templateType": "CollectionContent", "template": [_device_template(dict(one)) for one in templates]}


def device(*templates: Json) -> DeviceMapping:
    """The same, loaded in strict mode."""
    return DeviceMapping.load(device_json(*(templates or ({},))))


def fhir_json(*templates: Json) -> Json:
    """A FHIR mapping of these templates."""
    return {
        "templateType": "CollectionFhir",
        "template": [{"templateType": "CodeValueFhir", "template": _FHIR | one} for one in templates],
    }


def fhir(*templates: Json) -> FhirMapping:
    """The same, loaded."""
    return FhirMapping.load(fhir_json(*(templates or ({},))))


def value(name: str, path: str = "", **more: Any) -> Json:
    """A value of a device template."""
    return {"valueName": name, "valueExpression": path or f"$.{name}", **more}


def quantity(name: str = "rate", code: str = "/min", unit: str = "beats/minute", system: str = UCUM) -> Json:
    """A Quantity of a FHIR template."""
    return {"valueType": "Quantity", "valueName": name, "unit": unit, "system": system, "code": code}


def samples(name: str = "rate", unit: str = "/min", period: float = 1_000) -> Json:
    """A SampledData of a FHIR template."""
    return {"valueType": "SampledData", "valueName": name, "unit": unit, "defaultPeriod": period}


def coding(code: str, display: str = "", system: str = LOINC) -> Json:
    """One code."""
    return {"code": code, "system": system, "display": display}


def component(code: str, shown: Json, display: str = "") -> Json:
    """One component."""
    return {"codes": [coding(code, display)], "value": shown}


_DEVICE: Json = {
    "typeName": "heart-rate",
    "typeMatchExpression": "$..[?(@rate)]",
    "deviceIdExpression": "$.device",
    "timestampExpression": "$.at",
    "values": [value("rate")],
}
_FHIR: Json = {
    "typeName": "heart-rate",
    "codes": [{"code": "8867-4", "system": LOINC, "display": "Heart rate"}],
    "value": quantity(),
}
BODY: Json = {"device": "device-secret", "at": "2030-01-01T00:00:00Z", "rate": 61}


def _device_template(one: Json) -> Json:
    kind = one.pop("kind", "JsonPathContent")
    members = _DEVICE | one
    if kind.startswith("Iot"):
        members = {name: part for name, part in members.items() if name not in _FIXED}
    return {"templateType": kind, "template": members}


_FIXED = {"deviceIdExpression", "timestampExpression"}
