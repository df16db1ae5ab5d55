"""What all fuzzing shares: the seed, the folder of its modules, and threads that must not crash."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from inputs import SEED


def pytest_report_header() -> str:
    return f"fuzzing: FUZZ_SEED={SEED} repeats the inputs of this run"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What pynetdicom and pydicom say of hostile bytes would take longer than the bytes."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def crashes() -> Iterator[list[str]]:
    """Exceptions that ended a thread; none may."""
    found: list[str] = []
    before = threading.excepthook

    def note(raised: threading.ExceptHookArgs) -> None:
        crash = f"{raised.exc_type.__name__}: {raised.exc_value}"
        if crash not in found:
            found.append(crash)
            before(raised)

    threading.excepthook = note
    yield found
    threading.excepthook = before
    assert not found, found
