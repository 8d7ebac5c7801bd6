"""Step 14: the SQL repository: facts, flags, alerts, outbox, people and reports."""

from pulseweir.backends.repository.store import Repository, RepositoryUnavailable, Transaction

__all__ = ["Repository", "RepositoryUnavailable", "Transaction"]
