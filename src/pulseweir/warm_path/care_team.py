"""Step 17: what the care team sees and does: worklists and commands, within the wards of the person who asks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pulseweir.backends.repository import Repository, Transaction, alerts, people
from pulseweir.backends.repository.alerts import Tab
from pulseweir.backends.repository.rows import AlertRow, TransitionRow
from pulseweir.errors import AlertCommandRefused
from pulseweir.telemetry import ALERT_ACKNOWLEDGE
from pulseweir.warm_path import alert_commands, audit
from pulseweir.warm_path.alert_round import may_own
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.alert_store import store, to_alert
from pulseweir.warm_path.alerts import Alert, Step
from pulseweir.warm_path.care_resources import task_id
from pulseweir.warm_path.settings import NoticeSettings

_SECOND = 1_000_000

Deed = Callable[[Alert, int], Step | None]


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks.

    Attributes:
        user_name: Sign-in name.
        wards: Wards in scope; None for all.
    """

    user_name: str
    wards: frozenset[str] | None = None


class CareTeamDesk:
    """Worklists and commands on alerts.

    Every command stores the alert, its history, its Task and the AuditEvent together, or nothing. Doing the same
    twice is harmless: a second acknowledgement changes nothing.
    """

    def __init__(self, repository: Repository, settings: AlertSettings, notices: NoticeSettings) -> None:
        self._repository = repository
        self._settings = settings
        self._notices = notices

    @property
    def settings(self) -> AlertSettings:
        """How long things last, for the words about them."""
        return self._settings

    @property
    def acknowledge_reasons(self) -> Sequence[str]:
        """What the acknowledge button offers, one tap each."""
        return self._settings.acknowledge_reasons

    async def worklist(self, person: Person, tab: Tab = "unit") -> list[AlertRow]:
        """One list, of the person's wards, most urgent first."""
        return await self._repository.read(alerts.worklist, tab, wards=person.wards, user_name=person.user_name)

    async def alert(self, person: Person, alert_id: str) -> tuple[AlertRow, list[TransitionRow]]:
        """One alert and what happened to it, oldest first. Looking is logged.

        Raises:
            AlertCommandRefused: There is no such alert in the person's wards.
        """
        return await self._repository.write(self._look, person, alert_id)

    async def acknowledge(self, person: Person, alert_id: str, reason: str) -> AlertRow:
        """The person has seen it; `reason` is one of `acknowledge_reasons`."""
        before = await self._repository.read(alerts.alert, alert_id)
        row = await self._do(
            person,
            alert_id,
            "acknowledge",
            lambda alert, now: alert_commands.acknowledge(alert, person.user_name, reason, now, self._settings),
        )
        if before is not None and before.acknowledged_at is None and row.acknowledged_at is not None:
            ALERT_ACKNOWLEDGE.labels(row.priority).observe((row.acknowledged_at - row.raised_at) / _SECOND)
        return row

    async def claim(self, person: Person, alert_id: str) -> AlertRow:
        """The person takes it over."""
        return await self._do(
            person,
            alert_id,
            "claim",
            lambda alert, now: alert_commands.claim(alert, person.user_name, now, self._settings),
        )

    async def assign(self, person: Person, alert_id: str, owner: str) -> AlertRow:
        """The person gives it to somebody, who has it to take: giving is no acknowledgement.

        Raises:
            AlertCommandRefused: `owner` is no enabled account that acts on patients of the alert's ward.
        """
        return await self._repository.write(self._assign, person, alert_id, owner)

    async def escalate(self, person: Person, alert_id: str) -> AlertRow:
        """The person asks for the next rung of the ladder now."""
        return await self._do(
            person,
            alert_id,
            "escalate",
            lambda alert, now: alert_commands.escalate(alert, person.user_name, now, self._settings),
        )

    async def add_note(self, person: Person, alert_id: str, text: str) -> AlertRow:
        """The person writes something down."""
        return await self._do(
            person, alert_id, "note", lambda alert, now: alert_commands.add_note(alert, text, person.user_name, now)
        )

    async def resolve(self, person: Person, alert_id: str, reason: str) -> AlertRow:
        """The person closes it, with what came of it."""
        return await self._do(
            person, alert_id, "resolve", lambda alert, now: alert_commands.resolve(alert, reason, person.user_name, now)
        )

    async def reject(self, person: Person, alert_id: str, reason: str) -> AlertRow:
        """The person closes it because it should not have been raised."""
        return await self._do(
            person,
            alert_id,
            "reject",
            lambda alert, now: alert_commands.resolve(alert, reason, person.user_name, now, rejected=True),
        )

    async def suppress(self, person: Person, alert_id: str, seconds: float, reason: str) -> AlertRow:
        """The person holds its messages back for a while; it stays visible."""
        return await self._do(
            person,
            alert_id,
            "suppress",
            lambda alert, now: alert_commands.suppress(alert, seconds, reason, person.user_name, now, self._settings),
        )

    async def _do(self, person: Person, alert_id: str, command: str, deed: Deed) -> AlertRow:
        return await self._repository.write(self._command, person, alert_id, command, deed)

    def _command(self, transaction: Transaction, person: Person, alert_id: str, command: str, deed: Deed) -> AlertRow:
        row = _in_scope(transaction, person, alert_id, command)
        now = self._repository.clock.now_microseconds()
        step = deed(to_alert(row), now)
        if step is None:
            return row
        saved = store(transaction, step, self._notices)
        _log(transaction, person, saved, command, now)
        return saved

    def _assign(self, transaction: Transaction, person: Person, alert_id: str, owner: str) -> AlertRow:
        row = _in_scope(transaction, person, alert_id, "assign")
        if owner != person.user_name and not may_own(people.user(transaction, owner), row.ward):
            cause = (
                "give it to an account that is enabled, acts on patients (nurse, clinician, charge-nurse) and works "
                "in the ward of the alert."
            )
            raise AlertCommandRefused(alert_id, "assign", cause)

        def give(alert: Alert, now: int) -> Step:
            return alert_commands.assign(alert, owner, person.user_name, now, self._settings)

        return self._command(transaction, person, alert_id, "assign", give)

    def _look(self, transaction: Transaction, person: Person, alert_id: str) -> tuple[AlertRow, list[TransitionRow]]:
        row = _in_scope(transaction, person, alert_id, "read")
        _log(transaction, person, row, "read", self._repository.clock.now_microseconds())
        return row, alerts.transitions(transaction, [alert_id])[alert_id]


def _in_scope(transaction: Transaction, person: Person, alert_id: str, command: str) -> AlertRow:
    row = alerts.alert(transaction, alert_id)
    if row is None or (person.wards is not None and row.ward not in person.wards):
        raise AlertCommandRefused(alert_id, command, "there is no such alert in your wards.")
    return row


def _log(transaction: Transaction, person: Person, row: AlertRow, command: str, now: int) -> None:
    audit.record(
        transaction,
        actor=person.user_name,
        action=command,
        now=now,
        patient_id=row.patient_id,
        subject=f"Task/{task_id(row.alert_id)}",
        detail={"alert_id": row.alert_id, "state": row.state},
    )
