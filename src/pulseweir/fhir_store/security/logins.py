"""Failed logins as AuditEvents, so many a minute at most: whoever sends nonsense must not fill the disk with it."""

from dataclasses import dataclass

from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.security.audit_trail import AuditTrail
from pulseweir.fhir_store.security.other_events import failed_login

_A_MINUTE = 30
_SECONDS = 60.0


@dataclass(slots=True)
class FailedLogins:
    """What is told of failed logins.

    Attributes:
        trail: Where they are written down.
    """

    trail: AuditTrail
    _minute: float = -1e9
    _told: int = 0
    _left_out: int = 0

    def note(self, address: str, reason: str, now: float) -> None:
        """Write a failed login down, or count it for the next one that is.

        Args:
            address: Network address it came from.
            reason: What was wrong; nothing of what was sent.
            now: Seconds of a clock that never goes back.
        """
        if now - self._minute >= _SECONDS:
            self._minute, self._told = now, 0
        if self._told >= _A_MINUTE:
            self._left_out += 1
            return
        left_out, self._left_out, self._told = self._left_out, 0, self._told + 1

        def make(previous: str, recorded: int) -> Json:
            return failed_login(address, reason, left_out, recorded=recorded, previous=previous)

        self.trail.post_event(make)
