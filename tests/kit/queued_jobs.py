"""Jobs that are put into the queue of a database."""

from __future__ import annotations

import sqlalchemy as sa

from inference.job_states import Priority
from inference.jobs import JobQueue


def enqueue(engine: sa.Engine, *names: str, priority: Priority = Priority.ROUTINE) -> None:
    """Enqueue jobs in one transaction."""
    queue = JobQueue(engine)
    with engine.begin() as connection:
        for name in names:
            queue.enqueue(connection, name, priority)
    queue.close()
