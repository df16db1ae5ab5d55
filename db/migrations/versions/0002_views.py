"""The views that people query. Their columns are described in `db.views`."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STUDIES = """
CREATE VIEW v_studies AS
SELECT study.study_instance_uid, study.patient_id, study.patient_name, study.patient_birth_date,
       study.patient_sex, study.accession_number, study.study_date, study.study_description,
       (SELECT {modalities} FROM series
         WHERE series.study_instance_uid = study.study_instance_uid) AS modalities,
       (SELECT COUNT(*) FROM series
         WHERE series.study_instance_uid = study.study_instance_uid) AS n_series,
       (SELECT COUNT(*) FROM instance
         WHERE instance.study_instance_uid = study.study_instance_uid) AS n_instances,
       study.received_at, study.last_received_at, study.has_conflict,
       (SELECT COUNT(*) FROM analysis
         WHERE analysis.study_instance_uid = study.study_instance_uid) AS n_analyses,
       study.n_positive, study.max_probability,
       CASE
         WHEN EXISTS (SELECT 1 FROM series
                       WHERE series.study_instance_uid = study.study_instance_uid
                         AND series.state = 'open') THEN 'receiving'
         WHEN EXISTS (SELECT 1 FROM analysis
                       WHERE analysis.study_instance_uid = study.study_instance_uid
                         AND analysis.state = 'pending') THEN 'in progress'
         WHEN EXISTS (SELECT 1 FROM analysis
                       WHERE analysis.study_instance_uid = study.study_instance_uid
                         AND analysis.state IN ('failed', 'cancelled')) THEN 'failed'
         WHEN EXISTS (SELECT 1 FROM analysis
                       WHERE analysis.study_instance_uid = study.study_instance_uid) THEN 'done'
         ELSE 'parked'
       END AS state
FROM study
"""

SERIES = """
CREATE VIEW v_series AS
SELECT series.series_instance_uid, series.study_instance_uid, series.patient_id, series.modality,
       series.series_number, series.series_description, series.body_part,
       (SELECT COUNT(*) FROM instance
         WHERE instance.series_instance_uid = series.series_instance_uid) AS n_instances,
       CASE
         WHEN series.state = 'open' THEN 'receiving'
         WHEN EXISTS (SELECT 1 FROM analysis
                       WHERE analysis.series_instance_uid = series.series_instance_uid) THEN 'read'
         ELSE 'parked'
       END AS state,
       series.routing, series.first_received_at AS received_at, series.last_received_at,
       series.completed_at, series.trace_id
FROM series
"""

INSTANCES = """
CREATE VIEW v_instances AS
SELECT instance.sop_instance_uid, instance.revision, instance.series_instance_uid,
       instance.study_instance_uid, instance.patient_id, instance.sop_class_uid,
       instance.transfer_syntax_uid, instance.instance_number, instance.size_bytes,
       instance.sha256, instance.path, instance.received_at, instance.missing_at,
       association.calling_ae, instance.association_id AS trace_id
FROM instance
LEFT JOIN association ON association.id = instance.association_id
"""

ASSOCIATIONS = """
CREATE VIEW v_associations AS
SELECT association.id AS trace_id, association.calling_ae, association.called_ae,
       association.peer_host, association.peer_port, association.acceptor,
       COALESCE(association.ended_by, 'open') AS state, association.reject_reason,
       association.n_received, association.n_equal, association.n_refused, association.refusals,
       association.n_bytes, association.opened_at, association.ended_at,
       {opened_to_ended} AS seconds, context_set.contexts
