"""Messages, put together from their fragments (PS3.7 Section 6.3.1, PS3.8 Annex E).

The data set of a C-STORE request goes to its reception fragment by fragment, and so does that of
N-ACTION and N-EVENT-REPORT. C-ECHO is answered here, and so is every other request: that this node
does not perform it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..errors import ProtocolError
from .command import (
    C_ECHO_RQ,
    C_STORE_RQ,
    N_EVENT_REPORT_RSP,
    Command,
    Notice,
    Outcome,
    read_command,
)
from .stream import Fragment

# A command set has a dozen elements, of which the longest is a list of attributes.
_MAX_COMMAND = 64 * 1024
_SUCCESS = Outcome(0x0000)
# Unrecognized operation (PS3.7 Section C.5.24).
_UNRECOGNIZED = Outcome(0x0211)


class Reception(Protocol):
    """A data set that is being received; see `scp.receive.Reception`."""

    def write(self, data: memoryview) -> None:
        """Take the next bytes; their memory is valid until they were flushed. Never raises."""

    def flush(self) -> bool:
        """Let go of the memory that `write` was given before. Never raises.

        Returns
        -------
        bool
            True to use what was given since the last `flush` until the next one.
        """

    def finish(self) -> Outcome:
        """Keep the data set; return what to answer. Never raises."""

    def discard(self) -> None:
        """Forget the data set: the association ended inside it."""


class StoreService(Protocol):
    """What requests are given to."""

    def begin(self, association: Any, command: Command, transfer_syntax_uid: str) -> Reception:
        """Return where the data set of a C-STORE request goes. Never raises."""

    def begin_notice(self, association: Any, context: Any, request: Notice) -> Reception | None:
        """Return where the data set of N-ACTION or N-EVENT-REPORT goes. Never raises.

        Parameters
        ----------
        context : pynetdicom.presentation.PresentationContextTuple
            The one that it came in, with its one transfer syntax.

        Returns
        -------
        Reception or None
            None for a service that this node does not perform.
        """


class Messages:
    """The messages of one association.

    Parameters
    ----------
    begin : callable
        Given presentation context ID and C-STORE request, returns the reception; raises
        `ProtocolError` if the context was not accepted.
    answer : callable
        Given presentation context ID, request and outcome, sends the response.
    begin_notice : callable, optional
        Given presentation context ID and a request of N-ACTION or N-EVENT-REPORT, returns the
        reception, or None if it is not performed.
    answered : callable, optional
        Given the response to an N-EVENT-REPORT request of this node.
    """

    def __init__(
        self,
        begin: Callable[[int, Command], Reception],
        answer: Callable[[int, Command, Outcome], None],
        begin_notice: Callable[[int, Notice], Reception | None] = lambda _context, _request: None,
        answered: Callable[[Notice], None] = lambda _response: None,
    ) -> None:
        self._begin = begin
        self._begin_notice = begin_notice
        self._answer = answer
        self._answered = answered
        self._encoded = bytearray()
        self._command: Command | None = None
        self._context_id: int | None = None
        self._reception: Reception | None = None

    def take(self, fragment: Fragment) -> None:
        """Take the next fragment; answer what it completes.

        Raises
        ------
        ProtocolError
            If it cannot stand where it stands.
        """
        if self._context_id is None:
            self._context_id = fragment.context_id
        elif self._context_id != fragment.context_id:
            raise ProtocolError("a message in two presentation contexts")
        if fragment.is_command:
            self._take_command(fragment)
        else:
            self._take_data_set(fragment)

    def flush(self) -> bool:
        """Let go of the memory of fragments; True if that of the last ones is still in use."""
        return self._reception is not None and self._reception.flush()

    def discard(self) -> None:
        """Forget a message that will not be completed."""
        if self._reception is not None:
            self._reception.discard()
        self._reset()

    @property
    def is_inside_message(self) -> bool:
        """Whether more fragments have to come."""
        return self._context_id is not None

    def _take_command(self, fragment: Fragment) -> None:
        if self._command is not None:
            raise ProtocolError("a command set inside a data set")
        if len(self._encoded) + len(fragment.data) > _MAX_COMMAND:
            raise ProtocolError(f"a command set of more than {_MAX_COMMAND} bytes")
        self._encoded += fragment.data
        if fragment.is_last:
            self._command = read_command(self._encoded)
            self._command_complete(fragment.context_id, self._command)

    def _command_complete(self, context_id: int, command: Command) -> None:
        if command.field == C_STORE_RQ:
            if command.message_id < 0:
                raise ProtocolError("a C-STORE request without a Message ID")
            self._reception = self._begin(context_id, command)
        elif isinstance(command, Notice) and command.is_request:
            self._reception = self._begin_notice(context_id, command)
        if not command.has_data_set:
            self._message_complete(context_id, command)

    def _take_data_set(self, fragment: Fragment) -> None:
        if self._command is None:
            raise ProtocolError("a data set without a command set")
        if self._reception is not None:
            self._reception.write(fragment.data)
        if fragment.is_last:
            self._message_complete(fragment.context_id, self._command)

    def _message_complete(self, context_id: int, command: Command) -> None:
        reception = self._reception
        self._reset()
        if reception is not None:
            self._answer(context_id, command, reception.finish())
        elif command.is_request:
            is_echo = command.field == C_ECHO_RQ
            self._answer(context_id, command, _SUCCESS if is_echo else _UNRECOGNIZED)
        elif isinstance(command, Notice) and command.field == N_EVENT_REPORT_RSP:
            self._answered(command)

    def _reset(self) -> None:
        self._encoded.clear()
        self._command = self._context_id = self._reception = None
