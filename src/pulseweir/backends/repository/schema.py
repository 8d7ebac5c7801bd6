"""Step 14: the tables of the repository. One place says what every column means.

Instants are microseconds since 1970 UTC (``*_at``, ``*_start``, ``*_end``, ``evaluated_until``). ``*_json`` columns
hold one JSON document. No table holds a name, an address or an identifier of a patient: `patient_id` is the logical id
of a FHIR Patient.
"""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, SmallInteger, Table, Text

METADATA = MetaData()


def _text(name: str, comment: str, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=False, comment=comment, **options)


def _optional_text(name: str, comment: str) -> Column[str | None]:
    return Column(name, Text, nullable=True, comment=comment)


def _instant(name: str, comment: str, **options: Any) -> Column[int]:
    return Column(name, BigInteger, nullable=False, comment=comment, **options)


def _optional_instant(name: str, comment: str) -> Column[int | None]:
    return Column(name, BigInteger, nullable=True, comment=comment)


def _count(name: str, comment: str) -> Column[int]:
    return Column(name, Integer, nullable=False, comment=comment)


def _score_columns() -> list[Column[Any]]:
    return [
        _text("model_version", "Version of the model"),
        _count("revision", "1 for the first final, +1 each time late data changed it; 0 while preliminary"),
        _text("status", "complete, partial, insufficient-data, abstained"),
        Column("score", Float, comment="The model's number; null when data are insufficient"),
        Column("probability", Float, comment="0 to 1; null when the model gives none"),
        _optional_text("band", "low, low-medium, medium, high; null when data are insufficient"),
        Column("single_red", Boolean, nullable=False, comment="Any single parameter scored 3"),
        Column("backfill", Boolean, nullable=False, comment="Already old on arrival: shown, never an alert"),
        _text("contributions_json", "Points by parameter"),
        _text("inputs_json", "The values that were scored, with their ages"),
        _text("missing_json", "Parameters without a usable value"),
        _text("stale_json", "Parameters whose newest value is too old to be scored"),
        _instant("newest_occurred_at", "Newest device clock among the inputs"),
        _instant("newest_received_at", "Newest hub clock among the inputs"),
        _optional_text("ward", "Name of the ward"),
        _optional_text("bed", "Name of the bed"),
        Column("age_years", SmallInteger, comment="Age of the patient, years"),
        _optional_text("sex", "FHIR administrative gender"),
        Column("spo2_scale", SmallInteger, comment="NEWS2 oxygen scale, 1 or 2"),
        _instant("scored_at", "When the engine scored it"),
        _text("unknown_json", "What was not known of the patient: age, pregnancy, spo2_scale", server_default="[]"),
        _text("doubtful_json", "Parameters whose value is not the newest thing known of them", server_default="[]"),
        _optional_text("abstained", "Why the model may not score this patient; null when it may"),
        _optional_instant("sign_of_life_at", "When the newest usable reading was true; null when there is none"),
        _instant("recorded_at", "When this row was stored"),
        Column("sequence", BigInteger, nullable=False, comment="Grows with every change anywhere in the repository"),
    ]


CHANGE_COUNTER = Table(
    "change_counter",
    METADATA,
    _text("name", "Always 'changes'", primary_key=True),
    Column("value", BigInteger, nullable=False, comment="Sequence of the last committed change"),
)

SCORE = Table(
    "score",
    METADATA,
    _text("patient_id", "FHIR id of the Patient", primary_key=True),
    _text("model", "Name of the risk model", primary_key=True),
    _instant("window_start", "Start of the window", primary_key=True),
    _instant("window_end", "End of the window", primary_key=True),
    *_score_columns(),
    Column("basis_json", Text, nullable=False, comment="Ids of the Observations used"),
    Column("outside", Boolean, comment="Outside the acceptable range; null when data are insufficient"),
    _optional_text("flag_id", "The Flag episode this window belongs to, when outside"),
)
Index("score_by_flag", SCORE.c.flag_id)
Index("score_by_end", SCORE.c.window_end)
Index("score_by_patient_end", SCORE.c.patient_id, SCORE.c.model, SCORE.c.window_end)

LIVE_ROW = Table(
    "live_row",
    METADATA,
    _text("patient_id", "FHIR id of the Patient", primary_key=True),
    _text("model", "Name of the risk model", primary_key=True),
    _instant("window_start", "Start of the window"),
    _instant("window_end", "End of the window"),
    Column("preliminary", Boolean, nullable=False, comment="The window is still open"),
    *_score_columns(),
    _optional_text("care_team_id", "FHIR id of the CareTeam that must know"),
    _optional_text("care_team", "Name of that team"),
)
Index("live_row_by_sequence", LIVE_ROW.c.sequence)

