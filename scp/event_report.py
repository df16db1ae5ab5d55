"""N-EVENT-REPORT by pynetdicom's reactor, in whichever direction the association was opened."""

from __future__ import annotations

from io import BytesIO

from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT

from .deadline import deadline
from .errors import UnreachableError
from .requestor import exclusive
from .transport.reports import EventReport


def send_event_report(
    association: Association, report: EventReport, message_id: int, seconds: float
) -> int:
    """Send one N-EVENT-REPORT and return the status of the response (PS3.7 Section 10.1.1).

    Not pynetdicom's own, which waits for ever on an association that has just ended.

    Parameters
    ----------
    seconds : float
        How long the exchange may take before the connection is shut down.

    Raises
    ------
    UnreachableError
        If there is no response, or something else came instead.
    """
    request = N_EVENT_REPORT()
    request.MessageID = message_id
    request.AffectedSOPClassUID = UID(report.sop_class_uid)
    request.AffectedSOPInstanceUID = UID(report.sop_instance_uid)
    request.EventTypeID = report.event_type
    request.EventInformation = BytesIO(report.information)
    with deadline(association, seconds), exclusive(association):
        association.dimse.send_msg(request, report.context_id)
        _, response = association.dimse.get_msg(block=True)
    if response is None:
        raise UnreachableError("the association broke before the report was answered")
    status = getattr(response, "Status", None)
    if not isinstance(response, N_EVENT_REPORT) or status is None:
        # A message of the peer is lost with it: going on would leave the peer without a response.
        association.abort()
        raise UnreachableError("something else came in place of the response to the report")
    return int(status)
