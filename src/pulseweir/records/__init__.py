"""What flows between the steps: Arrow schemas, topics, deterministic identifiers, units and codes."""
