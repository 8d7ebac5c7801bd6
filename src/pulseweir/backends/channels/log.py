"""Step 18: notifications as log lines: bed and priority, no patient data."""

import structlog

from pulseweir.backends.channels.base import Channel, Notification


class LogChannel(Channel):
    """Writes one structured line a notification; the last resort, and enough for a demonstration."""

    name = "log"

    async def send(self, notification: Notification) -> None:
        """Write the line."""
        structlog.get_logger().warning(
            "notification",
            kind=notification.kind,
            priority=notification.priority,
            level=notification.level,
            role=notification.role,
            ward=notification.ward,
            bed=notification.bed,
        )

    async def close(self) -> None:
        """Nothing to release."""
