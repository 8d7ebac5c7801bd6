"""Step 14: brings a repository to the newest schema when it is opened."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from pulseweir.errors import DataDirectoryNewer

NEWEST = "0004"
"""Revision of the newest migration in `migrations/versions`."""

_LOCK_KEY = 4_207_001


def bring_up_to_date(engine: Engine) -> None:
    """Run the migrations that are missing; processes that open at the same time do it once.

    Raises:
        DataDirectoryNewer: A newer release wrote this repository: upgrade pulseweir, or restore a backup.
    """
    with engine.connect().execution_options(writes=False) as connection, connection.begin():
        if _revision(connection) == NEWEST:
            return
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        found = _revision(connection)
        if found is not None and found > NEWEST:
            raise DataDirectoryNewer(str(engine.url.database), int(found), int(NEWEST))
        if found != NEWEST:
            run(connection, NEWEST)


def run(connection: Connection, revision: str) -> None:
    """Migrate forward or back to a revision ('base' for nothing), in the transaction of the connection."""
    from alembic import command
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    configuration.attributes["connection"] = connection
    forward = revision != "base" and (_revision(connection) or "") <= revision
    (command.upgrade if forward else command.downgrade)(configuration, revision)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
