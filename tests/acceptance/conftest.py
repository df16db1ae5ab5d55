"""A whole node and a real Orthanc for each test that asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Node, Orthanc, start_orthanc


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "node")
    made.configure()
    yield made
    if made.process is not None:
        made.kill_everything()


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    made = start_orthanc(tmp_path / "orthanc")
    yield made
    made.process.terminate()
    made.process.wait(30)
