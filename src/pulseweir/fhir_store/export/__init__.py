"""Bulk export of the FHIR store: one snapshot as files of one resource a line."""
