"""Which engine gave each finding, and what workers and their engines lived through."""

from importlib import import_module

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("engine", sa.String(length=32)),
    ("engine_version", sa.String(length=32)),
    ("engine_device", sa.String(length=64)),
    ("engine_precision", sa.String(length=16)),
    ("engine_batch", sa.Integer()),
)

# What is new stands at the end: there PostgreSQL can add to a view that others are built on.
_before = import_module("db.migrations.versions.0003_delivery_with_proof")
FINDINGS = _before.FINDINGS.replace(
    "analysis.trace_id\nFROM",
    "analysis.trace_id, " + ", ".join(f"finding.{name}" for name, _ in _COLUMNS) + "\nFROM",
)

WORKER_EVENTS = """
CREATE VIEW v_worker_events AS
SELECT worker_event.id AS event_id, worker_event.at, worker_event.worker, worker_event.step,
       worker_event.engine, worker_event.device, worker_event.n_rows, worker_event.reason,
       worker_event.analysis_id, analysis.study_instance_uid
FROM worker_event
LEFT JOIN analysis ON analysis.id = worker_event.analysis_id
"""

WORKERS = """
CREATE VIEW v_workers AS
SELECT worker.id AS worker, worker.host, worker.pid, worker.device, worker.wanted_device,
       worker.trouble, worker.models, worker.started_at, worker.seen_at
FROM worker
"""


def upgrade() -> None:
    for name, kind in _COLUMNS:
        op.add_column("finding", sa.Column(name, kind, nullable=True))
    op.add_column("worker", sa.Column("wanted_device", sa.String(length=64), nullable=True))
    op.add_column("worker", sa.Column("trouble", sa.Text(), nullable=True))
    op.create_table(
        "worker_event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
                  autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("worker", sa.String(length=128), nullable=False),
        sa.Column("step", sa.String(length=32), nullable=False),
        sa.Column("engine", sa.String(length=32), nullable=True),
        sa.Column("device", sa.String(length=64), nullable=True),
        sa.Column("n_rows", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("analysis_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_worker_event"),
    )  # fmt: skip
    op.create_index("ix_worker_event_at", "worker_event", ["at"])
    op.create_index("ix_worker_event_analysis_id", "worker_event", ["analysis_id"])
    dialect = op.get_bind().dialect.name
    findings = FINDINGS.format(received_to_finished=_before._seconds(dialect))
    if dialect == "postgresql":
        op.execute(findings.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))
    else:
        op.execute("DROP VIEW v_findings")
        op.execute(findings)
    op.execute(WORKER_EVENTS)
    op.execute(WORKERS)


def downgrade() -> None:
    dialect = op.get_bind().dialect.name
    for view in ("v_workers", "v_worker_events", "v_findings"):
        op.execute(f"DROP VIEW {view}")
    op.drop_table("worker_event")
    for name in ("trouble", "wanted_device"):
        op.execute(f"ALTER TABLE worker DROP COLUMN {name}")
    for name, _ in reversed(_COLUMNS):
        op.execute(f"ALTER TABLE finding DROP COLUMN {name}")
    op.execute(_before.FINDINGS.format(received_to_finished=_before._seconds(dialect)))
