"""For migrations: what is built beside the traffic instead of in its way."""

from __future__ import annotations

from alembic import op


def index(name: str, on: str, *, unique: bool = False) -> None:
    """`on`: what stands after ON. Outside of the migration's transaction, so it is to be the last that a migration does;
    what an earlier try may have left invalid is built anew."""
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute(f"CREATE {'UNIQUE ' if unique else ''}INDEX CONCURRENTLY {name} ON {on}")
