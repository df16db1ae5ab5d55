"""What readers need of a stored file, written down once."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "instance_facts",
        sa.Column("instance_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
                  nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"],
                                name="fk_instance_facts_instance_id_instance"),
        sa.PrimaryKeyConstraint("instance_id", name="pk_instance_facts"),
    )  # fmt: skip


def downgrade() -> None:
    op.drop_table("instance_facts")
