"""Every metric: name, unit, step. No label ever holds a device, a patient or a value."""

from prometheus_client import Counter, Gauge, Histogram, start_http_server

_LATENCY_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 60, 300, 900)

HUB_MESSAGES_RECEIVED = Counter(
    "pulseweir_hub_messages_received_total",
    "Step 1: messages, by protocol and outcome",
    ["protocol", "outcome"],
)
HUB_CONNECTIONS = Gauge("pulseweir_hub_connections", "Step 1: open connections", ["state"])
HUB_CONNECTIONS_ENDED = Counter(
    "pulseweir_hub_connections_ended_total",
    "Step 1: connections and requests the hub ended or refused, by protocol and reason",
    ["protocol", "reason"],
)
HUB_ACKNOWLEDGE = Histogram(
    "pulseweir_hub_acknowledge_seconds",
    "Step 1: arrival to durable acknowledgement",
    buckets=_LATENCY_BUCKETS_SECONDS,
)
RAW_BYTES = Counter("pulseweir_raw_bytes_total", "Step 3: bytes appended to the raw archive")
RAW_APPEND = Histogram(
    "pulseweir_raw_append_seconds",
    "Step 3: one durable append to the raw archive",
    buckets=_LATENCY_BUCKETS_SECONDS,
)
CLOCK_SKEW = Histogram(
    "pulseweir_clock_skew_seconds",
    "Step 4: received minus measured",
    buckets=(-86400, -300, -1, 0, 1, 5, 60, 900, 3600, 14400, 86400),
)
CONNECTOR_DEVICE_EVENTS = Counter("pulseweir_connector_device_events_total", "Step 4: messages taken from the hub")
CONNECTOR_NORMALIZED = Counter("pulseweir_connector_normalized_total", "Step 4: measurements made, by type", ["type"])
CONNECTOR_UNMATCHED = Counter(
    "pulseweir_connector_unmatched_total", "Step 4: messages without a measurement", ["reason"]
)
CONNECTOR_MAPPING_CHANGES = Counter(
    "pulseweir_connector_mapping_changes_total", "Step 4: mapping versions taken over or refused", ["outcome"]
)
QUARANTINE_ITEMS = Counter(
    "pulseweir_quarantine_items_total", "All steps: rows set aside for a person", ["stage", "reason"]
)
FHIR_REQUESTS = Counter(
    "pulseweir_fhir_requests_total", "Steps 5, 7, 13: requests to the FHIR service", ["interaction", "code"]
)
FHIR_REQUEST_DURATION = Histogram(
    "pulseweir_fhir_request_duration_seconds",
    "Steps 5, 7, 13: one request",
    ["interaction"],
    buckets=_LATENCY_BUCKETS_SECONDS,
)
FHIR_BUNDLE_ENTRIES = Counter(
    "pulseweir_fhir_bundle_entries_total", "Step 5: entries sent in bundles of Observations, repeated ones too"
)
FHIR_BUNDLE_LIMIT = Gauge(
    "pulseweir_fhir_bundle_limit", "Step 5: entries a bundle may hold now, by what the service bears"
)
FHIR_BUNDLES_AT_ONCE = Gauge("pulseweir_fhir_bundles_at_once", "Step 5: bundles that may be under way now, likewise")
FHIR_BUNDLE_RETRIES = Counter(
    "pulseweir_fhir_bundle_retries_total",
    "Step 5: bundles sent again in whole or part: throttled, unanswered, failing, refused, conflict",
    ["reason"],
)
OBSERVATIONS_SAVED = Counter(
    "pulseweir_observations_saved_total",
    "Step 5: Observations created, updated, found unchanged, or closed when their period ended",
    ["outcome"],
)
FHIR_STORE_REFUSED = Counter(
    "pulseweir_fhir_store_refused_total", "Step 5: requests the embedded FHIR store turned away, by reason", ["reason"]
)
FHIR_STORE_AUDIT_EVENTS = Counter(
    "pulseweir_fhir_store_audit_events_total", "Step 5: AuditEvents of the embedded FHIR store, by outcome", ["outcome"]
)
FHIR_STORE_NOTIFICATIONS = Counter(
    "pulseweir_fhir_store_notifications_total",
    "Step 5: notifications of Subscriptions of the embedded FHIR store, by outcome",
    ["outcome"],
)
BUS_CONSUMER_LAG = Gauge(
    "pulseweir_bus_consumer_lag_messages", "All steps: rows published and not committed", ["topic", "group"]
)
WORKER_RETRIES = Counter("pulseweir_worker_retries_total", "All steps: reads handed back to be tried again", ["group"])
LATE_EVENTS = Counter("pulseweir_late_events_total", "Step 10: measurements behind their watermark", ["action"])
WINDOWS_OPEN = Gauge("pulseweir_windows_open", "Step 10: patients whose newest window has not closed")
SCORE_WINDOWS = Counter(
    "pulseweir_score_windows_total", "Step 10: windows scored, by model and outcome", ["model", "outcome"]
)
SCORE_DURATION = Histogram(
    "pulseweir_score_duration_seconds", "Step 10: one call of a model", buckets=_LATENCY_BUCKETS_SECONDS
)
DEVICE_SIGNALS = Counter(
    "pulseweir_device_signals_total", "Step 10: technical signals of devices, by what happened", ["type", "action"]
)
RISK_FLAGS_OPEN = Gauge("pulseweir_risk_flags_open", "Step 13: Flags open now", ["severity"])
ALERT_ACKNOWLEDGE = Histogram(
    "pulseweir_alert_ack_seconds",
    "Step 18: raised to acknowledged",
    ["priority"],
    buckets=(1, 5, 15, 60, 180, 300, 900, 3600),
)
ALERT_UNACKNOWLEDGED = Gauge("pulseweir_alert_unacked", "Step 18: open alerts nobody has acknowledged", ["priority"])
NOTIFY_DELIVERIES = Counter(
    "pulseweir_notify_deliveries_total", "Step 18: notifications, by channel and state", ["channel", "state"]
)
END_TO_END = Histogram(
    "pulseweir_end_to_end_seconds",
    "Measured at the device to this stage",
    ["stage"],
    buckets=_LATENCY_BUCKETS_SECONDS,
)
CONSERVATION_DIFFERENCE = Gauge("pulseweir_conservation_difference", "All steps: rows unaccounted for; must be 0")
BUILD_INFO = Gauge("pulseweir_build_info", "The release that runs", ["version"])


def serve_metrics(port: int) -> int:
    """Serve every metric at ``/metrics`` on loopback; returns the port (a free one for 0)."""
    server, _ = start_http_server(port, addr="127.0.0.1")
    return int(server.server_port)