FLAG = Table(
    "flag",
    METADATA,
    _text("flag_id", "FHIR id of the Flag", primary_key=True),
    _text("patient_id", "FHIR id of the Patient"),
    _text("rule", "The rule that opened it: the model's name"),
    _text("status", "active, inactive, withdrawn (its first window was revised away)"),
    _instant("start_at", "Start of the first window outside"),
    _optional_instant("end_at", "End of the window that closed it; null while active"),
    _instant("evaluated_until", "End of the last window judged"),
    _count("inside_streak", "Windows inside since the last one outside"),
    _count("windows", "Windows outside that belong to it"),
    _text("model_version", "Version of the model at the newest window outside"),
    Column("peak_score", Float, comment="Highest score"),
    _text("peak_band", "Worst band"),
    Column("last_score", Float, comment="Score of the newest window outside"),
    _text("last_band", "Band of the newest window outside"),
    _instant("first_window_end", "End of the first window outside"),
    _instant("last_window_start", "Start of the newest window outside"),
    _instant("last_window_end", "End of the newest window outside"),
    Column("backfill", Boolean, nullable=False, comment="The newest window outside was backfill"),
    _optional_text("ward", "Name of the ward"),
    _optional_text("bed", "Name of the bed"),
    _count("change", "Grows with every change of this Flag"),
    _count("change_written", "The change last written to the FHIR service; 0 for never"),
    _count("change_published", "The change last published on the bus; 0 for never"),
    _instant("updated_at", "When this row changed"),
    Column("sequence", BigInteger, nullable=False, comment="Grows with every change anywhere in the repository"),
)
Index("flag_by_patient", FLAG.c.patient_id, FLAG.c.rule, FLAG.c.start_at)
Index("flag_by_status", FLAG.c.status)
Index("flag_by_sequence", FLAG.c.sequence)
Index(
    "flag_unwritten",
    FLAG.c.sequence,
    sqlite_where=FLAG.c.change_written < FLAG.c.change,
    postgresql_where=FLAG.c.change_written < FLAG.c.change,
)
Index(
    "flag_unpublished",
    FLAG.c.sequence,
    sqlite_where=FLAG.c.change_published < FLAG.c.change,
    postgresql_where=FLAG.c.change_published < FLAG.c.change,
)

ALERT = Table(
    "alert",
    METADATA,
    _text("alert_id", "Id of the alert", primary_key=True),
    _text("patient_id", "FHIR id of the Patient"),
    _text("rule", "Rule family: one open alert a patient and family"),
    _text("flag_id", "The Flag episode behind it"),
    _count("flag_change", "The change of that Flag last seen"),
    _text("state", "raised, notified, acknowledged, in-progress, resolved, auto-cleared, rejected"),
    _text("priority", "high, medium, low; may rise, never falls"),
    _text("band", "Band of the newest window"),
    Column("score", Float, comment="Score of the newest window"),
    _text("reason", "What crossed which limit"),
    _text("action", "What to do"),
    _optional_text("ward", "Name of the ward"),
    _optional_text("bed", "Name of the bed"),
    _optional_text("care_team_id", "FHIR id of the CareTeam that must know"),
    _optional_text("care_team", "Name of that team"),
    _instant("raised_at", "When it was raised"),
    _instant("priority_since", "When it got its priority: the ladder counts from here"),
    _count("level", "Rungs of the escalation ladder already climbed"),
    _count("reminders", "Reminders sent since the last rung"),
    _optional_instant("next_step_at", "When the ladder or a reminder is due; null when none is"),
    _count("updates", "New facts since it was raised"),
    _instant("updated_at", "When it changed"),
    _optional_instant("ended_at", "When the condition ended; null while it lasts"),
    _optional_instant("acknowledged_at", "When a person first acknowledged it"),
    _optional_text("acknowledged_by", "User who did"),
    _optional_text("acknowledge_reason", "seen-going, known-expected, artefact, device-problem"),
    _optional_text("owner", "User who claimed it or was assigned"),
    _optional_instant("claimed_at", "When"),
    _optional_instant("closed_at", "When it was resolved, cleared or rejected; null while open"),
    _optional_text("outcome", "Reason given on resolve or reject"),
    Column("missed", Boolean, nullable=False, comment="Its condition ended before anyone acknowledged"),
    _optional_instant("suppressed_until", "No notification before this instant"),
    _optional_text("suppressed_reason", "Why"),
    _optional_text("suppressed_by", "Who"),
    _text("kind", "clinical, or technical: about a device", server_default="clinical"),
    _optional_text("device_id", "The device a technical alert is about"),
    _text("reds_json", "Parameters that scored 3 in the newest window; null: not kept", server_default="null"),
    Column("baseline_score", Float, comment="Score when people were last told or last acknowledged"),
    _text("baseline_reds_json", "Parameters that scored 3 then; null: not kept", server_default="null"),
    _optional_instant("paged_at", "When people were last told"),
    _optional_instant("ladder_since", "Where the ladder counts from after an escalation by hand; null: priority_since"),
    Column("suppressed_seconds", Float, nullable=False, server_default="0", comment="Suppression used so far"),
    _text("delivery", "'', waiting, delivered, seen, not-delivered: what became of its messages", server_default=""),
    _optional_instant("delivered_at", "When a person could first have seen it"),
    Column("sequence", BigInteger, nullable=False, comment="Grows with every change anywhere in the repository"),
)
Index("alert_by_patient", ALERT.c.patient_id, ALERT.c.rule)
Index("alert_by_step", ALERT.c.next_step_at)
Index("alert_by_sequence", ALERT.c.sequence)
Index("alert_by_closed", ALERT.c.closed_at)

