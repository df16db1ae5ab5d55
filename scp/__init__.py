"""DICOM on the network, in and out.

Receives images by C-STORE and keeps their bytes as they came (`StorageServer`), finds the series
that are complete and decides which model reads them (`SeriesWatch`, `rules_in_force`), and sends:
files on behalf of a person (`send_files`) and results to the destinations (`Deliverer`). Whoever
asks whether images are kept safe is answered (`StorageCommitment`, `CommitmentDesk`, and on an
association of our own `CommitmentReporter`). Settings are in `scp.settings`, errors in
`scp.errors`.
"""

from .commitment_desk import CommitmentDesk
from .commitment_report import CommitmentReporter
from .commitment_scp import StorageCommitment
from .deliver import Deliverer, Destination, Guards
from .facts import explain
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
    "explain",
    "rules_in_force",
    "send_files",
]
