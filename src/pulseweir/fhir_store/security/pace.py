"""How many requests one client may send in a second. Pure."""

import math
from dataclasses import dataclass, field

from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.security.caller import Caller

_REMEMBERED = 10_000


@dataclass(slots=True)
class Pace:
    """What each client has left; a second's worth may come at once.

    Attributes:
        per_second: Requests a second.
    """

    per_second: float
    _left: dict[tuple[str, str, str | None], tuple[float, float]] = field(default_factory=dict)

    def check(self, caller: Caller, now: float) -> None:
        """Nothing, if the caller may send a request now, which then counts.

        Args:
            caller: Who sends it; the house sends as many as it likes.
            now: Seconds of a clock that never goes back.

        Raises:
            Refusal: 429 with the seconds to wait.
        """
        if caller.is_house:
            return
        most = max(1.0, self.per_second)
        left, since = self._left.get(caller.identity, (most, now))
        left = min(most, left + (now - since) * self.per_second)
        if left < 1:
            seconds = max(1, math.ceil((1 - left) / self.per_second))
            text = "This client sends too many requests; send fewer in a second."
            raise Refusal(429, "throttled", text, headers={"retry-after": str(seconds)})
        if len(self._left) >= _REMEMBERED:
            self._left.clear()
        self._left[caller.identity] = (left - 1, now)
