"""Who may do what with the FHIR store, and what is written down about it."""
