"""Row-level security from the program's side: a transaction is bound to one tenant, and Postgres keeps it there.

Two locks, made by migration 0004. A bound transaction carries the tenant's name, by which the policies choose the rows;
and it acts as a role that owns nothing and may only read and write rows, for a superuser would see through every
policy. Without the role (it could not be made here) the first lock alone holds, unless the login sees through it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

ROLE = "orchestrator_tenant"
NAME = "orchestrator.tenant"

# In one round trip, and for this transaction only (`true`): whoever gets the connection next is not bound by it.
BIND = text(f"SELECT set_config('{NAME}', :tenant, true)")
BIND_AS_ROLE = text(f"SELECT set_config('{NAME}', :tenant, true), set_config('role', '{ROLE}', true)")
# Postgres 16 lets membership and the right to act as a role differ; before that, membership is that right. A role that
# was made after the tables has no rights on them yet: to act as it would be refused everything.
MAY_ACT = text(f"""
SELECT coalesce((SELECT pg_has_role(oid, CASE WHEN current_setting('server_version_num')::int >= 160000
  THEN 'SET' ELSE 'MEMBER' END) AND coalesce(has_table_privilege(oid, to_regclass('instance'), 'UPDATE'), true)
  FROM pg_roles WHERE rolname = '{ROLE}'), false)
""")
SEES_THROUGH = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = session_user")
UNPROTECTED = text("""
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant'
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace AND NOT a.attisdropped
  AND NOT (c.relrowsecurity AND c.relforcerowsecurity
    AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant_rows'))
ORDER BY 1
""")


@dataclass(frozen=True, kw_only=True)
class Protection:
    """How well Postgres keeps tenants apart here."""

    role: bool  # bound transactions act as a role that is no superuser
    sees_through: bool  # the login is one that no policy binds
    unprotected: tuple[str, ...]  # tables of tenants without a policy

    @property
    def in_force(self) -> bool:
        return not self.unprotected and (self.role or not self.sees_through)

    @property
    def mend(self) -> str:
        """What is wrong where it is not in force, and what to do."""
        if self.unprotected:
            return f"{', '.join(self.unprotected)} has no policy; run `orchestrator db upgrade`"
        return (
            f"its role sees through row-level security, and may not act as {ROLE}, or that has no rights on our tables: "
            f"let an administrator run CREATE ROLE {ROLE} NOLOGIN and GRANT {ROLE} to it, and the owner of the tables the "
            "grants of docs/how-to/serve-many-agencies.md, or connect as a role that is no superuser"
        )


def bind(connection: Connection, tenant: str, *, as_role: bool) -> None:
    """From here to its end the transaction sees and writes this tenant's rows only. Raises ValueError for no name."""
    if not tenant:  # the policies read an empty name as `not bound`
        raise ValueError("a transaction is bound to a tenant that has a name")
    connection.execute(BIND_AS_ROLE if as_role else BIND, {"tenant": tenant})


def may_act_as_role(connection: Connection) -> bool:
    return bool(connection.execute(MAY_ACT).scalar_one())


def protection(connection: Connection) -> Protection:
    return Protection(
        role=may_act_as_role(connection),
        sees_through=bool(connection.execute(SEES_THROUGH).scalar_one()),
        unprotected=tuple(connection.execute(UNPROTECTED).scalars()),
    )
