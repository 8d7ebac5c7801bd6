"""Steps 16-18: the tables about users, what they did, and the reports. Continues `schema`."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, Table, Text

from pulseweir.backends.repository.schema import METADATA

USER_ACCOUNT = Table(
    "user_account",
    METADATA,
    Column("user_name", Text, primary_key=True, comment="Sign-in name"),
    Column("password_hash", Text, nullable=False, comment="Argon2 hash text"),
    Column("role", Text, nullable=False, comment="nurse, clinician, charge-nurse, auditor, ops, …"),
    Column("wards_json", Text, nullable=False, comment="Names of the wards in scope; null for all wards"),
    Column("failed_attempts", Integer, nullable=False, comment="Wrong passwords since the last right one"),
    Column("locked_until", BigInteger, comment="No sign-in before this real instant"),
    Column("disabled", Boolean, nullable=False, comment="May not sign in"),
    Column("created_at", BigInteger, nullable=False, comment="When"),
)

SESSION = Table(
    "session",
    METADATA,
    Column("session_hash", Text, primary_key=True, comment="SHA-256 of the session token"),
    Column("user_name", Text, nullable=False, comment="Whose"),
    Column("csrf_token", Text, nullable=False, comment="Must come back with every form"),
    Column("created_at", BigInteger, nullable=False, comment="Real instant"),
    Column("last_seen_at", BigInteger, nullable=False, comment="Real instant"),
    Column("expires_at", BigInteger, nullable=False, comment="Real instant"),
)
Index("session_by_expiry", SESSION.c.expires_at)

AUDIT_LOG = Table(
    "audit_log",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3, … without gaps"),
    Column("occurred_at", BigInteger, nullable=False, comment="When"),
    Column("actor", Text, nullable=False, comment="User"),
    Column("action", Text, nullable=False, comment="read, acknowledge, claim, sign-in, …"),
    Column("patient_id", Text, nullable=False, comment="Whose data, or ''"),
    Column("subject", Text, nullable=False, comment="What it was done to, or ''"),
    Column("detail_json", Text, nullable=False, comment="Facts"),
    Column("previous_hash", Text, nullable=False, comment="`hash` of the row before"),
    Column("hash", Text, nullable=False, comment="SHA-256 over this row and `previous_hash`"),
)

LATENCY_SAMPLE = Table(
    "latency_sample",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False, comment="Grows"),
    Column("stage", Text, nullable=False, comment="recorded"),
    Column("seconds", Float, nullable=False, comment="Measured at the device to this stage, real seconds"),
)

WARD_SUMMARY = Table(
    "ward_summary",
    METADATA,
    Column("ward", Text, primary_key=True, comment="Name of the ward, '' for none"),
    Column("patients", Integer, nullable=False, comment="Patients with a live row"),
    Column("high", Integer, nullable=False, comment="Patients in this band"),
    Column("medium", Integer, nullable=False, comment="Patients in this band"),
    Column("low_medium", Integer, nullable=False, comment="Patients in this band"),
    Column("low", Integer, nullable=False, comment="Patients in this band"),
    Column("insufficient", Integer, nullable=False, comment="Patients without enough data"),
    Column("flags_open", Integer, nullable=False, comment="Flags active"),
    Column("alerts_open", Integer, nullable=False, comment="Alerts not closed"),
    Column("alerts_unacknowledged", Integer, nullable=False, comment="Open alerts nobody acknowledged"),
    Column("oldest_unacknowledged_at", BigInteger, comment="When the oldest of them was raised"),
    Column("refreshed_at", BigInteger, nullable=False, comment="When this report was made"),
)

ALERT_BURDEN = Table(
    "alert_burden",
    METADATA,
    Column("ward", Text, primary_key=True, comment="Name of the ward, '' for none"),
    Column("rule", Text, primary_key=True, comment="Rule family"),
    Column("day_start", BigInteger, primary_key=True, comment="UTC midnight"),
    Column("alerts", Integer, nullable=False, comment="Alerts raised that day"),
    Column("patient_days", Float, nullable=False, comment="Patients scored that day"),
    Column("alerts_per_patient_day", Float, comment="Null without patients"),
    Column("acknowledged", Integer, nullable=False, comment="Of those, acknowledged"),
    Column("acted_on", Integer, nullable=False, comment="Of those, worked on or resolved"),
    Column("rejected", Integer, nullable=False, comment="Of those, rejected (artefact, device problem, …)"),
    Column("missed", Integer, nullable=False, comment="Ended before anyone acknowledged"),
    Column("escalated", Integer, nullable=False, comment="Climbed above the first rung"),
    Column("median_acknowledge_seconds", Float, comment="Raised to acknowledged"),
    Column("p90_acknowledge_seconds", Float, comment="Raised to acknowledged"),
    Column("refreshed_at", BigInteger, nullable=False, comment="When this report was made"),
)

REFRESH_RUN = Table(
    "refresh_run",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3, …"),
    Column("cause", Text, nullable=False, comment="schedule or manual"),
    Column("requested_by", Text, nullable=False, comment="User, or '' for the schedule"),
    Column("started_at", BigInteger, nullable=False, comment="When"),
    Column("finished_at", BigInteger, nullable=False, comment="When"),
)
