"""The load generator sends what it says: valid images, each once, as the receiver reads them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, _config, evt

BENCHMARK = str(Path(__file__).parent)
_CT, _CR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1"


class Scp:
    """pynetdicom's own SCP, with another idea of PDUs than the generator has."""

    def __init__(self) -> None:
        self.received: list[Dataset] = []
        entity = AE("ANY")
        entity.maximum_pdu_size = 20000
        # One that was released counts until its thread has ended.
        entity.maximum_associations = 1000
        entity.add_supported_context(_CT, "1.2.840.10008.1.2.1")
        entity.add_supported_context(_CR, "1.2.840.10008.1.2.4.50")
        entity.add_supported_context("1.2.840.10008.1.1")
        self.server: Any = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def _store(self, event: evt.Event) -> int:
        self.received.append(event.dataset)
        return 0x0000


@pytest.fixture
def scp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scp]:
    # A node in another test of this process may have switched it on, for all of pynetdicom.
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", False)
    made = Scp()
    yield made
    made.server.shutdown()


@pytest.mark.parametrize(
    ("command", "kind"),
    [(["raw", "--associations", "3"], "CT"), (["raw"], "small"), (["one-each"], "small")],
)
def test_everything_that_is_reported_was_received_once(
    scp: Scp, command: list[str], kind: str
) -> None:
    options = ["--kind", kind, "--seconds", "0.3", "--called", "ANY"]
    done = subprocess.run(
        [sys.executable, BENCHMARK, *command, "--port", str(scp.port), *options],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    reported = re.match(r"(\d+) images", done.stdout)
    assert reported is not None
    assert len(scp.received) == int(reported[1]) > 0
    assert len({one.SOPInstanceUID for one in scp.received}) == len(scp.received)
    for one in scp.received:
        assert one.PatientID == one.StudyInstanceUID[-16:]
    assert len({one.PixelData for one in scp.received}) == 1


def test_a_refusal_is_an_error(scp: Scp) -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARK, "raw", "--port", str(scp.port), "--kind", "DX"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode != 0
    assert "DX was not accepted" in done.stderr
