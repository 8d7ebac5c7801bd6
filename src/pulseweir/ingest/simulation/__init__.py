"""Step 1: what simulated patients do and what their devices say about it."""
