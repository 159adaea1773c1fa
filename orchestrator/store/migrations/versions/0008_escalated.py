"""An index for lists of what is late: whose decision was escalated. Few rows at any time."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("CREATE INDEX step_escalated ON step (tenant, instance_id) WHERE state = 'WAITING' AND escalated")


def downgrade() -> None:
    op.execute("DROP INDEX step_escalated")
