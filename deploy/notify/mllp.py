"""HL7 v2 over MLLP: one message a connection, and its acknowledgment.

A message lies between 0x0B and 0x1C 0x0D (HL7 v2.5.1 Implementation Guide, Appendix C.4; MLLP
Release 1). It counts as accepted when MSA-1 is AA or CA and MSA-2 is its control id (HL7 v2.5.1
Section 2.9.2). AE, CE, AR and CR are tried again with everything else: by the standard a reject may
be a receiver's passing state, receivers use the codes as they like, and whoever mends a receiver
must not have to ask for what it missed.
"""

from __future__ import annotations

import socket
import ssl
import time

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException
from hl7apy.parser import get_message_info, parse_segment

from ..errors import NotifyError
from .message import Message
from .oru import CODECS, VERSION, encode
from .settings import NotifySettings
from .webhook import client_context

START, END = b"\x0b", b"\x1c\x0d"
_ACCEPTED = ("AA", "CA")
_REFUSED = ("AE", "CE", "AR", "CR")
_MOST_OF_AN_ANSWER = 1 << 16


class Mllp:
    """Sends to one target.

    Parameters
    ----------
    settings : NotifySettings
        Of kind hl7.
    """

    def __init__(self, settings: NotifySettings) -> None:
        self._settings = settings

    def send(self, message: Message) -> str:
        """Send the message, and return the acknowledgment code that accepted it.

        Raises
        ------
        NotifyError
            If it was not accepted, as far as is known.
        """
        content = encode(message, self._settings)
        context = client_context(self._settings) if self._settings.tls else None
        answer = self._exchange(content, context)
        text = answer.decode(CODECS[self._settings.encoding], errors="replace")
        return accepted(text, message.identifier)

    def _exchange(self, content: bytes, context: ssl.SSLContext | None) -> bytes:
        deadline = time.monotonic() + self._settings.timeout
        host, port = self._settings.host or "", self._settings.port or 0
        try:
            with socket.create_connection((host, port), timeout=_left(deadline)) as plain:
                if context is None:
                    return _talk(plain, content, deadline)
                # The handshake is several reads; each is bounded, and they are few.
                with context.wrap_socket(plain, server_hostname=host) as secured:
                    return _talk(secured, content, deadline)
        except TimeoutError:
            raise NotifyError(f"no answer within {self._settings.timeout:g} s") from None
        except ssl.SSLError as error:
            raise NotifyError(f"TLS failed: {error.reason or type(error).__name__}") from None
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise NotifyError(f"cannot be reached: {why}") from None


def accepted(answer: str, identifier: str) -> str:
    """Return the acknowledgment code of an answer that accepts the message.

    Parameters
    ----------
    answer : str
        What lay between the MLLP characters.
    identifier : str
        Control id (MSH-10) of the message.

    Raises
    ------
    NotifyError
        If it accepts nothing, or another message.
    """
    lines = [line for line in answer.replace("\n", "\r").split("\r") if line]
    try:
        separators, _, _ = get_message_info(lines[0])
        segments = {
            line[:3]: parse_segment(line, VERSION, separators, VALIDATION_LEVEL.TOLERANT)
            for line in reversed(lines)
            if line[:3] in ("MSA", "ERR")
        }
        msa = segments["MSA"]
        code: str = msa.msa_1.to_er7().strip()
        known = msa.msa_2.to_er7().strip()
        said = msa.msa_3.to_er7().strip()
        err = segments.get("ERR")
        if err is not None:
            said = f"{said} {err.to_er7()}".strip()
    except (HL7apyException, LookupError, ValueError, AttributeError):
        # hl7apy also meets text that is no HL7 with the plain errors of Python.
        raise NotifyError("the answer is no HL7 acknowledgment") from None
    if code not in (*_ACCEPTED, *_REFUSED):
        raise NotifyError("the answer has no acknowledgment code (MSA-1)")
    if known != identifier:
        raise NotifyError(
            f"the receiver answered {code} to another message: MSA-2 is not {identifier}",
            status=code,
        )
    if code in _REFUSED:
        raise NotifyError(f"the receiver answered {code}", status=code, said=said)
    return code


def _talk(connection: socket.socket, content: bytes, deadline: float) -> bytes:
    """Send a framed message and return what is framed in the answer."""
    connection.settimeout(_left(deadline))
    connection.sendall(START + content + END)
    received = bytearray()
    while (end := received.find(END[:1])) < 0:
        if len(received) > _MOST_OF_AN_ANSWER:
            raise NotifyError("the answer is no HL7 acknowledgment: it has no end")
        connection.settimeout(_left(deadline))
        piece = connection.recv(4096)
        if not piece:
            raise NotifyError("the connection was closed without an acknowledgment")
        received += piece
    start = received.find(START, 0, end)
    if start < 0:
        raise NotifyError("the answer is no HL7 acknowledgment: it has no start")
    return bytes(received[start + 1 : end])


def _left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
