"""Steps 6-11: a pace that lets rows gather on the bus, so that one call deals with many."""

import asyncio


class Pace:
    """Lets a caller through at most once in `interval_seconds` of real time; at once after a pause."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._not_before = float("-inf")

    async def wait(self) -> None:
        """Return when it is time again."""
        loop = asyncio.get_running_loop()
        remaining = self._not_before - loop.time()
        if remaining > 0:
            await asyncio.sleep(remaining)
        self._not_before = loop.time() + self._interval_seconds
