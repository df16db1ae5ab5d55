"""One log: JSON lines in service, readable on a terminal, never patient data.

Libraries log through the standard library and come out in the same form. Of an exception the log
keeps type and places; its message may quote what an image said of its patient, so that only the
messages of Preread's own errors are written, which name tags and files and never values.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import Processor

from db import DatabaseError
from inference import InferenceError
from scp.errors import ScpError

from .errors import DeployError
from .settings import LogSettings

_OURS = (DatabaseError, InferenceError, ScpError, DeployError)
# What these say of normal traffic costs more than receiving it.
_QUIET = ("pynetdicom", "dbos", "alembic", "urllib3")
# These quote values of the images that they complain of.
_SILENT = ("pydicom", "highdicom", "py.warnings")
# What stands in every line of this process besides its part, whichever thread writes it.
_always: dict[str, str] = {}


def configure(settings: LogSettings, part: str) -> None:
    """Send every log line of this process to standard error.

    Parameters
    ----------
    settings : LogSettings
    part : str
        Which part of the node this process is, such as ``worker-1``; stands in every line.
    """
    _always.clear()
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _logger, _name, event: {**_always, **event, "part": part},
        _describe_exception,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(pad_event_to=28)
        if console
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.level.upper(), force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
    structlog.configure(
        # Rendered and written here: by way of a logger of the standard library a line takes 50
        # microseconds instead of 20, and a sender of one image per association makes two for each.
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.level.upper()]
        ),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )


def name_worker(worker: str) -> None:
    """Have every line of this process say which worker wrote it, as ``v_workers`` names it.

    Context variables would not do: a thread has its own, and libraries start threads.
    """
    _always["worker"] = worker


class _Lines:
    """Writes lines to standard error; one that cannot be written must not stop what is logged."""

    def __init__(self, *_name: str) -> None:
        self._stream = sys.stderr

    def msg(self, line: str) -> None:
        """Write a line, at once and as a whole."""
        with suppress(OSError, ValueError):  # the disk is full, nobody reads, or it is closed
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


def _describe_exception(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    info = event.pop("exc_info", None)
    if not info:
        return event
    error = info if isinstance(info, BaseException) else sys.exc_info()[1]
    if isinstance(info, tuple):
        error = info[1]
    if error is not None:
        event["error"] = describe(error)
        event["frames"] = [
            f"{Path(frame.filename).name}:{frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
    return event


def describe(error: BaseException) -> str:
    """Return what may be said of an error outside the process."""
    return str(error) if isinstance(error, _OURS) else type(error).__name__
