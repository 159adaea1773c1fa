"""Indexes for what the pages count and list: what waits for a decision, what needs a person, what has ended lately."""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = (
    # boards: the inbox, oldest deadline first
    "CREATE INDEX step_awaited ON step (tenant, due_at) WHERE state = 'WAITING' AND phase = 'do'",
    # boards: what only a person can settle; few rows at any time
    "CREATE INDEX step_unsettled ON step (instance_id) WHERE state IN ('UNKNOWN', 'STUCK')",
    # boards: what has ended in the last hour
    "CREATE INDEX instance_ended ON instance (tenant, ended_at) WHERE ended_at IS NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for name in ("step_awaited", "step_unsettled", "instance_ended"):
        op.execute(f"DROP INDEX {name}")
