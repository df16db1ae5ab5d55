"""How often an analysis was begun, and when it was for the last time."""

from importlib import import_module

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# What is new stands at the end: there PostgreSQL can add to a view that others are built on.
TURNAROUND = """
CREATE VIEW v_turnaround AS
SELECT analysis_id, study_instance_uid, series_instance_uid, model_name, model_version, priority,
       version, is_current, state, reason_code, reason, worker, device, received_at, requested_at,
       started_at, finished_at, delivered_at,
       {received_to_requested} AS wait_seconds,
       {requested_to_first} AS queue_seconds,
       {started_to_finished} AS analyse_seconds,
       {finished_to_delivered} AS deliver_seconds,
       {received_to_end} AS total_seconds,
       attempts, first_started_at,
       {first_to_started} AS retry_seconds
FROM (
  SELECT analysis.id AS analysis_id, analysis.study_instance_uid, analysis.series_instance_uid,
         analysis.model_name, analysis.model_version, analysis.priority, analysis.version,
         NOT EXISTS (SELECT 1 FROM analysis AS newer
                      WHERE newer.series_instance_uid = analysis.series_instance_uid
                        AND newer.model_name = analysis.model_name
                        AND newer.version > analysis.version
                        AND newer.state = 'done') AS is_current,
         analysis.state,
         analysis.reason_code, analysis.reason, analysis.worker, analysis.device,
         analysis.received_at, analysis.requested_at,
         COALESCE(analysis.last_started_at, analysis.started_at) AS started_at,
         analysis.finished_at,
         (SELECT MIN(delivery.sent_at) FROM delivery
            JOIN result_object ON result_object.id = delivery.result_object_id
           WHERE result_object.analysis_id = analysis.id) AS delivered_at,
         analysis.attempts, analysis.started_at AS first_started_at
  FROM analysis
) AS times
"""

_views = import_module("db.migrations.versions.0002_views")


def _turnaround(dialect: str, text: str) -> str:
    end = "COALESCE(delivered_at, finished_at)"
    return text.format(
        received_to_requested=_views._seconds(dialect, "received_at", "requested_at"),
        requested_to_started=_views._seconds(dialect, "requested_at", "started_at"),
        requested_to_first=_views._seconds(dialect, "requested_at", "first_started_at"),
        first_to_started=_views._seconds(dialect, "first_started_at", "started_at"),
        started_to_finished=_views._seconds(dialect, "started_at", "finished_at"),
        finished_to_delivered=_views._seconds(dialect, "finished_at", "delivered_at"),
        received_to_end=_views._seconds(dialect, "received_at", end),
    )


def upgrade() -> None:
    op.add_column(
        "analysis", sa.Column("attempts", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column(
        "analysis", sa.Column("last_started_at", sa.DateTime(timezone=True), nullable=True)
    )
    # Nobody counted before: what was begun was begun once at least.
    op.execute("UPDATE analysis SET attempts = 1 WHERE started_at IS NOT NULL")
    dialect = op.get_bind().dialect.name
    view = _turnaround(dialect, TURNAROUND)
    if dialect == "postgresql":
        op.execute(view.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))
    else:
        op.execute("DROP VIEW v_turnaround")
        op.execute(view)


def downgrade() -> None:
    dialect = op.get_bind().dialect.name
    op.execute("DROP VIEW v_turnaround")
    for name in ("last_started_at", "attempts"):
        op.execute(f"ALTER TABLE analysis DROP COLUMN {name}")
    op.execute(_turnaround(dialect, _views.TURNAROUND))
