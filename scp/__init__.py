"""DICOM on the network, in and out.

Receives images by C-STORE and keeps their bytes as they came (`StorageServer`), finds the series
that are complete and decides which model reads them (`SeriesWatch`, `rules_in_force`), and sends:
files on behalf of a person (`send_files`) and results to the destinations (`Deliverer`). Settings
are in `scp.settings`, errors in `scp.errors`.
"""

from .deliver import Deliverer, Destination, Guards
from .facts import explain
from .requestor import Peer
from .rules import rules_in_force
from .send import send_files
from .series import SeriesWatch
from .server import StorageServer

__all__ = [
    "Deliverer",
    "Destination",
    "Guards",
    "Peer",
    "SeriesWatch",
    "StorageServer",
    "explain",
    "rules_in_force",
    "send_files",
]
