"""Step 1: who may come in: the registry and the token together."""

from dataclasses import dataclass
from time import monotonic

import structlog

from pulseweir.clock import real_microseconds
from pulseweir.errors import DeviceRefused
from pulseweir.ingest.hub.registry import Device, Registry
from pulseweir.ingest.hub.sas import TokenRules, verify
from pulseweir.ingest.hub.settings import HubSettings
from pulseweir.telemetry import HUB_CONNECTIONS_ENDED

_WARN_AGAIN_SECONDS = 60.0
_ORDINARY = frozenset({"disconnect", "timeout", "superseded"})


@dataclass(frozen=True, slots=True)
class Admission:
    """A device that was let in, by which key, and until when."""

    device: Device
    key: str
    expires_unix: int


class Gate:
    """Admits devices by their tokens. Tokens live in real time, whatever the clock of the house shows."""

    def __init__(self, registry: Registry, settings: HubSettings) -> None:
        self._registry = registry
        self.host_names = frozenset(name.lower() for name in settings.host_names)
        self._rules = TokenRules(self.host_names, settings.token_skew_seconds, settings.longest_token_seconds)

    def admit(self, device_id: str, token: str, resource: str) -> Admission:
        """Let a device in to a resource such as ``devices/monitor-1``.

        Raises:
            DeviceRefused: ``unknown-device``, ``disabled-device`` (only told to who holds a key), or as `sas.verify`.
        """
        device = self._registry.get(device_id)
        full_resource = f"{min(self.host_names)}/{resource}"
        try:
            parsed, slot = verify(token, full_resource, device.keys if device else (), self._rules, _now_unix())
        except DeviceRefused as refusal:
            if device is None and refusal.reason == "wrong-key":
                raise DeviceRefused("unknown-device", "Register it: pulseweir device add ID --kind KIND.") from None
            raise
        if device is None:
            raise DeviceRefused("unknown-device", "Register it: pulseweir device add ID --kind KIND.")
        if not device.enabled:
            raise DeviceRefused("disabled-device", "An operator disabled it: pulseweir device enable ID.")
        return Admission(device, device.keys[slot], parsed.expires_unix + self._rules.skew_seconds)

    def refresh(self) -> None:
        """Take in what operators changed in the registry."""
        self._registry.refresh()

    def objection(self, admission: Admission) -> str | None:
        """Why an admitted device may no longer stay, as of the registry's last refresh; None while it may."""
        if _now_unix() > admission.expires_unix:
            return "expired-token"
        device = self._registry.known(admission.device.device_id)
        if device is None or not device.enabled:
            return "disabled-device"
        if device.kind != admission.device.kind:
            return "kind-changed"
        return None if admission.key in device.keys else "key-replaced"


class Refusals:
    """Counts why connections and requests ended, and warns once a minute for each reason that needs a person."""

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._warned: dict[str, float] = {}

    def note(self, reason: str) -> None:
        """One more for this reason."""
        HUB_CONNECTIONS_ENDED.labels(self._protocol, reason).inc()
        now = monotonic()
        if reason in _ORDINARY or now - self._warned.get(reason, float("-inf")) < _WARN_AGAIN_SECONDS:
            return
        self._warned[reason] = now
        structlog.get_logger().warning("sender-refused", protocol=self._protocol, reason=reason)


def _now_unix() -> float:
    return real_microseconds() / 1_000_000
