"""``preread demo``: from sample images to reports in a PACS, with everything real but the PACS.

A node runs on SQLite in a folder of its own, and beside it, in this process, a storage SCP that
stands for the PACS. Studies go in by C-STORE, reports come out by C-STORE.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pynetdicom import AE, AllStoragePresentationContexts, evt

from scp import Peer, send_files
from scp.errors import ScpError
from scp.verify import echo

from .errors import NodeError

PACS_AE_TITLE = "DEMOPACS"
NODE_AE_TITLE = "PREREAD"
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class SampleStudy:
    """One study to send, and what it is."""

    name: str
    files: tuple[Path, ...]


@dataclass
class DemoPacs:
    """A storage SCP that keeps what it is sent in memory."""

    port: int
    received: list[pydicom.Dataset] = field(default_factory=list)

    def store(self, event: evt.Event) -> int:
        """Keep one object."""
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        self.received.append(dataset)
        return 0x0000


@contextmanager
def demo_pacs() -> Iterator[DemoPacs]:
    """Run a storage SCP on a free port of this host."""
    entity = AE(PACS_AE_TITLE)
    entity.supported_contexts = AllStoragePresentationContexts
    pacs = DemoPacs(free_port())
    server = entity.start_server(
        ("127.0.0.1", pacs.port), block=False, evt_handlers=[(evt.EVT_C_STORE, pacs.store)]
    )
    assert server is not None, "a server that does not block is returned"
    try:
        yield pacs
    finally:
        server.shutdown()


def write_settings(folder: Path, port: int, pacs_port: int) -> Path:
    """Write the settings of the demonstration node; they are an example to start from."""
    path = folder / "preread.toml"
    path.write_text(
        f"""\
data_dir = "{folder / "data"}"

[scp]
ae_title = "{NODE_AE_TITLE}"
host = "127.0.0.1"
port = {port}
quiet_seconds = 2
min_free_disk_mb = 64

[log]
level = "info"
format = "json"

[[destination]]
name = "pacs"
ae_title = "{PACS_AE_TITLE}"
host = "127.0.0.1"
port = {pacs_port}
objects = ["sr", "sc", "ko", "seg"]
""",
        encoding="utf-8",
    )
    return path


def sample_studies(folder: Path, say: Callable[[str], None]) -> list[SampleStudy]:
    """Make the phantoms and find the real samples that are installed."""
    from inference.training.phantoms.files import write_chest, write_head_series

    studies = [
        SampleStudy(
            "head CT phantom with a bleed",
            tuple(write_head_series(folder / "head-bleed", seed=11, bleed="intraparenchymal")),
        ),
        SampleStudy(
            "head CT phantom without one",
            tuple(write_head_series(folder / "head-normal", seed=12, bleed=None)),
        ),
        SampleStudy(
            "chest phantom with a pneumothorax",
            (write_chest(folder / "chest-phantom", seed=13, pneumothorax=True),),
        ),
    ]
    for name, file in (
        ("chest X-ray of a person (pydicom-data)", "RG1_UNCR.dcm"),
        ("ultrasound image that no model reads", "US1_UNCR.dcm"),
    ):
        path = _installed_sample(file)
        if path is None:
            say(f"left out: {name}, because the package pydicom-data is not installed")
        else:
            studies.append(SampleStudy(name, (path,)))
    return studies


def _installed_sample(name: str) -> Path | None:
    from pydicom.data import get_testdata_file

    found = get_testdata_file(name, download=False)
    return Path(str(found)) if found else None


@contextmanager
def demo_node(settings_file: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``preread up`` until the block ends; its log goes to ``node.log`` beside the settings."""
    with settings_file.with_name("node.log").open("wb") as log:
        node = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "deploy", "up", "--config", str(settings_file)], stderr=log
        )
        try:
            _wait_for_node(node, port, settings_file)
            yield node
        finally:
            node.send_signal(signal.SIGTERM)
            try:
                node.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                node.kill()
                raise NodeError("the node did not end within a minute") from None


def _wait_for_node(node: subprocess.Popen[bytes], port: int, settings_file: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    peer = Peer("127.0.0.1", port, NODE_AE_TITLE, "DEMO", 5.0)
    while time.monotonic() < deadline:
        if node.poll() is not None:
            break
        try:
            echo(peer)
        except ScpError:
            time.sleep(0.2)
        else:
            return
    raise NodeError(f"the node did not start; see {settings_file.with_name('node.log')}")


def send(study: SampleStudy, port: int) -> None:
    """Send a study by C-STORE, as a modality would."""
    peer = Peer("127.0.0.1", port, NODE_AE_TITLE, "MODALITY")
    report = send_files(peer, study.files)
    if not report.ok:
        raise NodeError(f"{study.name} was not stored: {report.failure or 'refused'}")


def export(received: Sequence[pydicom.Dataset], folder: Path) -> None:
    """Write reports as web pages and captures as pictures, named by patient."""
    from PIL import Image

    from inference.objects.html import render_html

    folder.mkdir(parents=True, exist_ok=True)
    for one in received:
        stem = f"{one.PatientID}-{one.Modality}-{one.InstanceNumber}-{one.StudyID}".lower()
        if one.Modality == "SR":
            (folder / f"{stem}.html").write_text(render_html(one), encoding="utf-8")
        elif one.Modality == "OT":
            Image.fromarray(one.pixel_array).save(folder / f"{stem}.png", optimize=True)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NodeError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(0.2)


def free_port() -> int:
    """Return a TCP port of this host that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
