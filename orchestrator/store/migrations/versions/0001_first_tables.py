"""First tables.

Every table that holds what tenants own names its tenant. `clock_now()` is the one clock; tests replace it. The partial indexes serve one
statement each, named beside them.
"""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    "CREATE FUNCTION clock_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()'",
    """
    CREATE TABLE definition_version (
      id uuid PRIMARY KEY, tenant text NOT NULL, workflow_id text NOT NULL, version int NOT NULL,
      title text, text text NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_now(),
      UNIQUE (tenant, workflow_id, version))
    """,
    # A file in workflows/ that was refused: starting it answers with its errors.
    """
    CREATE TABLE definition_refused (
      tenant text NOT NULL, workflow_id text NOT NULL, file text NOT NULL, problems jsonb NOT NULL,
      refused_at timestamptz NOT NULL DEFAULT clock_now(), PRIMARY KEY (tenant, workflow_id))
    """,
    """
    CREATE TABLE instance (
      id uuid PRIMARY KEY, tenant text NOT NULL, workflow_id text NOT NULL, version_id uuid NOT NULL
        REFERENCES definition_version, version int NOT NULL, status text NOT NULL, reason text, outcome text,
      cause text, history_seq int NOT NULL, life int NOT NULL, business_key text, payload jsonb NOT NULL,
      idempotency_key text, request_digest text, deadline_at timestamptz, suspended_at timestamptz,
      cancel_requested_at timestamptz, sweep_after timestamptz, started_at timestamptz NOT NULL, ended_at timestamptz) WITH (fillfactor = 80)
    """,
    "CREATE UNIQUE INDEX instance_idempotency ON instance (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL",
    "CREATE INDEX instance_list ON instance (tenant, id DESC)",
    "CREATE INDEX instance_by_status ON instance (tenant, status, id DESC)",
    "CREATE INDEX instance_by_business_key ON instance (tenant, business_key) WHERE business_key IS NOT NULL",
    "CREATE INDEX instance_deadline ON instance (deadline_at) WHERE deadline_at IS NOT NULL AND ended_at IS NULL",
    """
    CREATE TABLE step (
      instance_id uuid NOT NULL REFERENCES instance ON DELETE CASCADE, step text NOT NULL, phase text NOT NULL,
      tenant text NOT NULL, version_id uuid NOT NULL, "order" int NOT NULL, queue text NOT NULL, state text NOT NULL,
      reason text, service text, generation int NOT NULL, attempt int NOT NULL, tries int NOT NULL,
      losses int NOT NULL, rounds int NOT NULL, alone bool NOT NULL, escalated bool NOT NULL, uncertain bool NOT NULL,
      uncertain_before bool NOT NULL,
      branches_left int NOT NULL, done_seq int, decision text, worker text, ready_at timestamptz,
      published_at timestamptz, republished bool NOT NULL DEFAULT false, started_at timestamptz,
      lease_until timestamptz, limit_until timestamptz, lost_until timestamptz,
      due_at timestamptz, budget_until timestamptz, ended_at timestamptz, output jsonb, error text, comment text,
      decided_by text, PRIMARY KEY (instance_id, step, phase)) WITH (fillfactor = 80)
    """,
    # dispatch: what no message carries yet, oldest first, for each tenant and queue
    """
    CREATE INDEX step_unpublished ON step (tenant, queue, ready_at)
      WHERE state IN ('READY', 'RETRYING') AND published_at IS NULL
    """,
    # dispatch: what it may sleep
    """
    CREATE INDEX step_next_ready ON step (ready_at) WHERE state IN ('READY', 'RETRYING') AND published_at IS NULL
    """,
    # dispatch: the window; sweep: what was published and never claimed
    """
    CREATE INDEX step_published ON step (queue, tenant, published_at)
      WHERE state IN ('READY', 'RETRYING') AND published_at IS NOT NULL
    """,
    # sweep: the watermark, read backwards until a claimed row is met
    "CREATE INDEX step_claimed ON step (queue, published_at DESC) WHERE published_at IS NOT NULL",
    # sweep: lost leases, and waits that are due
    "CREATE INDEX step_leased ON step (lease_until) WHERE state = 'RUNNING' AND lease_until IS NOT NULL",
    "CREATE INDEX step_waiting ON step (due_at) WHERE state = 'WAITING' AND due_at IS NOT NULL",
    # legs: every lease of a process, to extend it
    "CREATE INDEX step_worker ON step (worker) WHERE state = 'RUNNING' AND lease_until IS NOT NULL",
    """
    CREATE TABLE history (
      instance_id uuid NOT NULL REFERENCES instance ON DELETE CASCADE, seq int NOT NULL, tenant text NOT NULL,
      verb text NOT NULL, status text NOT NULL, step text, phase text, reason text, attempt int, generation int,
      service text, output jsonb, error text, worker text, time timestamptz NOT NULL, PRIMARY KEY (instance_id, seq))
    """,
    # One row: what the installation keeps for itself, such as the key that signs callback tokens.
    "CREATE TABLE installation (name text PRIMARY KEY, value text NOT NULL)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the first migration has nothing to go back to: drop the database")
