"""Every step of a worker and every code of a failure stands in the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from db.worker_events import WorkerStep
from inference import poison, stuck
from inference.engines import errors
from inference.engines.errors import EngineError

TEXT = (Path(__file__).parents[2] / "deploy" / "docs" / "failures.md").read_text()


def codes(of: type[EngineError] = EngineError) -> Iterator[str]:
    yield of.code
    for one in of.__subclasses__():
        yield from codes(one)


def test_steps_and_codes_are_documented() -> None:
    assert poison and errors and stuck  # all that have codes are loaded
    known = {*codes(), "stuck", "worker_lost", "error", "model_changed"}
    assert "poisoned_input" in known and "device_lost" in known
    missing = [one for one in (*known, *WorkerStep) if f"`{one}`" not in TEXT]
    assert missing == []
