"""The one error root of this room."""


class DeployError(Exception):
    """The node cannot do what was asked; the message is one line for the person who asked."""


class SettingsError(DeployError):
    """A setting is unknown or has a value that cannot be; the message names it."""


class NodeError(DeployError):
    """A part of the node cannot start or keeps ending."""
