"""What both sides of the queue must say alike to the job engine (DBOS Transact)."""

from __future__ import annotations

import logging

from dbos import DBOSPortableJSONSerializer
from dbos import error as raised

from .job_log import Seldom
from .job_states import Priority

APPLICATION = "preread"
# Of routine work. Older versions put STAT into it too, with a priority: such jobs still run.
QUEUE = "analyse"
STAT_QUEUE = "stat"
QUEUES = {Priority.STAT: STAT_QUEUE, Priority.ROUTINE: QUEUE}
WORKFLOW = "analyse"
# Constant on purpose: a version made from the source would strand queued jobs at every upgrade.
JOB_FORMAT = "1"
# STAT is looked for more often: half of that is what it waits on average where no bell is heard,
# from another host. A look without a find reads three short rows and writes nothing, so it takes no
# part in SQLite's write lock.
STAT_POLL_SECONDS = 0.1
SECONDS = {STAT_QUEUE: STAT_POLL_SECONDS, QUEUE: 0.2}

_SELDOM = Seldom(10.0)


def serializer() -> DBOSPortableJSONSerializer:
    """Return how ids are written: as JSON, which is no code."""
    return DBOSPortableJSONSerializer()


def quiet() -> None:
    """Keep the greetings out of the log; warnings go the way of every other line, seldom."""
    logger = logging.getLogger("dbos")
    for one in (_SELDOM, _is_no_cancellation):
        if one not in logger.filters:
            logger.addFilter(one)
    logger.setLevel(logging.WARNING)
    logger.handlers.clear()
    logger.propagate = True


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Tell what is worth a line: a job that was cancelled while it ran ends, and nothing failed."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, raised.DBOSAwaitedWorkflowCancelledError)
