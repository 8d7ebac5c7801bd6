"""Alembic's entry: runs the migrations on the connection it is handed."""

from alembic import context

from pulseweir.backends.repository import schema_people  # noqa: F401  - registers its tables
from pulseweir.backends.repository.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
