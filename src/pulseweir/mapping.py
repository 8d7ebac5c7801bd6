"""The public face of the mappings: load them, use them, check, try, explain, lint and compare them.

>>> device = DeviceMapping.load({"templateType": "CollectionContent", "template": [
...     {"templateType": "JsonPathContent", "template": {
...         "typeName": "heart-rate", "typeMatchExpression": "$..[?(@pulse)]",
...         "deviceIdExpression": "$.device", "timestampExpression": "$.at",
...         "values": [{"valueName": "rate", "valueExpression": "$.pulse", "required": True}]}}]})
>>> body = {"device": "m-1", "at": "2030-01-01T00:00:00Z", "pulse": 61}
>>> [measurement] = device.normalize({"Body": body, "Properties": {}, "SystemProperties": {}})
>>> measurement.type, measurement.device_id, measurement.properties
('heart-rate', 'm-1', {'rate': '61'})
>>> measurement.occurred_at
datetime.datetime(2030, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)
>>> fhir = FhirMapping.load({"templateType": "CollectionFhir", "template": [
...     {"templateType": "CodeValueFhir", "template": {
...         "typeName": "heart-rate", "codes": [{"system": "http://loinc.org", "code": "8867-4"}],
...         "value": {"valueType": "Quantity", "valueName": "rate", "unit": "beats/minute",
...                   "system": "http://unitsofmeasure.org", "code": "/min"}}}]})
>>> group = {"measureType": "heart-rate", "deviceId": "m-1", "data": [
...     {"occurrenceTimeUtc": "2030-01-01T00:00:00Z", "properties": {"rate": "61"}}]}
>>> fhir.observation(group, patient_id="p-1", device_id="d-1")["valueQuantity"]["value"]
61
>>> lint(device, fhir)
[]
"""

from pulseweir.errors import MappingError, MappingFault, MessageError
from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA, REJECT_SCHEMA, Normalized
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.loader import Compatibility
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.fhir_mapping.collection import Binding, FhirMapping
from pulseweir.ingest.mapping_review.checking import check_device_mapping, check_fhir_mapping
from pulseweir.ingest.mapping_review.difference import Change, diff
from pulseweir.ingest.mapping_review.explanation import (
    FieldExplanation,
    MessageExplanation,
    TemplateExplanation,
    explain,
)
from pulseweir.ingest.mapping_review.findings import Finding, located
from pulseweir.ingest.mapping_review.lint import lint
from pulseweir.ingest.mapping_review.lint_rules import RULES, Rule
from pulseweir.ingest.mapping_review.messages import envelope_of, read_messages
from pulseweir.ingest.mapping_review.report import change_lines, explanation_lines, trial_lines
from pulseweir.ingest.mapping_review.stop import Stop
from pulseweir.ingest.mapping_review.trial import Reject, Trial, dry_run
from pulseweir.records.quantities import is_loinc

__all__ = [
    "NORMALIZED_SCHEMA",
    "REJECT_SCHEMA",
    "RULES",
    "Binding",
    "Change",
    "Compatibility",
    "DeviceMapping",
    "FhirMapping",
    "FieldExplanation",
    "Finding",
    "MappingError",
    "MappingFault",
    "Measurement",
    "MessageError",
    "MessageExplanation",
    "Normalized",
    "Reject",
    "Rule",
    "Stop",
    "TemplateExplanation",
    "Trial",
    "change_lines",
    "check_device_mapping",
    "check_fhir_mapping",
    "diff",
    "dry_run",
    "envelope_of",
    "explain",
    "explanation_lines",
    "is_loinc",
    "lint",
    "located",
    "read_messages",
    "trial_lines",
]
