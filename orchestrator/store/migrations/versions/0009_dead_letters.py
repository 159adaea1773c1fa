"""Dead letters: messages that no task can take. And how often a message came back, which the brokers do not all say.

The installation's, and no tenant's: what cannot be read says nothing that could be trusted of whose it is. So a transaction
that is bound to a tenant may not touch them at all.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

STATEMENTS = (
    """
    CREATE TABLE dead_letter (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, reason text NOT NULL, queue text NOT NULL, error text NOT NULL,
      content text NOT NULL, size bigint NOT NULL, worker text NOT NULL, time timestamptz NOT NULL DEFAULT clock_now())
    """,
    # the newest of each reason are kept
    "CREATE INDEX dead_letter_newest ON dead_letter (reason, id DESC)",
    "CREATE TABLE dead_letter_count (reason text PRIMARY KEY, count bigint NOT NULL, last_at timestamptz NOT NULL)",
    "CREATE TABLE redelivery (message text PRIMARY KEY, count int NOT NULL, seen_at timestamptz NOT NULL)",
    # what has not come back for long
    "CREATE INDEX redelivery_old ON redelivery (seen_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("redelivery", "dead_letter_count", "dead_letter"):
        op.execute(f"DROP TABLE {table}")
