"""Loops, and instances that other instances have started.

A child names the one step and generation that started it, and by a unique index there is one at most. What it has to
tell its parent when it ends waits here until the parent has taken note: no transaction locks two related instances.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    "ALTER TABLE step ADD items int NOT NULL DEFAULT 0, ADD begun int NOT NULL DEFAULT 0",
    """
    ALTER TABLE instance ADD parent_id uuid REFERENCES instance ON DELETE CASCADE, ADD parent_step text,
      ADD parent_generation int, ADD root_id uuid, ADD parent_told bool NOT NULL DEFAULT false
    """,
    """
    CREATE UNIQUE INDEX instance_child ON instance (parent_id, parent_step, parent_generation)
      WHERE parent_id IS NOT NULL
    """,
    "CREATE INDEX instance_family ON instance (root_id) WHERE root_id IS NOT NULL",
    # children: ends that the parent does not know of yet
    """
    CREATE INDEX instance_untold ON instance (ended_at) WHERE parent_id IS NOT NULL AND ended_at IS NOT NULL
      AND NOT parent_told
    """,
    # children: parents that have fallen, whose children have to be cancelled
    "CREATE INDEX instance_falling ON instance (id) WHERE outcome IS NOT NULL AND ended_at IS NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("children and loops would be lost: go back to a backup instead")
