"""Scores, live rows, Flags, alerts, the outbox, and the views for reports.

`pulseweir.backends.repository.schema` says what the columns mean; a test compares the two.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TABLES = (
    "score",
    "outbox",
    "live_row",
    "flag",
    "change_counter",
    "care_team",
    "alert_transition",
    "alert",
)
VIEWS = {
    "fact_score": """
        SELECT patient_id, model, model_version, ward, window_start, window_end, revision, status, score, probability,
               band, outside, backfill, flag_id, (recorded_at - newest_occurred_at) / 1000000.0 AS latency_seconds
        FROM score""",
    "fact_alert": """
        SELECT alert_id, patient_id, rule, ward, priority, state, raised_at, acknowledged_at, closed_at, outcome,
               missed, level, updates, (acknowledged_at - raised_at) / 1000000.0 AS acknowledge_seconds
        FROM alert""",
    "v_hot_board": """
        SELECT live_row.ward, live_row.bed, live_row.patient_id, live_row.model, live_row.status, live_row.score,
               live_row.band, live_row.preliminary, live_row.newest_occurred_at, live_row.recorded_at,
               live_row.care_team,
               (SELECT count(*) FROM flag
                WHERE flag.patient_id = live_row.patient_id AND flag.status = 'active') AS flags_open,
               (SELECT count(*) FROM alert
                WHERE alert.patient_id = live_row.patient_id AND alert.closed_at IS NULL) AS alerts_open
        FROM live_row""",
}


def upgrade() -> None:
    """Make the tables."""
    _alert()
    _alert_transition()
    _care_team()
    _change_counter()
    _flag()
    _live_row()
    _outbox()
    _score()
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    """Drop them."""
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    for name in TABLES:
        op.drop_table(name)


def _alert() -> None:
    op.create_table(
        "alert",
        sa.Column("alert_id", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("flag_id", sa.Text(), nullable=False),
        sa.Column("flag_change", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.Text(), nullable=False),
        sa.Column("band", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("ward", sa.Text(), nullable=True),
        sa.Column("bed", sa.Text(), nullable=True),
        sa.Column("care_team_id", sa.Text(), nullable=True),
        sa.Column("care_team", sa.Text(), nullable=True),
        sa.Column("raised_at", sa.BigInteger(), nullable=False),
        sa.Column("priority_since", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("reminders", sa.Integer(), nullable=False),
        sa.Column("next_step_at", sa.BigInteger(), nullable=True),
        sa.Column("updates", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_at", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("acknowledge_reason", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("claimed_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("missed", sa.Boolean(), nullable=False),
        sa.Column("suppressed_until", sa.BigInteger(), nullable=True),
        sa.Column("suppressed_reason", sa.Text(), nullable=True),
        sa.Column("suppressed_by", sa.Text(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alert_id"),
    )
    op.create_index("alert_by_closed", "alert", ["closed_at"], unique=False)
    op.create_index("alert_by_patient", "alert", ["patient_id", "rule"], unique=False)
    op.create_index("alert_by_sequence", "alert", ["sequence"], unique=False)
    op.create_index("alert_by_step", "alert", ["next_step_at"], unique=False)


def _alert_transition() -> None:
    op.create_table(
        "alert_transition",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("alert_id", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("transition", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("detail_json", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("published", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("alert_transition_by_alert", "alert_transition", ["alert_id", "sequence"], unique=False)
    op.create_index("alert_transition_by_published", "alert_transition", ["published", "sequence"], unique=False)


def _care_team() -> None:
    op.create_table(
        "care_team",
        sa.Column("care_team_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("ward", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("care_team_id", "patient_id", "ward"),
    )


def _change_counter() -> None:
    op.create_table(
        "change_counter",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _flag() -> None:
    op.create_table(
        "flag",
        sa.Column("flag_id", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("start_at", sa.BigInteger(), nullable=False),
        sa.Column("end_at", sa.BigInteger(), nullable=True),
        sa.Column("evaluated_until", sa.BigInteger(), nullable=False),
        sa.Column("inside_streak", sa.Integer(), nullable=False),
        sa.Column("windows", sa.Integer(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("peak_score", sa.Float(), nullable=True),
        sa.Column("peak_band", sa.Text(), nullable=False),
        sa.Column("last_score", sa.Float(), nullable=True),
        sa.Column("last_band", sa.Text(), nullable=False),
        sa.Column("first_window_end", sa.BigInteger(), nullable=False),
        sa.Column("last_window_start", sa.BigInteger(), nullable=False),
        sa.Column("last_window_end", sa.BigInteger(), nullable=False),
        sa.Column("backfill", sa.Boolean(), nullable=False),
        sa.Column("ward", sa.Text(), nullable=True),
        sa.Column("bed", sa.Text(), nullable=True),
        sa.Column("change", sa.Integer(), nullable=False),
        sa.Column("change_written", sa.Integer(), nullable=False),
        sa.Column("change_published", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("flag_id"),
    )
    op.create_index("flag_by_patient", "flag", ["patient_id", "rule", "start_at"], unique=False)
    op.create_index("flag_by_sequence", "flag", ["sequence"], unique=False)
    op.create_index("flag_by_status", "flag", ["status"], unique=False)
    op.create_index(
        "flag_unpublished",
        "flag",
        ["sequence"],
        unique=False,
        sqlite_where=sa.text("change_published < change"),
        postgresql_where=sa.text("change_published < change"),
    )
    op.create_index(
        "flag_unwritten",
        "flag",
        ["sequence"],
        unique=False,
        sqlite_where=sa.text("change_written < change"),
        postgresql_where=sa.text("change_written < change"),
    )


def _live_row() -> None:
    op.create_table(
        "live_row",
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("window_start", sa.BigInteger(), nullable=False),
        sa.Column("window_end", sa.BigInteger(), nullable=False),
        sa.Column("preliminary", sa.Boolean(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("band", sa.Text(), nullable=True),
        sa.Column("single_red", sa.Boolean(), nullable=False),
        sa.Column("backfill", sa.Boolean(), nullable=False),
        sa.Column("contributions_json", sa.Text(), nullable=False),
        sa.Column("inputs_json", sa.Text(), nullable=False),
        sa.Column("missing_json", sa.Text(), nullable=False),
        sa.Column("stale_json", sa.Text(), nullable=False),
        sa.Column("newest_occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("newest_received_at", sa.BigInteger(), nullable=False),
        sa.Column("ward", sa.Text(), nullable=True),
        sa.Column("bed", sa.Text(), nullable=True),
        sa.Column("age_years", sa.SmallInteger(), nullable=True),
        sa.Column("sex", sa.Text(), nullable=True),
        sa.Column("spo2_scale", sa.SmallInteger(), nullable=True),
        sa.Column("scored_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("care_team_id", sa.Text(), nullable=True),
        sa.Column("care_team", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("patient_id", "model"),
    )
    op.create_index("live_row_by_sequence", "live_row", ["sequence"], unique=False)


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("entry_key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("alert_id", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("channels_json", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("body_json", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("channel_index", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("entry_key"),
    )
    op.create_index("outbox_by_alert", "outbox", ["alert_id"], unique=False)
    op.create_index("outbox_by_due", "outbox", ["state", "kind", "due_at"], unique=False)


def _score() -> None:
    op.create_table(
        "score",
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("window_start", sa.BigInteger(), nullable=False),
        sa.Column("window_end", sa.BigInteger(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("band", sa.Text(), nullable=True),
        sa.Column("single_red", sa.Boolean(), nullable=False),
        sa.Column("backfill", sa.Boolean(), nullable=False),
        sa.Column("contributions_json", sa.Text(), nullable=False),
        sa.Column("inputs_json", sa.Text(), nullable=False),
        sa.Column("missing_json", sa.Text(), nullable=False),
        sa.Column("stale_json", sa.Text(), nullable=False),
        sa.Column("newest_occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("newest_received_at", sa.BigInteger(), nullable=False),
        sa.Column("ward", sa.Text(), nullable=True),
        sa.Column("bed", sa.Text(), nullable=True),
        sa.Column("age_years", sa.SmallInteger(), nullable=True),
        sa.Column("sex", sa.Text(), nullable=True),
        sa.Column("spo2_scale", sa.SmallInteger(), nullable=True),
        sa.Column("scored_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("basis_json", sa.Text(), nullable=False),
        sa.Column("outside", sa.Boolean(), nullable=True),
        sa.Column("flag_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("patient_id", "model", "window_start", "window_end"),
    )
    op.create_index("score_by_end", "score", ["window_end"], unique=False)
    op.create_index("score_by_flag", "score", ["flag_id"], unique=False)
    op.create_index("score_by_patient_end", "score", ["patient_id", "model", "window_end"], unique=False)
