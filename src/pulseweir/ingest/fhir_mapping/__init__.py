"""Step 5c: the FHIR mapping: which Observation holds a measurement, and what stands in it."""