ALERT_TRANSITION = Table(
    "alert_transition",
    METADATA,
    _text("event_id", "Deterministic id of the transition", primary_key=True),
    _text("alert_id", "The alert"),
    _text("patient_id", "FHIR id of the Patient"),
    _text("rule", "Rule family"),
    _text("transition", "What happened: raised, notified, escalated, reminded, acknowledged, claimed, …"),
    _text("state", "State of the alert afterwards"),
    _instant("occurred_at", "When"),
    _text("actor", "User, or '' for the house itself"),
    _text("detail_json", "Facts of the transition"),
    Column("sequence", BigInteger, nullable=False, comment="Grows with every change anywhere in the repository"),
    Column("published", Boolean, nullable=False, comment="Already on the bus"),
)
Index("alert_transition_by_alert", ALERT_TRANSITION.c.alert_id, ALERT_TRANSITION.c.sequence)
Index("alert_transition_by_published", ALERT_TRANSITION.c.published, ALERT_TRANSITION.c.sequence)

OUTBOX = Table(
    "outbox",
    METADATA,
    _text("entry_key", "What must leave exactly once in effect; the same key twice is one entry", primary_key=True),
    _text("kind", "notification or fhir"),
    _text("state", "waiting, sent, failed (none took it), logged (no channel set up), overtaken (answered meanwhile)"),
    _text("alert_id", "The alert it is about, or ''"),
    _text("patient_id", "FHIR id of the Patient, or ''"),
    _text("channels_json", "Channels to try, first one first"),
    _text("channel", "Channel that took it, or ''"),
    _text("body_json", "What to send"),
    _count("attempts", "Tries on the present channel"),
    _count("channel_index", "Place of the present channel in the list"),
    _instant("created_at", "When it entered"),
    _instant("due_at", "Real instant of the next try"),
    _optional_instant("sent_at", "When it left"),
    _text("last_error", "Kind of the last failure, or ''"),
    Column("sequence", BigInteger, nullable=False, comment="Order of entry"),
)
Index("outbox_by_due", OUTBOX.c.state, OUTBOX.c.kind, OUTBOX.c.due_at)
Index("outbox_by_alert", OUTBOX.c.alert_id)

CARE_TEAM = Table(
    "care_team",
    METADATA,
    _text("care_team_id", "FHIR id of the CareTeam", primary_key=True),
    _text("name", "Name of the team"),
    _text("patient_id", "Patient it cares for, or ''", primary_key=True),
    _text("ward", "Ward it cares for, or ''", primary_key=True),
    _instant("updated_at", "When it was read from the FHIR service"),
)

DEVICE_SIGNAL = Table(
    "device_signal",
    METADATA,
    _text("device_id", "The device that measures", primary_key=True),
    _text("patient_id", "FHIR id of the Patient it measures", primary_key=True),
    _text("type", "Type name of its newest reading"),
    _instant("received_at", "When that reading came"),
    _optional_instant("good_at", "When its newest good value was true; null when there is none"),
    Column("skew_seconds", Float, nullable=False, comment="How far its clock is ahead of the hub's; median, seconds"),
    _text("signals_json", "What is wrong with it: silent, frozen, impossible, clock-ahead"),
    _instant("updated_at", "When this was said"),
)
Index("device_signal_by_patient", DEVICE_SIGNAL.c.patient_id)
