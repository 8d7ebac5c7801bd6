"""The systems pulseweir speaks to: bus, FHIR service, lake, repository, channels."""
