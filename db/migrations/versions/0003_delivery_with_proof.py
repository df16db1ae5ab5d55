"""Delivery with proof: circuit breakers, storage commitment, notifications, corrected studies."""

from importlib import import_module
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_before = import_module("db.migrations.versions.0002_views")

FINDINGS = _before.FINDINGS.replace(
    "AND result_object.kind = 'sr') AS",
    """AND result_object.kind = 'sr' AND result_object.fallback_of_id IS NULL
           AND NOT EXISTS (SELECT 1 FROM result_object AS later
                            WHERE later.predecessor_id = result_object.id)) AS""",
)

OBJECTS = """
CREATE VIEW v_objects AS
SELECT result_object.id AS object_id, result_object.kind, result_object.sop_class_uid,
       result_object.sop_instance_uid, result_object.series_instance_uid,
       analysis.study_instance_uid, result_object.analysis_id, analysis.model_name,
       analysis.version, result_object.path, result_object.size_bytes, result_object.sha256,
       result_object.created_at, result_object.fallback_of_id, result_object.predecessor_id,
       NOT EXISTS (SELECT 1 FROM result_object AS later
                    WHERE later.predecessor_id = result_object.id)
       AND NOT EXISTS (SELECT 1 FROM analysis AS newer
                        WHERE newer.series_instance_uid = analysis.series_instance_uid
                          AND newer.model_name = analysis.model_name
                          AND newer.version > analysis.version
                          AND newer.state = 'done') AS is_current,
       result_object.fault, analysis.trace_id
FROM result_object
JOIN analysis ON analysis.id = result_object.analysis_id
"""

DELIVERIES = """
CREATE VIEW v_deliveries AS
SELECT delivery.id AS delivery_id, delivery.destination, result_object.kind,
       result_object.sop_instance_uid, result_object.sop_class_uid, result_object.analysis_id,
       analysis.study_instance_uid, delivery.state, delivery.proof, delivery.n_attempts,
       delivery.last_status, delivery.last_error, delivery.next_attempt_at, delivery.deadline_at,
       delivery.created_at, delivery.sent_at, delivery.committed_at, analysis.trace_id
FROM delivery
JOIN result_object ON result_object.id = delivery.result_object_id
JOIN analysis ON analysis.id = result_object.analysis_id
"""

DESTINATIONS = """
CREATE VIEW v_destinations AS
SELECT known.destination,
       CASE WHEN health.open_until IS NOT NULL THEN 'waiting'
            WHEN health.n_failures > 0 THEN 'failing'
            ELSE 'working' END AS state,
       health.failing_since, health.open_until AS next_attempt_at, health.last_error,
       health.last_success_at,
       (SELECT COUNT(*) FROM delivery WHERE delivery.destination = known.destination
                                        AND delivery.state = 'pending') AS n_pending,
       (SELECT COUNT(*) FROM delivery WHERE delivery.destination = known.destination
                                        AND delivery.state = 'sent') AS n_sent,
       (SELECT COUNT(*) FROM delivery WHERE delivery.destination = known.destination
                                        AND delivery.state = 'committed') AS n_committed,
       (SELECT COUNT(*) FROM delivery WHERE delivery.destination = known.destination
                                        AND delivery.state = 'dead') AS n_dead
FROM (SELECT destination FROM delivery UNION SELECT destination FROM destination_health) AS known
LEFT JOIN destination_health AS health ON health.destination = known.destination
"""

NOTIFICATIONS = """
CREATE VIEW v_notifications AS
SELECT notification.id AS notification_id, notification.target, notification.analysis_id,
       analysis.study_instance_uid, analysis.model_name, notification.state,
       notification.n_attempts, notification.last_status, notification.last_error,
       notification.next_attempt_at, notification.deadline_at, notification.created_at,
       notification.sent_at, analysis.trace_id
FROM notification
JOIN analysis ON analysis.id = notification.analysis_id
"""

COMMITMENTS = """
CREATE VIEW v_commitments AS
SELECT commitment_asked.id AS commitment_id, commitment_asked.transaction_uid,
       commitment_asked.calling_ae, commitment_asked.called_ae, commitment_asked.instances,
       commitment_asked.failures, commitment_asked.state, commitment_asked.n_attempts,
       commitment_asked.last_error, commitment_asked.next_attempt_at,
       commitment_asked.received_at, commitment_asked.reported_at,
       commitment_asked.association_id AS trace_id
FROM commitment_asked
"""

_CHANGED_VIEWS = ("v_findings", "v_deliveries")
_NEW_VIEWS = ("v_commitments", "v_notifications", "v_destinations", "v_objects")
_NEW_TABLES = (
    "study_correction",
    "notification",
    "commitment_asked",
    "commitment_sought",
    "destination_health",
)


def _seconds(dialect: str) -> str:
    return str(_before._seconds(dialect, "analysis.received_at", "analysis.finished_at"))


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for view in _CHANGED_VIEWS:
        op.execute(f"DROP VIEW {view}")
    _add_columns(dialect)
    _create_tables()
    op.execute(FINDINGS.format(received_to_finished=_seconds(dialect)))
    for view in (OBJECTS, DELIVERIES, DESTINATIONS, NOTIFICATIONS, COMMITMENTS):
        op.execute(view)


