"""Command sets, data sets, headers and file heads: an answer or the error of the room, in time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import pytest
from conversation import command_bytes, messages_of
from damage import damage_bytes, damage_command
from data_sets import SYNTAXES, compressed, encoded_data_set, is_deflated
from inputs import Rng, run
from model import Wrong, read_elements

from scp.deflate import inflate
from scp.errors import ProtocolError, ScpError
from scp.header import WANTED, read_header
from scp.part10 import file_head, read_layout
from scp.structure import walk
from scp.transport.command import Outcome, p_data, read_command, response

N_COMMANDS, N_DATA_SETS, N_FILES = (1_000, 20_000), (2_500, 80_000), (500, 10_000)
# CPU seconds: a constant, and so much for each byte. Ten times what the slowest takes.
_AT_ONCE, _PER_BYTE = 0.01, 50e-6


def bounded(n_bytes: int, call: Callable[[], None]) -> None:
    """Call, up to three times because hosts are busy; it must be as fast as its input allows."""
    for _ in range(3):
        started = time.thread_time()
        call()
        taken = time.thread_time() - started
        if taken <= _AT_ONCE + _PER_BYTE * n_bytes:
            return
    raise AssertionError(f"{taken:.3f} s for {n_bytes} bytes")


def one_command(rng: Rng) -> None:
    message = messages_of(rng, 1)[0]
    for _ in range(1 + rng.small(3)):
        damage_command(rng, message)
    data = rng.made = command_bytes(message.command)
    if rng.chance(0.3):
        data = rng.made = damage_bytes(rng, data)
    try:
        command = read_command(data)
    except ProtocolError:
        assert _is_wrong(data)
        return
    elements = read_elements(data)
    assert command.has_data_set == (elements.get(0x0800) != b"\1\1")
    if command.field not in (0x0001, 0x0030) or command.message_id < 0:
        return
    answer = response(command, Outcome(0xC000, "no data element", (0x00080018,)))
    answered = read_elements(answer)
    assert answered[0x0120] == elements[0x0110]
    assert answered[0x0900] == b"\0\xc0"
    most = rng.choice((0, 1, 7, 8, 100, 16384))
    body = b"".join(pdu[12:] for pdu in p_data(1, answer, most))
    assert body == answer


def _is_wrong(data: bytes) -> bool:
    try:
        read_elements(data)
    except Wrong:
        return True
    return False


def one_data_set(rng: Rng) -> None:
    syntax = rng.choice(SYNTAXES)
    data = encoded_data_set(rng, syntax)
    whole = rng.chance(0.1)
    if not whole and rng.chance(0.9):
        data = damage_bytes(rng, data, 5)
    n_bytes = len(data)
    if is_deflated(syntax):
        data = compressed(rng, data)
        if not whole and rng.chance(0.3):
            data = damage_bytes(rng, data)
            n_bytes = _inflated(data)
    rng.made = data
    bounded(n_bytes + len(data), lambda: _read(memoryview(data), syntax))


def _inflated(data: bytes) -> int:
    try:
        return len(inflate(data)[0])
    except ScpError:
        return 32 * len(data)


def _read(data: memoryview, syntax: str) -> None:
    try:
        found = walk(data, syntax, WANTED)
    except ScpError as error:
        assert len(str(error)) < 200
        with pytest.raises(ScpError):
            read_header(data, syntax)
        return
    assert found.n_elements > 0
    try:
        header = read_header(data, syntax)
    except ScpError as error:
        assert len(str(error)) < 200
        return
    for value in dataclasses.asdict(header).values():
        if isinstance(value, str):  # PostgreSQL must take it
            assert "\0" not in value
            value.encode("utf-8")
            assert value == value.strip() or value == ""
        elif value is not None:
            assert abs(value) < 2**63


def one_file(rng: Rng) -> None:
    syntax = rng.choice(SYNTAXES)
    data = file_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", syntax, "SENDER")
    start = len(data)
    data += encoded_data_set(rng, syntax, 1)
    if rng.chance(0.9):
        head = bytearray(data[:start])
        damaged = damage_bytes(rng, bytes(head[132:]), 4)
        data = bytes(head[:132]) + damaged + data[start:]
    if rng.chance(0.2):
        data = damage_bytes(rng, data)
    rng.made = data
    bounded(len(data), lambda: _layout(data))


def _layout(data: bytes) -> None:
    try:
        layout = read_layout(memoryview(data))
    except ScpError:
        return
    assert 132 <= layout.data_set_offset <= len(data)


FAMILIES = {
    "command": (one_command, N_COMMANDS),
    "data set": (one_data_set, N_DATA_SETS),
    "file": (one_file, N_FILES),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes(family: str) -> None:
    check, (n_normal, _) = FAMILIES[family]
    run(family, n_normal, check)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_many_bytes(family: str) -> None:
    check, (_, n_slow) = FAMILIES[family]
    run(family, n_slow, check)


def test_what_is_not_damaged_is_read() -> None:
    rng, n_read = Rng("undamaged"), 0
    for _ in range(400):
        syntax = rng.choice(SYNTAXES)
        data = encoded_data_set(rng, syntax)
        data = compressed(rng, data) if is_deflated(syntax) else data
        try:
            n_read += walk(data, syntax).n_elements > 0
        except ScpError as error:
            assert "UN" not in str(error)
    assert n_read > 300
