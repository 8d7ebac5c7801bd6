"""Subscriptions of the FHIR store: what was stored is matched, noted as events, and sent to whoever asked."""
