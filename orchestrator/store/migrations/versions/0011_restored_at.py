"""When an instance was last restored from a backup: until a moment after that, what it had sent before may be in flight.
Nullable: older programs do not see it."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("ALTER TABLE instance ADD restored_at timestamptz")


def downgrade() -> None:
    op.execute("ALTER TABLE instance DROP restored_at")
