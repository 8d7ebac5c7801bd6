"""The channels a notification can leave by."""
