"""The R4 definitions in tables of our own: made by `make_definitions`, read by `tables`."""
