"""Row-level security: a transaction that is bound to one tenant sees and writes the rows of no other.

A bound transaction names its tenant in `orchestrator.tenant` and acts as the role `orchestrator_tenant`
(`store.tenancy.bind`). The owner of the tables, as which the engine works, is bound by the name as well where one is set
(FORCE), and sees all tenants where none is. A table that a later migration makes for tenants' rows is protected by
`SELECT protect_tenant_rows('its_name', 'SELECT, INSERT')`: until then a bound transaction may not touch it at all.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    # A role belongs to the whole server: another database of ours may have made it, perhaps at this very moment. Where
    # it may not be made, or not be used, migrating goes on: docs/how-to/serve-many-agencies.md has what the
    # administrator runs, `orchestrator doctor` says so.
    """
    DO $$ BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'orchestrator_tenant') THEN
        CREATE ROLE orchestrator_tenant NOLOGIN;
      END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
    END $$
    """,
    # Since Postgres 16 who makes a role is its member, and may still not act as it.
    """
    DO $$ BEGIN
      IF NOT pg_has_role('orchestrator_tenant', CASE WHEN current_setting('server_version_num')::int >= 160000
        THEN 'SET' ELSE 'MEMBER' END) THEN
        EXECUTE format('GRANT orchestrator_tenant TO %I', current_user);
      END IF;
    EXCEPTION WHEN undefined_object OR insufficient_privilege THEN NULL;
    END $$
    """,
    # `rights` are what a bound transaction may do. The policy of the owner is for unbound transactions: an OR with a
    # condition that is read once a row, and no index is lost by it, for all that our conditions compare is leakproof.
    """
    CREATE FUNCTION protect_tenant_rows(protected regclass, rights text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
      EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', protected);
      EXECUTE format('CREATE POLICY tenant_rows ON %s USING (tenant = current_setting(''orchestrator.tenant'', true))', protected);
      EXECUTE format('CREATE POLICY all_rows ON %s TO %I USING (coalesce(current_setting(''orchestrator.tenant'', true), '''') = '''')',
        protected, (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = protected));
      IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'orchestrator_tenant') THEN
        EXECUTE format('GRANT %s ON %s TO orchestrator_tenant', rights, protected);
      END IF;
    END $$
    """,
    "SELECT protect_tenant_rows('definition_version', 'SELECT, INSERT')",
    "SELECT protect_tenant_rows('definition_refused', 'SELECT, INSERT, UPDATE, DELETE')",
    "SELECT protect_tenant_rows('instance', 'SELECT, INSERT, UPDATE')",
    "SELECT protect_tenant_rows('step', 'SELECT, INSERT, UPDATE')",
    "SELECT protect_tenant_rows('history', 'SELECT, INSERT')",
    "SELECT protect_tenant_rows('outbox', 'SELECT, INSERT')",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("tenants would see each other: go back to a backup instead")
