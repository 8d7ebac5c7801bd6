"""The pages: sign-in, ward, patient, worklist."""
