"""What is known of each device's readings: when it was heard, how far its clock is ahead, what is wrong with it.

`pulseweir.backends.repository.schema` says what the columns mean; a test compares the two.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table; devices come into it as they are heard."""
    op.create_table(
        "device_signal",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("good_at", sa.BigInteger(), nullable=True),
        sa.Column("skew_seconds", sa.Float(), nullable=False),
        sa.Column("signals_json", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "patient_id"),
    )
    op.create_index("device_signal_by_patient", "device_signal", ["patient_id"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("device_signal")
