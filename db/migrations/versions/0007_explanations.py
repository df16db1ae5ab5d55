"""Where models looked: small maps that pages and pictures are drawn from."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

EXPLANATIONS = """
CREATE VIEW v_explanations AS
SELECT explanation.id AS explanation_id, explanation.analysis_id, analysis.study_instance_uid,
       analysis.series_instance_uid, explanation.sop_instance_uid, explanation.frame,
       explanation.label, explanation.method, explanation.parameters, explanation.map_rows,
       explanation.map_columns, explanation.cell_height_mm, explanation.cell_width_mm,
       explanation.size_bytes, explanation.created_at, analysis.model_name,
       analysis.model_version, analysis.version
FROM explanation
JOIN analysis ON analysis.id = explanation.analysis_id
"""


def upgrade() -> None:
    op.create_table(
        "explanation",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
                  autoincrement=True, nullable=False),
        sa.Column("analysis_id", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("frame", sa.Integer(), nullable=False),
        sa.Column("method", sa.String(length=32), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("map_rows", sa.Integer(), nullable=False),
        sa.Column("map_columns", sa.Integer(), nullable=False),
        sa.Column("placement", sa.Text(), nullable=False),
        sa.Column("cell_height_mm", sa.Float(), nullable=True),
        sa.Column("cell_width_mm", sa.Float(), nullable=True),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("map", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["analysis_id"], ["analysis.id"], ondelete="CASCADE",
                                name="fk_explanation_analysis_id_analysis"),
        sa.PrimaryKeyConstraint("id", name="pk_explanation"),
        sa.UniqueConstraint(
            "analysis_id", "label", "sop_instance_uid", "frame", "method",
            name="uq_explanation_analysis_id_label_sop_instance_uid_frame_method",
        ),
    )  # fmt: skip
    op.execute(EXPLANATIONS)


def downgrade() -> None:
    op.execute("DROP VIEW v_explanations")
    op.drop_table("explanation")
