"""DICOM on the network, in and out.

Receives images by C-STORE and keeps their bytes as they came (`StorageServer`), finds the series
that are complete and decides which model reads them (`SeriesWatch`, `rules_in_force`), and sends:
files on behalf of a person (`send_files`) and results to the destinations (`Deliverer`). Whoever
asks whether images are kept safe is answered (`StorageCommitment`, `CommitmentDesk`, and on an
association of our own `CommitmentReporter`). Settings are in `scp.settings`, errors in
`scp.errors`.

The door opens what is asked for: a process that needs the settings alone does not import the rest.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .commitment_desk import CommitmentDesk
    from .commitment_report import CommitmentReporter
    from .commitment_scp import StorageCommitment
    from .deliver import Deliverer, Destination, Guards
    from .facts import examine
    from .requestor import Peer
    from .rules import rules_in_force
    from .send import send_files
    from .series import SeriesWatch
    from .server import StorageServer

__all__ = [
    "CommitmentDesk",
    "CommitmentReporter",
    "Deliverer",
    "Destination",
    "Guards",
    "Peer",
    "SeriesWatch",
    "StorageCommitment",
    "StorageServer",
    "examine",
    "rules_in_force",
    "send_files",
]

_BEHIND = {
    "CommitmentDesk": "commitment_desk",
    "CommitmentReporter": "commitment_report",
    "Deliverer": "deliver",
    "Destination": "deliver",
    "Guards": "deliver",
    "Peer": "requestor",
    "SeriesWatch": "series",
    "StorageCommitment": "commitment_scp",
    "StorageServer": "server",
    "examine": "facts",
    "rules_in_force": "rules",
    "send_files": "send",
}


def __getattr__(name: str) -> object:
    if name not in _BEHIND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_BEHIND[name]}", __name__), name)
