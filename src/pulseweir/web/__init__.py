"""Steps 15-17: the pages: sign-in, ward overview, patient, worklist, reports."""
