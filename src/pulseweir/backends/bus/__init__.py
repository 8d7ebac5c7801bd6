"""The event bus: one protocol, one backend a module."""
