"""Step 10: what runs the windows and models."""
