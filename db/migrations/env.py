"""Alembic's entry point: the connection comes from `db.migrate`, which also locks and commits."""

from alembic import context

from db.schema import Base

# The job engine keeps its tables in the same database; they are its own affair.
OURS = frozenset(Base.metadata.tables)


def _ours(_object: object, name: str | None, kind: str, reflected: bool, _other: object) -> bool:
    return kind != "table" or not reflected or name in OURS


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    include_object=_ours,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
