"""The topics that Subscriptions can name: one for each type, about all that happens to its resources. Pure."""

from pulseweir.fhir_store.parameters import RESOURCE_TYPES
from pulseweir.records.codes import PULSEWEIR

TOPICS = f"{PULSEWEIR}/SubscriptionTopic/"
"""Canonical URLs of the topics: this and a type, about every create, update and delete of that type."""


def topic_of(resource_type: str) -> str:
    """Canonical URL of the topic about a type."""
    return TOPICS + resource_type


def watched_type(criteria: object) -> str | None:
    """The type that criteria or a topic are about; None when this server has no such type or topic.

    >>> watched_type("Observation?code=8867-4"), watched_type("http://example.org/topic")
    ('Observation', None)
    """
    if not isinstance(criteria, str):
        return None
    found = criteria.partition("|")[0].removeprefix(TOPICS) if criteria.startswith(TOPICS) else criteria.split("?")[0]
    return found if found in RESOURCE_TYPES else None
