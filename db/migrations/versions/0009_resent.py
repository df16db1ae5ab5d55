"""Who sent images again that were there: rules by the sender hear of them, too."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "resent",
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("association_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["series_instance_uid"], ["series.series_instance_uid"],
                                name="fk_resent_series_instance_uid_series"),
        sa.PrimaryKeyConstraint("series_instance_uid", "association_id", name="pk_resent"),
    )  # fmt: skip


def downgrade() -> None:
    op.drop_table("resent")
