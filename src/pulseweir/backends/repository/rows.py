"""Step 14: the rows the repository gives and takes, as records. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What `ScoreRow` and `LiveRow` share; columns are described in `schema`."""

    patient_id: str
    model: str
    window_start: int
    window_end: int
    model_version: str
    revision: int
    status: str
    score: float | None
    probability: float | None
    band: str | None
    single_red: bool
    backfill: bool
    contributions_json: str
    inputs_json: str
    missing_json: str
    stale_json: str
    newest_occurred_at: int
    newest_received_at: int
    ward: str | None
    bed: str | None
    age_years: int | None
    sex: str | None
    spo2_scale: int | None
    scored_at: int
    unknown_json: str = "[]"
    doubtful_json: str = "[]"
    abstained: str | None = None
    sign_of_life_at: int | None = None
    recorded_at: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow(Scored):
    """The last revision of one final window."""

    basis_json: str = "[]"
    outside: bool | None = None
    flag_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRow(Scored):
    """The newest state of one patient under one model."""

    preliminary: bool
    care_team_id: str | None = None
    care_team: str | None = None

    @property
    def order(self) -> tuple[int, int, bool, int, int]:
        """Which of two rows of one patient and model is newer: the greater."""
        return (self.window_end, self.newest_occurred_at, not self.preliminary, self.revision, self.scored_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePoint:
    """One final window as a point of a timeline."""

    patient_id: str
    window_end: int
    score: float | None
    band: str | None
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedWindow:
    """Which revision of a window is stored, and the Flag it is linked to."""

    patient_id: str
    model: str
    window_start: int
    window_end: int
    model_version: str
    revision: int
    scored_at: int
    flag_id: str | None
    status: str
    missing_json: str
    doubtful_json: str
    unknown_json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRow:
    """What judging a final window needs, and the Flag it is linked to."""

    window_start: int
    window_end: int
    outside: bool | None
    score: float | None
    band: str | None
    model_version: str
    backfill: bool
    ward: str | None
    bed: str | None
    flag_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagRow:
    """One Flag episode."""

    flag_id: str
    patient_id: str
    rule: str
    status: str
    start_at: int
    end_at: int | None
    evaluated_until: int
    inside_streak: int
    windows: int
    model_version: str
    peak_score: float | None
    peak_band: str
    last_score: float | None
    last_band: str
    first_window_end: int
    last_window_start: int
    last_window_end: int
    backfill: bool
    ward: str | None
    bed: str | None
    change: int = 0
    change_written: int = 0
    change_published: int = 0
    updated_at: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One alert."""

    alert_id: str
    patient_id: str
    rule: str
    flag_id: str
    flag_change: int = 0
    state: str
    priority: str
    band: str
    score: float | None
    reason: str
    action: str
    ward: str | None
    bed: str | None
    care_team_id: str | None
    care_team: str | None
    raised_at: int
    priority_since: int
    level: int
    reminders: int
    next_step_at: int | None
    updates: int
    updated_at: int
    ended_at: int | None
    acknowledged_at: int | None
    acknowledged_by: str | None
    acknowledge_reason: str | None
    owner: str | None
    claimed_at: int | None
    closed_at: int | None
    outcome: str | None
    missed: bool
    suppressed_until: int | None
    suppressed_reason: str | None
    suppressed_by: str | None
    kind: str = "clinical"
    device_id: str | None = None
    reds_json: str = "[]"
    baseline_score: float | None = None
    baseline_reds_json: str = "[]"
    paged_at: int | None = None
    ladder_since: int | None = None
    suppressed_seconds: float = 0.0
    delivery: str = ""
    delivered_at: int | None = None
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionRow:
    """One thing that happened to an alert."""

    event_id: str
    alert_id: str
    patient_id: str
    rule: str
    transition: str
    state: str
    occurred_at: int
    actor: str
    detail_json: str
    sequence: int = 0
    published: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One thing that must leave: a notification, or a write to the FHIR service."""

    entry_key: str
    kind: str
    alert_id: str
    patient_id: str
    channels_json: str
    body_json: str
    created_at: int
    due_at: int
    state: str = "waiting"
    channel: str = ""
    attempts: int = 0
    channel_index: int = 0
    sent_at: int | None = None
    last_error: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CareTeamRow:
    """A team, and the one patient or ward it cares for."""

    care_team_id: str
    name: str
    patient_id: str
    ward: str
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """A person who may sign in; `wards_json` is ``null`` for all wards."""

    user_name: str
    password_hash: str
    role: str
    wards_json: str
    created_at: int
    failed_attempts: int = 0
    locked_until: int | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A signed-in browser; instants are real ones."""

    session_hash: str
    user_name: str
    csrf_token: str
    created_at: int
    last_seen_at: int
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One act of a person; rows form a hash chain."""

    number: int
    occurred_at: int
    actor: str
    action: str
    patient_id: str
    subject: str
    detail_json: str
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WardSummaryRow:
    """One line of the ward report."""

    ward: str
    patients: int
    high: int
    medium: int
    low_medium: int
    low: int
    insufficient: int
    flags_open: int
    alerts_open: int
    alerts_unacknowledged: int
    oldest_unacknowledged_at: int | None
    refreshed_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertBurdenRow:
    """One line of the alert-burden report: a ward, a rule, a day."""

    ward: str
    rule: str
    day_start: int
    alerts: int
    patient_days: float
    alerts_per_patient_day: float | None
    acknowledged: int
    acted_on: int
    rejected: int
    missed: int
    escalated: int
    median_acknowledge_seconds: float | None
    p90_acknowledge_seconds: float | None
    refreshed_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRow:
    """One run of the report refresh."""

    number: int
    cause: str
    requested_by: str
    started_at: int
    finished_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSignalRow:
    """What is known of a device's readings at one patient."""

    device_id: str
    patient_id: str
    type: str
    received_at: int
    good_at: int | None
    skew_seconds: float
    signals_json: str
    updated_at: int
