"""Where results go, by their kind and by who sent the images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from db.outcomes import Destined
from deploy import delivering
from deploy.delivering import stop_together
from deploy.destined import destinations_for
from deploy.settings import load


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_destination_gets_what_it_wants_and_when_it_is_given_up() -> None:
    Path("preread.toml").write_text(
        """
        [[ae]]
        name = "CT1"
        host = "ct1"
        port = 104
        [[destination]]
        name = "pacs"
        ae_title = "PACS"
        host = "pacs"
        port = 104
        objects = ["sr", "ko"]
        deadline_hours = 24
        [[destination]]
        name = "web"
        url = "https://pacs/dicom-web"
        objects = ["sc"]
        from_ae = ["DX*"]
        [[destination]]
        name = "back"
        reply = true
        """
    )
    destined = destinations_for(load())
    assert destined("ko", None) == (Destined("pacs", 24.0),)
    assert destined("sr", "CT1") == (Destined("pacs", 24.0), Destined("back:CT1", 168.0))
    assert destined("sc", "DX7") == (Destined("web", 168.0),)
    assert destined("sc", None) == ()


class Slow:
    """A part that takes as long as it is let, but not before the others know."""

    def __init__(self, told: list[str], name: str, clock: list[float]) -> None:
        self.told, self.name, self.clock, self.let = told, name, clock, -1.0

    def start(self) -> None:
        """Have nothing to start."""

    def tell_to_stop(self) -> None:
        self.told.append(self.name)

    def stop(self, seconds: float = 30.0) -> None:
        assert len(self.told) == 3
        self.let = seconds
        self.clock[0] += min(seconds, 20.0)


def test_parts_that_deliver_stop_together(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    clock = [1000.0]
    monkeypatch.setattr(delivering, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    parts = [Slow(told, name, clock) for name in ("deliverer", "notifier", "reporter")]
    stop_together(parts, 30.0)
    assert [part.let for part in parts] == [30.0, 10.0, 0.0]
