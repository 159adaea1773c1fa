"""Since when nothing is known of an instance that was restored from a backup. Nullable: older programs do not see it."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("ALTER TABLE instance ADD doubted_since timestamptz")


def downgrade() -> None:
    op.execute("ALTER TABLE instance DROP doubted_since")
