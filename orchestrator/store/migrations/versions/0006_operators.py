"""For operators: filters over many instances, changes as they happen, completions, and what is old enough to go.

Each index serves the statements that are named beside it.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = (
    # lists: by workflow; and all that has not ended (metrics, `late`)
    "CREATE INDEX instance_by_workflow ON instance (tenant, workflow_id, id DESC)",
    "CREATE INDEX instance_open ON instance (status) WHERE ended_at IS NULL",
    # lists and orders by lane
    """
    CREATE INDEX step_by_lane ON step (tenant, service COLLATE "C", instance_id)
      WHERE state IN ('FAILED', 'UNKNOWN', 'STUCK', 'RETRYING', 'WAITING')
    """,
    # purge: whole families, by the end of their first
    "CREATE INDEX instance_old ON instance (ended_at) WHERE ended_at IS NOT NULL AND parent_id IS NULL",
    # Who wants to hear of changes, and until when; nobody, and then a transition notifies nobody. Nothing is lost with it.
    "CREATE UNLOGGED TABLE watching (process text PRIMARY KEY, until timestamptz NOT NULL)",
    "GRANT SELECT ON watching TO PUBLIC",
    # Where the end of an instance is told; `completion_life` is the last life whose end was, or was given up.
    """
    ALTER TABLE instance ADD completion_url text, ADD completion_life int NOT NULL DEFAULT 0,
      ADD completion_tries int NOT NULL DEFAULT 0, ADD completion_due_at timestamptz, ADD completion_error text
    """,
    # completions: ends that are still to be told
    """
    CREATE INDEX instance_completion ON instance (completion_due_at)
      WHERE completion_url IS NOT NULL AND ended_at IS NOT NULL AND completion_life < life
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("completions that are still to be told would be lost: go back to a backup instead")
