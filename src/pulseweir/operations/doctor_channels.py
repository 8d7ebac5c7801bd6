"""Does a notification reach anybody: is a channel set up that people look at, and has it taken the last messages?"""

from pulseweir.backends.repository import outbox
from pulseweir.backends.repository.rows import OutboxRow
from pulseweir.clock import Clock
from pulseweir.errors import PulseweirError
from pulseweir.operations.findings import Finding
from pulseweir.settings import Settings
from pulseweir.systems import open_repository
from pulseweir.warm_path.delivery import open_channels
from pulseweir.warm_path.message_retries import failing_channels
from pulseweir.warm_path.settings import CoordinationSettings, channels_set_up

FAILED_IN_A_ROW = 3
"""So many messages that a channel did not take, one after the other, are no chance any more."""

_LOOKED_AT = 50
_CHECK = "notification channels"
_SET_UP = (
    "Set coordination.teams_webhook_url_file, coordination.email or coordination.webhook; "
    "until then alerts are seen on screens only."
)


def examine_channels(settings: Settings) -> list[Finding]:
    """What is found out about the channels, without sending anything."""
    told = settings.coordination
    try:
        open_channels(told)
    except PulseweirError as error:
        return [Finding(_CHECK, False, "cannot be used as set up", str(error))]
    usable = channels_set_up(told)
    if not usable:
        return [Finding(_CHECK, False, "none that people look at is set up", _SET_UP)]
    findings = [*_roles(settings), *_lately(settings, usable)]
    return findings or [Finding(_CHECK, True, ", ".join(usable))]


def _roles(settings: Settings) -> list[Finding]:
    """Roles of the ladders that e-mail, where it is the only channel, has no address for."""
    told: CoordinationSettings = settings.coordination
    listed = {*told.email.recipients, *(role for ward in told.email.ward_recipients.values() for role in ward)}
    if channels_set_up(told) != ("email",) or "*" in listed:
        return []
    lacking = sorted({rung.role for ladder in settings.alerts.ladders.values() for rung in ladder} - listed)
    if not lacking:
        return []
    remedy = "Add them to coordination.email.recipients, or role * for every other."
    return [Finding(_CHECK, False, f"e-mail has no address for {', '.join(lacking)}", remedy)]


def _lately(settings: Settings, usable: tuple[str, ...]) -> list[Finding]:
    try:
        rows = _newest(settings)
    except PulseweirError as error:
        return [Finding(_CHECK, False, "the repository cannot be read", str(error))]
    failing = failing_channels(rows, usable, FAILED_IN_A_ROW)
    if not failing:
        return []
    remedy = "Check its address, its permissions and that it answers; messages wait and are tried again."
    return [Finding(_CHECK, False, f"{', '.join(failing)} took none of the last {FAILED_IN_A_ROW} messages", remedy)]


def _newest(settings: Settings) -> list[OutboxRow]:
    """The last notifications; none where no house has run yet: looking makes nothing."""
    if settings.repository.url is None and not (settings.data_dir / "repository.sqlite").exists():
        return []
    repository = open_repository(settings, Clock())
    try:
        with repository.reading() as transaction:
            return outbox.newest(transaction, outbox.NOTIFICATION, limit=_LOOKED_AT)
    finally:
        repository.close()