def _add_columns(dialect: str) -> None:
    """Add columns in place: SQLite would refuse to make a table anew that others refer to."""
    number = "BIGINT" if dialect == "postgresql" else "INTEGER"
    time = "TIMESTAMP WITH TIME ZONE" if dialect == "postgresql" else "DATETIME"
    for name in ("fallback_of_id", "predecessor_id"):
        op.execute(
            f"ALTER TABLE result_object ADD COLUMN {name} {number} "
            f"CONSTRAINT fk_result_object_{name}_result_object REFERENCES result_object (id)"
        )
    op.execute("ALTER TABLE result_object ADD COLUMN fault TEXT")
    op.execute(f"ALTER TABLE delivery ADD COLUMN deadline_at {time}")
    op.execute(
        "ALTER TABLE delivery ADD COLUMN proof VARCHAR(16) "
        "CONSTRAINT ck_delivery_proof CHECK (proof IN ('commit', 'find'))"
    )
    for name in ("series_instance_uid", "predecessor_id"):
        op.create_index(f"ix_result_object_{name}", "result_object", [name])


def _time(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _number() -> sa.Column[Any]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, autoincrement=True, nullable=False)


def _attempts(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def _create_tables() -> None:
    op.create_table(
        "destination_health",
        sa.Column("destination", sa.String(length=64), nullable=False),
        _attempts("n_failures"),
        _time("open_until"),
        _time("failing_since"),
        sa.Column("last_error", sa.Text()),
        _time("last_success_at"),
        sa.PrimaryKeyConstraint("destination", name="pk_destination_health"),
    )
    op.create_table(
        "commitment_sought",
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("delivery_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
                  nullable=False),
        _time("requested_at", nullable=False),
        _time("answered_at"),
        sa.Column("failure_reason", sa.String(length=16)),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"],
                                name="fk_commitment_sought_delivery_id_delivery"),
        sa.PrimaryKeyConstraint("transaction_uid", name="pk_commitment_sought"),
    )  # fmt: skip
    op.create_index("ix_commitment_sought_delivery_id", "commitment_sought", ["delivery_id"])
    _create_commitment_asked()
    _create_notification()
    op.create_table(
        "study_correction",
        _number(),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        _time("corrected_at", nullable=False),
        sa.ForeignKeyConstraint(["study_instance_uid"], ["study.study_instance_uid"],
                                name="fk_study_correction_study_instance_uid_study"),
        sa.PrimaryKeyConstraint("id", name="pk_study_correction"),
    )  # fmt: skip
    op.create_index(
        "ix_study_correction_study_instance_uid", "study_correction", ["study_instance_uid"]
    )


def _create_commitment_asked() -> None:
    op.create_table(
        "commitment_asked",
        _number(),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("calling_ae", sa.String(length=16), nullable=False),
        sa.Column("called_ae", sa.String(length=16), nullable=False),
        sa.Column("association_id", sa.String(length=32), nullable=False),
        sa.Column("instances", sa.Text(), nullable=False),
        sa.Column("failures", sa.Text()),
        sa.Column("state", sa.String(length=16), server_default="pending", nullable=False),
        _attempts("n_attempts"),
        _time("next_attempt_at", nullable=False),
        _time("leased_until"),
        sa.Column("last_error", sa.Text()),
        _time("received_at", nullable=False),
        _time("reported_at"),
        sa.CheckConstraint("state IN ('pending', 'reported', 'dead')",
                           name="ck_commitment_asked_state"),
        sa.UniqueConstraint("calling_ae", "transaction_uid",
                            name="uq_commitment_asked_calling_ae_transaction_uid"),
        sa.PrimaryKeyConstraint("id", name="pk_commitment_asked"),
    )  # fmt: skip
    _index_due("commitment_asked", ["next_attempt_at"])


def _create_notification() -> None:
    op.create_table(
        "notification",
        _number(),
        sa.Column("analysis_id", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="pending", nullable=False),
        _attempts("n_attempts"),
        _time("next_attempt_at", nullable=False),
        _time("leased_until"),
        _time("deadline_at"),
        sa.Column("last_status", sa.String(length=16)),
        sa.Column("last_error", sa.Text()),
        _time("created_at", nullable=False),
        _time("sent_at"),
        sa.CheckConstraint("state IN ('pending', 'sent', 'dead')", name="ck_notification_state"),
        sa.ForeignKeyConstraint(["analysis_id"], ["analysis.id"],
                                name="fk_notification_analysis_id_analysis"),
        sa.UniqueConstraint("analysis_id", "target", name="uq_notification_analysis_id_target"),
        sa.PrimaryKeyConstraint("id", name="pk_notification"),
    )  # fmt: skip
    _index_due("notification", ["target", "next_attempt_at"])


def _index_due(table: str, columns: list[str]) -> None:
    pending = sa.text("state = 'pending'")
    op.create_index(
        f"ix_{table}_due", table, columns, sqlite_where=pending, postgresql_where=pending
    )


def downgrade() -> None:
    dialect = op.get_bind().dialect.name
    for view in (*_NEW_VIEWS, *_CHANGED_VIEWS):
        op.execute(f"DROP VIEW {view}")
    for table in _NEW_TABLES:
        op.drop_table(table)
    for name in ("predecessor_id", "series_instance_uid"):
        op.drop_index(f"ix_result_object_{name}", table_name="result_object")
    for table, column in (
        ("delivery", "proof"),
        ("delivery", "deadline_at"),
        ("result_object", "fault"),
        ("result_object", "predecessor_id"),
        ("result_object", "fallback_of_id"),
    ):
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    op.execute(_before.FINDINGS.format(received_to_finished=_seconds(dialect)))
    op.execute(_before.DELIVERIES)
