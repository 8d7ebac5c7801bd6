"""HTTP connections of every server of this house: one on which nothing comes about is ended."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS, KEPT_SECONDS = 30, 75
"""How long a new connection waits for its first request's head, and one that had requests for the next."""


class WatchedConnection(HttpToolsProtocol):
    """A connection that is ended when it has sent no whole request for long; uvicorn itself waits without end.

    Without it a few thousand silent connections would take every open file of the process.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch."""
        super().connection_made(transport)
        self._look_again = self.loop.call_later(HEAD_SECONDS, self._look, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._look_again.cancel()
        super().connection_lost(exc)

    def _look(self, before: tuple[Any, int] | None) -> None:
        """End the connection when it waits for a request's head, and has neither got one nor sent on since `before`.

        One look a connection and minute costs nothing, a timer a request would.
        """
        is_waiting = self.cycle is None or self.cycle.response_complete
        now = self.cycle, self.transport.get_write_buffer_size()
        if is_waiting and (before or (None, 0)) == now:
            self.transport.abort()
            return
        self._look_again = self.loop.call_later(KEPT_SECONDS, self._look, now if is_waiting else None)
