"""Step 18: one message posted to an address that is a secret, within one time limit for everything."""

import asyncio
from urllib.parse import urlsplit

import httpx

from pulseweir.backends.channels.answers import BODY_BYTES_AT_MOST, HttpAnswer, check_taken
from pulseweir.clock import real_microseconds
from pulseweir.errors import ChannelUnavailable, RefuseToStart

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SEND_SECONDS = 10.0
"""From the first byte sent to the last byte of the answer, by default."""


class Poster:
    """Posts bodies to one address and says whether they were taken.

    Args:
        channel: Name of the channel, for errors.
        address: Where to; a secret: no error names it.
        seconds: Limit for the whole exchange: an answer that drips or never ends is no answer.
        transport: Stands in for the network in tests.

    Raises:
        RefuseToStart: The address is none.
    """

    def __init__(
        self,
        channel: str,
        address: str,
        *,
        seconds: float = SEND_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._channel = channel
        self._seconds = seconds
        try:
            urlsplit(address)
            self._address = httpx.URL(address)
        except (httpx.InvalidURL, ValueError):
            self._address = httpx.URL("")
        if self._address.scheme not in ("http", "https") or not self._address.host:
            message = f"The address of channel {channel} is not one. Give it whole, beginning with https://."
            raise RefuseToStart(message)
        self._http = httpx.AsyncClient(transport=transport, timeout=seconds, follow_redirects=False)

    @property
    def is_private(self) -> bool:
        """Whether nobody on the way can read along: https, or this machine."""
        return self._address.scheme == "https" or self._address.host in _LOOPBACK

    async def post(self, body: bytes, headers: dict[str, str]) -> None:
        """Post one body; returns when the answer says that it was taken.

        Raises:
            ChannelUnavailable: No whole answer in time, or one that asks for patience.
            ChannelRefused: Any other answer.
        """
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._exchange(body, headers)
        except TimeoutError:
            raise ChannelUnavailable(self._channel, f"no whole answer within {self._seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            # The error's own text may name the address, which is a secret.
            raise ChannelUnavailable(self._channel, type(error).__name__) from None
        check_taken(self._channel, answer, real_microseconds())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _exchange(self, body: bytes, headers: dict[str, str]) -> HttpAnswer:
        posted = {"content-type": "application/json", **headers}
        async with self._http.stream("POST", self._address, content=body, headers=posted) as answer:
            told = bytearray()
            async for piece in answer.aiter_bytes():
                told += piece
                if len(told) > BODY_BYTES_AT_MOST:
                    raise ChannelUnavailable(self._channel, f"status {answer.status_code} with an answer without end")
            return HttpAnswer(
                status=answer.status_code,
                retry_after=answer.headers.get("retry-after", ""),
                date=answer.headers.get("date", ""),
                body=bytes(told),
            )
