"""What the SCP tells of itself while it works, for whoever counts it.

Methods are called by the threads of the associations, several at once, between the last byte of an
image and its answer: they must be quick and must not raise. Nothing in them names a patient.
"""

from __future__ import annotations


class Observer:
    """Hears of images, associations, commitments and analyses; this one does nothing."""

    def stored(self, result: str, n_bytes: int, seconds: float) -> None:
        """Hear of a C-STORE that was answered with success.

        Parameters
        ----------
        result : str
            What became of it, a `db.ingest.Added`.
        n_bytes : int
            Size of its data set.
        seconds : float
            From the request's command to the answer.
        """

    def refused(self, status: int) -> None:
        """Hear of a C-STORE that was answered with a failure (PS3.4 Section B.2.3)."""

    def association_opened(self) -> None:
        """Hear of an association that was accepted."""

    def association_ended(self, ended_by: str) -> None:
        """Hear of the end of an accepted association, a `db.schema.AssociationEnd`."""

    def association_rejected(self, kind: str) -> None:
        """Hear of a rejection, a `scp.admission.RejectionKind`."""

    def commitment_asked(self) -> None:
        """Hear of a request for storage commitment that was taken."""

    def commitment_refused(self, reason: int) -> None:
        """Hear of an instance that is not committed, a `scp.safekeeping.FailureReason`."""

    def analysis_bounded(self) -> None:
        """Hear of an analysis that is not asked for: its study had its share of the day."""
