"""What must be understood of the bytes that a peer sent: a second reading of the standard.

It has all bytes at once and no state between them, so it is short enough to be believed. PDUs as in
PS3.8 Section 9.3, values and fragments as in PS3.8 Annex E, command sets as in PS3.7 Section 6.3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

MOST_WHOLE = 256 << 10
MOST_COMMAND = 1 << 16
_RELEASE_RQ, _RELEASE_RP, _ABORT = 5, 6, 7


class Wrong(Exception):  # noqa: N818 - an outcome, not an error
    """From here on nothing can be understood; the association must be aborted."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A C-STORE request that came with all it needs."""

    context_id: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Echoed:
    context_id: int
    message_id: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that the node does not perform (status 0x0211)."""

    context_id: int
    field: int
    message_id: int


@dataclass(frozen=True, slots=True)
class Part:
    context_id: int
    is_command: bool
    is_last: bool
    data: bytes


@dataclass(slots=True)
class Understood:
    """Everything in the order in which it became complete."""

    found: list[bytes | Stored | Echoed | Refused] = field(default_factory=list)
    is_wrong: bool = False
    n_begun: int = 0

    @property
    def stored(self) -> list[Stored]:
        return [one for one in self.found if isinstance(one, Stored)]


def understand(
    data: bytes, accepted: Collection[int] = range(256), *, established: bool = False
) -> Understood:
    """Read a whole conversation.

    Parameters
    ----------
    established : bool
        Data may come at once; otherwise only after an A-ASSOCIATE-RQ.
    """
    result = Understood()
    message = _Message(result, accepted)
    try:
        for piece in _pieces(data, established):
            if isinstance(piece, bytes):
                result.found.append(piece)
            else:
                message.take(piece)
    except Wrong:
        result.is_wrong = True
    return result


def _pieces(data: bytes, established: bool) -> Iterator[bytes | Part]:
    at = 0
    while len(data) - at >= 6:
        kind, length = data[at], int.from_bytes(data[at + 2 : at + 6], "big")
        if not 1 <= kind <= 7:
            raise Wrong
        if kind == 4 and established:
            end = at + 6 + length
            if not length:
                raise Wrong
            yield from _values(data, at + 6, end)
        else:
            if length > MOST_WHOLE:
                raise Wrong
            end = at + 6 + length
            if end > len(data):
                return
            yield data[at:end]
            established = established or kind == 1
            if kind in (_RELEASE_RQ, _RELEASE_RP, _ABORT):
                return
        at = end


def _values(data: bytes, at: int, end: int) -> Iterator[Part]:
    while at < end:
        if end - at < 6:
            raise Wrong
        if len(data) - at < 6:
            return
        length = int.from_bytes(data[at : at + 4], "big")
        context_id, control = data[at + 4], data[at + 5]
        if length < 2 or at + 4 + length > end:
            raise Wrong
        value = data[at + 6 : at + 4 + length]
        is_whole = len(value) == length - 2
        if value or is_whole:
            yield Part(context_id, bool(control & 1), bool(control & 2) and is_whole, value)
        if not is_whole:
            return
        at += 4 + length


class _Message:
    def __init__(self, result: Understood, accepted: Collection[int]) -> None:
        self._result = result
        self._accepted = accepted
        self._forget()

    def _forget(self) -> None:
        self._context_id: int | None = None
        self._command = b""
        self._elements: dict[int, bytes] | None = None
        self._parts: list[bytes] = []

    def take(self, part: Part) -> None:
        if self._context_id not in (None, part.context_id):
            raise Wrong
        self._context_id = part.context_id
        if part.is_command:
            self._take_command(part)
        elif self._elements is None:
            raise Wrong
        else:
            self._parts.append(part.data)
            if part.is_last:
                self._complete(b"".join(self._parts))

    def _take_command(self, part: Part) -> None:
        self._command += part.data
        if self._elements is not None or len(self._command) > MOST_COMMAND:
            raise Wrong
        if not part.is_last:
            return
        self._elements = read_elements(self._command)
        if self._number(0x0100) == 1:
            if self._number(0x0110) < 0 or part.context_id not in self._accepted:
                raise Wrong
            self._result.n_begun += 1
        if self._number(0x0800) == 0x0101:
            self._complete(None)

    def _complete(self, data: bytes | None) -> None:
        assert self._context_id is not None
        field, message_id = self._number(0x0100), self._number(0x0110)
        one: Stored | Echoed | Refused | None = None
        if field == 1:
            one = Stored(
                self._context_id, message_id, self._text(0x0002), self._text(0x1000), data or b""
            )
        elif 0 <= field < 0x8000 and field != 0x0FFF and message_id >= 0:
            if self._context_id not in self._accepted:
                raise Wrong
            if field == 0x30:
                one = Echoed(self._context_id, message_id)
            else:
                one = Refused(self._context_id, field, message_id)
        self._forget()
        if one is not None:
            self._result.found.append(one)

    def _number(self, tag: int) -> int:
        value = (self._elements or {}).get(tag, b"")
        return int.from_bytes(value, "little") if len(value) == 2 else -1

    def _text(self, tag: int) -> str:
        value = (self._elements or {}).get(tag, b"")
        return "".join(chr(one) if one < 128 else "�" for one in value).strip(" \0")


def read_elements(command: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(command):
        head = command[at : at + 8]
        length = int.from_bytes(head[4:], "little")
        at += 8
        if len(head) < 8 or head[:2] != b"\0\0" or at + length > len(command):
            raise Wrong
        found[int.from_bytes(head[2:4], "little")] = command[at : at + length]
        at += length
    return found
