"""The streaming transport: one thread for an association, images straight from socket to disk.

pynetdicom's state machine, negotiation and service classes stay in charge of every association.
What is replaced is how bytes reach them. Its own reactor runs two threads for each association,
which wake a thousand times a second to look for work, and collects whole data sets in memory. Here
the association's one thread sleeps in the kernel until bytes come, and the fragments of a C-STORE
go on as they are.

`stream` cuts the byte stream into PDUs and fragments (PS3.8 Section 9.3 and Annex E), `command`
reads and writes command sets (PS3.7 Section 6.3), `messages` puts the two together into messages,
`negotiation` answers requests that are known, `reports` sends N-EVENT-REPORT, `upper_layer` drives
the state machine (PS3.8 Section 9.2) and `association` is the thread.

Internals of pynetdicom are subclassed, so the package is pinned to a minor version, and
`tests/scp/test_pynetdicom_internals.py` fails when what is relied upon changes.
"""

from .association import StreamingAssociation
from .messages import Reception, StoreService
from .negotiation import Negotiations
from .reports import EventReport, Reports

__all__ = [
    "EventReport",
    "Negotiations",
    "Reception",
    "Reports",
    "StoreService",
    "StreamingAssociation",
]
