"""Steps 4 and 5c, seen by whoever writes mappings: check, try, explain, lint, compare."""
