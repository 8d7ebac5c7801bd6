"""A screen without eyes: signs in, follows the live events, and measures how old what arrives is."""

import asyncio
import re

import httpx
import msgspec
import structlog

from pulseweir.clock import Clock

_MICROSECONDS = 1_000_000
_FIELD = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')
_AGAIN_SECONDS = 1.0


class ScreenClient:
    """Follows ``/events`` as a browser would.

    Attributes:
        seconds: Of every live row that moved: measured at the device to received here, real seconds.
    """

    def __init__(self, base_url: str, name: str, password: str, clock: Clock) -> None:
        self.seconds: list[float] = []
        self._http = httpx.AsyncClient(base_url=base_url, timeout=httpx.Timeout(10, read=None), follow_redirects=False)
        self._name = name
        self._password = password
        self._clock = clock
        self._newest: dict[str, int] = {}

    async def follow(self) -> None:
        """Measure until cancelled; a lost connection is taken up again."""
        while True:
            try:
                await self._sign_in()
                await self._listen()
            except httpx.HTTPError as error:
                structlog.get_logger().warning("screen_lost_connection", error=type(error).__name__)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._http.aclose()

    async def _sign_in(self) -> None:
        form = await self._http.get("/sign-in")
        found = _FIELD.search(form.text)
        fields = {"name": self._name, "password": self._password, "csrf_token": found[1] if found else ""}
        answer = await self._http.post(
            "/sign-in", data=fields, headers={"origin": str(self._http.base_url).rstrip("/")}
        )
        if answer.status_code != httpx.codes.SEE_OTHER:
            raise httpx.HTTPStatusError("the sign-in was refused", request=answer.request, response=answer)

    async def _listen(self) -> None:
        async with self._http.stream("GET", "/events", headers={"accept": "text/event-stream"}) as stream:
            stream.raise_for_status()
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    self._note(line.removeprefix("data:"))

    def _note(self, text: str) -> None:
        event = msgspec.json.decode(text)
        now = self._clock.now_microseconds()
        for row in event.get("rows", ()) if isinstance(event, dict) else ():
            patient, measured = row["patient_id"], row["newest_occurred_at"]
            is_first = patient not in self._newest
            if measured > self._newest.get(patient, 0):
                self._newest[patient] = measured
                # The first row of a patient is the state found on connecting, not something that just happened.
                if not is_first:
                    self.seconds.append((now - measured) / _MICROSECONDS / self._clock.speed)
