"""Events that are to be published: kept here until the broker has them, and for a while after, so that a repeat of the
same call adds nothing."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    """
    CREATE TABLE outbox (
      key text PRIMARY KEY, position bigint GENERATED ALWAYS AS IDENTITY, tenant text NOT NULL, trace uuid NOT NULL,
      topic text NOT NULL, event jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_now(),
      due_at timestamptz NOT NULL DEFAULT clock_now(), tries int NOT NULL DEFAULT 0, error text, sent_at timestamptz)
    """,
    # the publisher: what is to be sent, oldest first
    "CREATE INDEX outbox_unsent ON outbox (position) WHERE sent_at IS NULL",
    # the publisher: what nobody will repeat any more
    "CREATE INDEX outbox_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("events that nobody has sent would be lost: go back to a backup instead")
