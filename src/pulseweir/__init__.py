"""Vital signs from medical devices to the people who must act on them, in seconds."""

__version__ = "0.1.0"
