"""Where results go, by their kind and by who sent the images."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.outcomes import Destined
from deploy.node import destinations_for
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
