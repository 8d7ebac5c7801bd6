"""Blue, steps 1 to 5: from the device to FHIR."""
