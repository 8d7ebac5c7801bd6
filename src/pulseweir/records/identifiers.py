"""Deterministic identifiers: the same thing always gets the same id, so nothing counts twice. Pure."""

import hashlib
import zlib

SEPARATOR = b"\x1f"
_VERSION_DIGITS = 12


def digest(*parts: str | bytes | int) -> str:
    """64 lower-case hex digits of SHA-256 over the parts, which cannot run into each other.

    >>> digest("a", "bc") == digest("ab", "c")
    False
    """
    encoded = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    framed = SEPARATOR.join(b"%d:" % len(part) + part for part in encoded)
    return hashlib.sha256(framed).hexdigest()


def message_id(device_id: str, sender_message_id: str | None, body: bytes, received_at_microseconds: int) -> str:
    """The id of a device message.

    With the sender's own id (``$.mid``) the same message sent twice has one id. Without one, two honest equal
    bodies are two messages: the instant of arrival tells them apart.
    """
    if sender_message_id:
        return digest("message", device_id, sender_message_id)
    return digest("message", device_id, body, received_at_microseconds)


def risk_assessment_id(patient_id: str, model: str, model_version: str, window_start: int, window_end: int) -> str:
    """The FHIR id of the RiskAssessment of one window and model; instants in microseconds."""
    return digest("RiskAssessment", patient_id, model, model_version, window_start, window_end)


def score_observation_id(patient_id: str, model: str, model_version: str, window_start: int, window_end: int) -> str:
    """The FHIR id of the Observation that holds a model's score of one window."""
    return digest("ScoreObservation", patient_id, model, model_version, window_start, window_end)


def flag_id(patient_id: str, rule: str, episode_start: int) -> str:
    """The FHIR id of a Flag: one patient, one rule, one episode (its first window's start, microseconds)."""
    return digest("Flag", patient_id, rule, episode_start)


def shard_of(key: str, shard_count: int) -> int:
    """The shard a key belongs to: stable across processes, releases and machines.

    >>> shard_of("monitor-1", 8) == shard_of("monitor-1", 8)
    True
    """
    return zlib.crc32(key.encode()) % shard_count


def mapping_version(device_text: str, fhir_text: str) -> str:
    """The version of a pair: a short hash of both texts, 12 hex digits.

    >>> mapping_version("{}", "{}")
    '88d73a71539d'
    """
    return hashlib.sha256(f"{device_text}\0{fhir_text}".encode()).hexdigest()[:_VERSION_DIGITS]
