"""Admission to service lanes: what is known of each, and the steps that a lane keeps waiting.

A step that its lane does not admit waits outside of what the dispatcher looks through (`deferred`); so a lane that is
shut costs the others nothing, however much waits for it. `gate` is set on rows of lanes that are asked for admission
only: the indexes on it are empty elsewhere, and a claim writes nothing to them.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = (
    # Not a tenant's: a lane is the installation's, and so are its limits. A row exists once there is something to say.
    """
    CREATE TABLE lane (
      name text PRIMARY KEY, held_at timestamptz, held_by text, held_why text,
      failures int NOT NULL DEFAULT 0, openings int NOT NULL DEFAULT 0, opened_at timestamptz, open_until timestamptz,
      probe_until timestamptz, next_at timestamptz) WITH (fillfactor = 50)
    """,
    "ALTER TABLE step ADD gate text, ADD deferred text",
    # dispatch: the same as before, without what a lane keeps waiting
    "DROP INDEX step_unpublished",
    "DROP INDEX step_next_ready",
    """
    CREATE INDEX step_unpublished ON step (tenant, queue, ready_at)
      WHERE state IN ('READY', 'RETRYING') AND published_at IS NULL AND deferred IS NULL
    """,
    """
    CREATE INDEX step_next_ready ON step (ready_at)
      WHERE state IN ('READY', 'RETRYING') AND published_at IS NULL AND deferred IS NULL
    """,
    # admission: calls in flight, and messages that have not been claimed yet, of lanes with limits
    "CREATE INDEX step_gate_running ON step (gate) WHERE gate IS NOT NULL AND state = 'RUNNING'",
    """
    CREATE INDEX step_gate_published ON step (gate)
      WHERE gate IS NOT NULL AND state IN ('READY', 'RETRYING') AND published_at IS NOT NULL
    """,
    # admission: who is next, the longest waiting of each tenant; why they wait; whose time is up
    "CREATE INDEX step_deferred ON step (gate, tenant, ready_at) WHERE deferred IS NOT NULL",
    "CREATE INDEX step_deferred_why ON step (gate, deferred) WHERE deferred IS NOT NULL",
    "CREATE INDEX step_deferred_due ON step (budget_until) WHERE deferred IS NOT NULL AND budget_until IS NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("lanes that are held would be let go: go back to a backup instead")