FROM association
LEFT JOIN context_set ON context_set.digest = association.context_digest
"""

FINDINGS = """
CREATE VIEW v_findings AS
SELECT finding.id AS finding_id, finding.analysis_id, finding.study_instance_uid,
       analysis.series_instance_uid, study.patient_id, study.accession_number, study.study_date,
       finding.label, finding.code_value, finding.code_scheme, finding.code_meaning,
       finding.scope, finding.sop_instance_uid, finding.presence, finding.probability,
       finding.threshold_low, finding.threshold_high, finding.key_sop_instance_uid,
       analysis.model_name, analysis.model_version, analysis.weights_sha256, analysis.version,
       NOT EXISTS (SELECT 1 FROM analysis AS newer
                    WHERE newer.series_instance_uid = analysis.series_instance_uid
                      AND newer.model_name = analysis.model_name
                      AND newer.version > analysis.version
                      AND newer.state = 'done') AS is_current,
       analysis.shadow,
       (SELECT result_object.sop_instance_uid FROM result_object
         WHERE result_object.analysis_id = analysis.id
           AND result_object.kind = 'sr') AS sr_sop_instance_uid,
       analysis.received_at, analysis.finished_at,
       {received_to_finished} AS turnaround_seconds,
       analysis.trace_id
FROM finding
JOIN analysis ON analysis.id = finding.analysis_id
JOIN study ON study.study_instance_uid = finding.study_instance_uid
"""

DELIVERIES = """
CREATE VIEW v_deliveries AS
SELECT delivery.id AS delivery_id, delivery.destination, result_object.kind,
       result_object.sop_instance_uid, result_object.sop_class_uid, result_object.analysis_id,
       analysis.study_instance_uid, delivery.state, delivery.n_attempts, delivery.last_status,
       delivery.last_error, delivery.next_attempt_at, delivery.created_at, delivery.sent_at,
       delivery.committed_at, analysis.trace_id
FROM delivery
JOIN result_object ON result_object.id = delivery.result_object_id
JOIN analysis ON analysis.id = result_object.analysis_id
"""

TURNAROUND = """
CREATE VIEW v_turnaround AS
SELECT analysis_id, study_instance_uid, series_instance_uid, model_name, model_version, priority,
       version, is_current, state, reason_code, reason, worker, device, received_at, requested_at,
       started_at, finished_at, delivered_at,
       {received_to_requested} AS wait_seconds,
       {requested_to_started} AS queue_seconds,
       {started_to_finished} AS analyse_seconds,
       {finished_to_delivered} AS deliver_seconds,
       {received_to_end} AS total_seconds
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
         analysis.received_at, analysis.requested_at, analysis.started_at,
         analysis.finished_at,
         (SELECT MIN(delivery.sent_at) FROM delivery
            JOIN result_object ON result_object.id = delivery.result_object_id
           WHERE result_object.analysis_id = analysis.id) AS delivered_at
  FROM analysis
) AS times
"""


def _seconds(dialect: str, start: str, end: str) -> str:
    if dialect == "postgresql":
        return f"EXTRACT(EPOCH FROM {end} - {start})::double precision"
    return f"ROUND((julianday({end}) - julianday({start})) * 86400.0, 3)"


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        modalities = "string_agg(DISTINCT modality, ',' ORDER BY modality)"
    else:
        modalities = "group_concat(DISTINCT modality)"
    end = "COALESCE(delivered_at, finished_at)"
    op.execute(STUDIES.format(modalities=modalities))
    op.execute(SERIES)
    op.execute(INSTANCES)
    op.execute(
        ASSOCIATIONS.format(
            opened_to_ended=_seconds(dialect, "association.opened_at", "association.ended_at")
        )
    )
    op.execute(
        FINDINGS.format(
            received_to_finished=_seconds(dialect, "analysis.received_at", "analysis.finished_at")
        )
    )
    op.execute(DELIVERIES)
    op.execute(
        TURNAROUND.format(
            received_to_requested=_seconds(dialect, "received_at", "requested_at"),
            requested_to_started=_seconds(dialect, "requested_at", "started_at"),
            started_to_finished=_seconds(dialect, "started_at", "finished_at"),
            finished_to_delivered=_seconds(dialect, "finished_at", "delivered_at"),
            received_to_end=_seconds(dialect, "received_at", end),
        )
    )


def downgrade() -> None:
    for view in (
        "v_turnaround",
        "v_deliveries",
        "v_findings",
        "v_associations",
        "v_instances",
        "v_series",
        "v_studies",
    ):
        op.execute(f"DROP VIEW {view}")
