"""What is unknown, doubtful or not to be scored; what alerts compare with, and what became of their messages.

`pulseweir.backends.repository.schema` says what the columns mean; a test compares the two.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _score_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("unknown_json", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("doubtful_json", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("abstained", sa.Text(), nullable=True),
        sa.Column("sign_of_life_at", sa.BigInteger(), nullable=True),
    ]


def _alert_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("kind", sa.Text(), nullable=False, server_default="clinical"),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("reds_json", sa.Text(), nullable=False, server_default="null"),
        sa.Column("baseline_score", sa.Float(), nullable=True),
        sa.Column("baseline_reds_json", sa.Text(), nullable=False, server_default="null"),
        sa.Column("paged_at", sa.BigInteger(), nullable=True),
        sa.Column("ladder_since", sa.BigInteger(), nullable=True),
        sa.Column("suppressed_seconds", sa.Float(), nullable=False, server_default="0"),
        sa.Column("delivery", sa.Text(), nullable=False, server_default=""),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
    ]


TABLES = {"score": _score_columns, "live_row": _score_columns, "alert": _alert_columns}


def upgrade() -> None:
    """Add the columns; rows of before know nothing of them."""
    for table, columns in TABLES.items():
        for column in columns():
            op.add_column(table, column)


def downgrade() -> None:
    """Drop them."""
    for table, columns in TABLES.items():
        for column in columns():
            op.drop_column(table, column.name)
