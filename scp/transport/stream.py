"""The byte stream of a connection, cut into PDUs and fragments of messages (PS3.8 Section 9.3).

Nothing here reads or writes anything: a caller receives into `PduStream.space` and takes what has
become whole with `PduStream.next`. A P-DATA-TF PDU need not be whole: each presentation data value
(PDV) in it is given out piece by piece, as views of the receive buffer, however long it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TypeAlias

from ..errors import ProtocolError

P_DATA_TF = 4
_KNOWN_TYPES = range(1, 8)
_PDU_HEADER = Struct(">BxL")
_PDV_HEADER = Struct(">LBB")
# Bits of the message control header (PS3.8 Section E.2).
IS_COMMAND = 1
IS_LAST = 2

_FIRST_CAPACITY = 4096
# For data, and then more as long as it is filled: a small image has no use for a large buffer,
# whose memory takes longer to get than to fill.
_DATA_CAPACITY = 64 * 1024
_GROWTH = 4
# Enough that system calls are few, little enough that a thousand associations do no harm.
_STREAM_CAPACITY = 1024 * 1024
# PDUs that are not P-DATA-TF are kept whole. An A-ASSOCIATE-RQ with 128 presentation contexts of 40
# transfer syntaxes each takes 160 KiB.
MAX_WHOLE_PDU = 256 * 1024


@dataclass(frozen=True, slots=True)
class WholePdu:
    """A PDU with its header."""

    data: bytes


@dataclass(slots=True)  # not frozen: one is made for every piece, and freezing is slow
class Fragment:
    """A piece of a presentation data value.

    Attributes
    ----------
    context_id : int
        Presentation context ID.
    is_command : bool
        Part of a command set; otherwise of a data set.
    is_last : bool
        The command set or data set ends with this piece.
    data : memoryview
        Valid until `PduStream.space` is called again; see there.
    """

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


Piece: TypeAlias = WholePdu | Fragment


class PduStream:
    """One direction of one connection."""

    def __init__(self) -> None:
        self._buffer = bytearray(_FIRST_CAPACITY)
        self._view = memoryview(self._buffer)
        self._spare: bytearray | None = None
        self._start = self._end = 0
        self._was_filled = False
        self._pdu_left = 0  # of the P-DATA-TF PDU that is being given out
        self._pdv_left = 0
        self._context_id = 0
        self._control = 0

    @property
    def is_inside_pdu(self) -> bool:
        """Whether the bytes so far end inside a PDU."""
        return bool(self._pdu_left or self._start < self._end)

    def space(self, *, is_held: bool = False) -> memoryview:
        """Return where to receive; fragments given out before are invalid from now on.

        Parameters
        ----------
        is_held : bool
            Fragments given out since the last call stay valid, until the next one.
        """
        rest = self._end - self._start
        if is_held:
            self._swap()
        else:
            self._spare = None
        if not rest:
            self._start = self._end = 0
        elif self._start:
            self._view[:rest] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, rest
        capacity = len(self._buffer)
        if self._pdu_left and capacity < _STREAM_CAPACITY:
            if self._was_filled or capacity < _DATA_CAPACITY:
                self._grow(min(max(_GROWTH * capacity, _DATA_CAPACITY), _STREAM_CAPACITY))
        elif self._end == len(self._buffer):
            # For a PDU to be kept whole, as far as it has come: its length is only a claim.
            self._grow(min(2 * self._end, MAX_WHOLE_PDU + _PDU_HEADER.size))
        return self._view[self._end :]

    def received(self, n_bytes: int) -> None:
        """Say how many bytes came into `space`."""
        self._end += n_bytes
        self._was_filled = self._end == len(self._buffer)

    def next(self, *, cut_data: bool) -> Piece | None:
        """Return the next piece, or None when more bytes are needed.

        Parameters
        ----------
        cut_data : bool
            Give P-DATA-TF PDUs out as fragments. False where the state machine has to judge the
            PDU as such, because no data is expected.

        Raises
        ------
        ProtocolError
            If the bytes are no PDUs. Nothing can be read after that.
        """
        while True:
            if self._pdv_left:
                return self._piece_of_pdv()
            if self._pdu_left:
                if not self._begin_pdv():
                    return None
                if not self._pdv_left:  # a PDV may be empty, the last one of a message above all
                    return self._fragment(self._start, self._start)
                continue
            if self._end - self._start < _PDU_HEADER.size:
                return None
            kind, length = _PDU_HEADER.unpack_from(self._buffer, self._start)
            if kind not in _KNOWN_TYPES:
                raise ProtocolError(f"no PDU has type 0x{kind:02X}")
            if kind != P_DATA_TF or not cut_data:
                return self._whole(length)
            if not length:
                raise ProtocolError("a P-DATA-TF PDU without a presentation data value")
            self._start += _PDU_HEADER.size
            self._pdu_left = length

    def _swap(self) -> None:
        """Go on in another buffer; the one before it is free by now."""
        rest = self._end - self._start
        other = self._spare
        if other is None or len(other) < len(self._buffer):
            other = bytearray(len(self._buffer))
        other[:rest] = self._view[self._start : self._end]
        self._spare, self._buffer, self._view = self._buffer, other, memoryview(other)
        self._start, self._end = 0, rest

    def _grow(self, capacity: int) -> None:
        larger = bytearray(capacity)
        larger[: self._end] = self._view[: self._end]
        self._buffer, self._view = larger, memoryview(larger)

    def _whole(self, length: int) -> WholePdu | None:
        if length > MAX_WHOLE_PDU:
            raise ProtocolError(f"a PDU of {length} bytes, {MAX_WHOLE_PDU} are accepted")
        end = self._start + _PDU_HEADER.size + length
        if end > self._end:
            return None
        data = bytes(self._view[self._start : end])
        self._start = end
        return WholePdu(data)

    def _begin_pdv(self) -> bool:
        if self._pdu_left < _PDV_HEADER.size:
            raise ProtocolError("a presentation data value without a header")
        if self._end - self._start < _PDV_HEADER.size:
            return False
        length, self._context_id, self._control = _PDV_HEADER.unpack_from(self._buffer, self._start)
        # The length counts the presentation context ID and the message control header.
        if not 2 <= length <= self._pdu_left - 4:
            raise ProtocolError("the length of a presentation data value does not fit its PDU")
        self._start += _PDV_HEADER.size
        self._pdu_left -= _PDV_HEADER.size
        self._pdv_left = length - 2
        return True

    def _piece_of_pdv(self) -> Fragment | None:
        end = min(self._end, self._start + self._pdv_left)
        if end == self._start:
            return None
        start, self._start = self._start, end
        self._pdv_left -= end - start
        self._pdu_left -= end - start
        return self._fragment(start, end)

    def _fragment(self, start: int, end: int) -> Fragment:
        return Fragment(
            self._context_id,
            bool(self._control & IS_COMMAND),
            bool(self._control & IS_LAST) and not self._pdv_left,
            self._view[start:end],
        )
