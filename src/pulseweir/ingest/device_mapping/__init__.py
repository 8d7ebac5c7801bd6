"""Step 4: device mappings, from message to measurements. Pure."""
