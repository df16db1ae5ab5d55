"""The one error root of this room."""


class DeployError(Exception):
    """The node cannot do what was asked; the message is one line for the person who asked."""


class SettingsError(DeployError):
    """A setting is unknown or has a value that cannot be; the message names it."""


class NodeError(DeployError):
    """A part of the node cannot start or keeps ending."""


class NotifyError(DeployError):
    """A target did not accept a notification.

    The message may be logged: it never quotes the target, whose words may name a patient.

    Parameters
    ----------
    reason : str
    status : str, optional
        HTTP status or HL7 acknowledgment code.
    said : str
        What the target said to it; for the ledger and for people only.
    lasting : bool
        Another attempt would fail likewise.
    """

    def __init__(
        self, reason: str, *, status: str | None = None, said: str = "", lasting: bool = False
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.said = said
        self.lasting = lasting

    @property
    def in_full(self) -> str:
        """The reason with what the target said."""
        return f"{self}: {self.said}" if self.said else str(self)
