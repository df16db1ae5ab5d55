"""The one error root of this room."""


class ScpError(Exception):
    """Something on the DICOM network, or in a rule, cannot be done; the message says which."""


class StructureError(ScpError):
    """A data set does not end where its encoding says, or is no data set at all (PS3.5 Section 7).

    Parameters
    ----------
    reason : str
        What is wrong; names the tag and the byte offset, never a value.
    tag : int or None
        The element at fault, as group << 16 | element.
    """

    def __init__(self, reason: str, tag: int | None = None) -> None:
        super().__init__(reason)
        self.tag = tag


class IdentityError(ScpError):
    """A data set lacks an identifying UID, or it contradicts the C-STORE request.

    Parameters
    ----------
    reason : str
        What is wrong; names the attribute.
    tag : int
        The element at fault, as group << 16 | element.
    """

    def __init__(self, reason: str, tag: int) -> None:
        super().__init__(reason)
        self.tag = tag


class InvalidInstanceError(ScpError):
    """The Affected SOP Instance UID of a request violates the rules of UIDs (PS3.5 Section 9.1)."""


class Part10Error(ScpError):
    """A file is not a DICOM file (PS3.10 Section 7)."""


class ProtocolError(ScpError):
    """What a peer sent is no PDU or no message (PS3.7, PS3.8); the association is aborted."""


class ServerError(ScpError):
    """The SCP cannot be started."""


class AssociationError(ScpError):
    """An association with a peer could not be opened or was lost."""


class UnreachableError(AssociationError):
    """A peer did not answer, or broke off: it may do so whatever it is sent.

    Parameters
    ----------
    reason : str
    has_begun : bool
        Whether it broke off while it was sent something, which may have been the cause.
    """

    def __init__(self, reason: str, *, has_begun: bool = False) -> None:
        super().__init__(reason)
        self.has_begun = has_begun


class RefusedError(AssociationError):
    """A peer answered that it does not do what was asked.

    Parameters
    ----------
    reason : str
    status : str or None
        DIMSE or HTTP status, such as 0x0122 or 404.
    """

    def __init__(self, reason: str, status: str | None = None) -> None:
        super().__init__(reason)
        self.status = status


class FaultError(ScpError):
    """A result object must not be sent: it failed its check, or its file has changed."""


class RuleError(ScpError, ValueError):
    """A routing rule is wrong; the message names the rule, the keyword and the way out."""


class CommitmentError(ScpError):
    """A message of storage commitment cannot be taken.

    Parameters
    ----------
    reason : str
        What is wrong; names the attribute, never a value.
    status : int
        What to answer (PS3.7 Annex C).
    """

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status
