"""Measured quantities, such as the volume of a segmented finding."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MEASUREMENTS = """
CREATE VIEW v_measurements AS
SELECT measurement.id AS measurement_id, measurement.analysis_id, analysis.study_instance_uid,
       analysis.series_instance_uid, study.patient_id, study.accession_number, study.study_date,
       measurement.label, measurement.code_meaning AS quantity, measurement.code_value,
       measurement.code_scheme, measurement.value, measurement.unit, analysis.model_name,
       analysis.model_version, analysis.version,
       NOT EXISTS (SELECT 1 FROM analysis AS newer
                    WHERE newer.series_instance_uid = analysis.series_instance_uid
                      AND newer.model_name = analysis.model_name
                      AND newer.version > analysis.version
                      AND newer.state = 'done') AS is_current,
       analysis.shadow, analysis.finished_at, analysis.trace_id
FROM measurement
JOIN analysis ON analysis.id = measurement.analysis_id
JOIN study ON study.study_instance_uid = analysis.study_instance_uid
"""


def upgrade() -> None:
    op.create_table(
        "measurement",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
                  autoincrement=True, nullable=False),
        sa.Column("analysis_id", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("code_value", sa.String(length=64), nullable=False),
        sa.Column("code_scheme", sa.String(length=16), nullable=False),
        sa.Column("code_meaning", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("unit", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["analysis_id"], ["analysis.id"],
                                name="fk_measurement_analysis_id_analysis"),
        sa.PrimaryKeyConstraint("id", name="pk_measurement"),
    )  # fmt: skip
    op.create_index("ix_measurement_analysis_id", "measurement", ["analysis_id"])
    op.create_index("ix_measurement_label_value", "measurement", ["label", "value"])
    op.execute(MEASUREMENTS)


def downgrade() -> None:
    op.execute("DROP VIEW v_measurements")
    op.drop_table("measurement")
