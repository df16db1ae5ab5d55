"""Settings of the database room: ``[db]`` in the configuration file."""

from pydantic import BaseModel, ConfigDict, Field


class DbSettings(BaseModel):
    """Where the facts are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = Field(
        default=None,
        description=(
            "SQLAlchemy URL. Without one: SQLite in DATA_DIR/preread.sqlite. "
            "PostgreSQL: postgresql+psycopg://user:password@host/database."
        ),
    )
    pool_size: int = Field(
        default=5, ge=1, le=100, description="Connections that one process may hold open."
    )
    auto_upgrade: bool = Field(
        default=True,
        description="Bring the schema up to date at start; otherwise refuse to start.",
    )
