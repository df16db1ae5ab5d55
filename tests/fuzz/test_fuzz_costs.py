"""What the most expensive bytes cost: CPU for each byte received, memory, nothing that stays."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from association_requests import every_item, presentation_context
from conversation import CONTEXTS, DEFLATED, contexts_item
from encoded import image
from fuzzed_node import FuzzedNode, fuzzed_node
from raw_pdus import (
    CT_IMAGE,
    EXPLICIT_LITTLE,
    P_DATA,
    associate_request,
    command_set,
    echo_command,
    item,
    pdu,
    pdv,
    store_command,
    store_pdus,
)

from scp.errors import ScpError
from scp.header import read_header
from scp.transport.stream import MAX_WHOLE_PDU, PduStream

# CPU seconds for a byte received: ten times what a fair sender's smallest fragments cost.
_PER_BYTE = 10e-6
_RQ = associate_request([(abstract, [transfer]) for abstract, transfer in CONTEXTS])
_IMAGE = image("costs", n_bytes=60_000)
_BASE = image("costs", n_bytes=2).data
_STORE = pdu(P_DATA, pdv(1, 3, store_command(_IMAGE)))
_ENDLESS = struct.pack(">BxLLBB", 4, 2**32 - 2, 2**32 - 6, 1, 0)
_EMPTY_ELEMENT = struct.pack("<HH2sH", 9, 1, b"LO", 0)
_NOTHINGS = b"".join(struct.pack("<HHL", 0, 0x5000 + i % 999, 0) for i in range(7900))


def _store(size: int, together: int) -> bytes:
    return b"".join(store_pdus(_IMAGE, 1, 1, size, together))


def _command(field: int) -> bytes:
    wanted: dict[int, int | str] = {0x0002: CT_IMAGE, 0x0100: field, 0x0110: 1, 0x0800: 0x0101}
    return pdu(P_DATA, pdv(1, 3, command_set(wanted)))


CONVERSATIONS: dict[str, Callable[[], bytes]] = {
    "values of one byte": lambda: _store(1, 1),
    "values of one byte, 1000 in a PDU": lambda: _store(1, 1000),
    "empty values": lambda: _STORE + pdu(P_DATA, pdv(1, 0, b"") * 60_000),
    "empty values, a PDU each": lambda: _STORE + pdu(P_DATA, pdv(1, 0, b"")) * 40_000,
    "a command that never ends": lambda: pdu(P_DATA, pdv(3, 1, b"")) * 40_000,
    "command sets of 64 KiB": lambda: pdu(P_DATA, pdv(3, 3, echo_command() + _NOTHINGS)) * 10,
    "many echoes": lambda: pdu(P_DATA, pdv(3, 3, echo_command())) * 3_000,
    "many requests not served": lambda: _command(0x0020) * 1_000,
    "many responses": lambda: _command(0x8001) * 1_000,
    "many cancels": lambda: _command(0x0FFF) * 1_000,
    "many events": lambda: _command(0x0100) * 1_000,
    "a PDU of four gigabytes": lambda: _STORE + _ENDLESS + bytes(4 << 20),
}  # fmt: skip
REQUESTS: dict[str, Callable[[], bytes]] = {
    "128 contexts of 100 syntaxes": lambda: every_item(
        [presentation_context(i, [f"1.2.3.{j}".encode() for j in range(100)]) for i in range(128)]
    ),
    "a megabyte of syntaxes": lambda: every_item(
        [presentation_context(i, [b"1"] * 13_000) for i in range(16)]
    ),
    "a megabyte of wrong syntaxes": lambda: every_item(
        [presentation_context(i, [b"x"] * 13_000) for i in range(16)]
    ),
    "a megabyte of contexts": lambda: every_item(
        [presentation_context(i, [b"1.2"]) for i in range(23_000)]
    ),
    "64 KiB of roles": lambda: every_item(
        contexts_item(), item(0x54, b"\0\x031.2\1\1") * 5_000
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def node() -> Iterator[FuzzedNode]:
    with fuzzed_node() as made:
        made.converse(_RQ + _store(16372, 1))
        yield made


def cpu_of(node: FuzzedNode, data: bytes) -> float:
    started = time.process_time()
    node.converse(data)
    return time.process_time() - started


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_cpu_of_a_conversation(node: FuzzedNode, name: str) -> None:
    data = _RQ + CONVERSATIONS[name]()
    taken = cpu_of(node, data)
    print(f"{name}: {taken:.2f} s for {len(data)} bytes, {taken / len(data) * 1e6:.2f} us/byte")
    assert taken < 0.5 + _PER_BYTE * len(data)


@pytest.mark.parametrize("name", REQUESTS)
def test_cpu_of_an_association_request(node: FuzzedNode, name: str) -> None:
    """Before anybody is asked who he is."""
    data = REQUESTS[name]()
    taken = cpu_of(node, data)
    print(f"{name}: {taken:.2f} s for {len(data)} bytes, {taken / len(data) * 1e6:.2f} us/byte")
    assert taken < 2.0


def _long(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value


def _with_charset(charset: str, name: bytes) -> bytes:
    start = image("costs", n_bytes=2, changes={0x00080005: ("CS", charset)}).data
    return start + _long(0x00100010, b"UT", name)


def _deflate(parts: Iterator[bytes]) -> bytes:
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return b"".join(map(deflater.compress, parts)) + deflater.flush()


def _bomb(content: bytes, times: int) -> bytes:
    head = _BASE + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, len(content) * times)
    return _deflate(iter((head, *[content] * times)))


_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
DATA_SETS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "many elements": (EXPLICIT_LITTLE, lambda: _BASE + _EMPTY_ELEMENT * 99_999),
    "many items": (EXPLICIT_LITTLE, lambda: _BASE + _long(0x00091010, b"SQ", _ITEM * 99_999)),
    "a name of 16 MiB": (EXPLICIT_LITTLE, lambda: _with_charset("", bytes(16 << 20))),
    "escapes": (EXPLICIT_LITTLE, lambda: _with_charset("\\ISO 2022 IR 87", b"\x1b" * 200_000)),
    "names": (EXPLICIT_LITTLE, lambda: _with_charset("\\ISO 2022 IR 87", b"^\x1b$B" * 50_000)),
    "many terms": (
        EXPLICIT_LITTLE,
        lambda: _with_charset("\\ISO 2022 IR 87" * 4_000, b"\x1b$B\xff" * 25_000),
    ),
    "deflated elements": (
        DEFLATED,
        lambda: _deflate(iter((_BASE, *[_EMPTY_ELEMENT * 131_072] * 64))),
    ),
    "deflated zeros": (DEFLATED, lambda: _bomb(bytes(1 << 20), 600)),
}  # fmt: skip


def _read(data: bytes, syntax: str) -> None:
    try:
        read_header(data, syntax)
    except ScpError as error:
        assert len(str(error)) < 200


@pytest.mark.parametrize("name", DATA_SETS)
def test_cost_of_a_data_set(name: str) -> None:
    syntax, make = DATA_SETS[name]
    data = make()
    started = time.thread_time()
    _read(data, syntax)
    taken = time.thread_time() - started
    print(f"{name}: {taken:.2f} s for {len(data)} bytes, {taken / len(data) * 1e6:.2f} us/byte")
    assert taken < (3.0 if syntax == DEFLATED else 1.0), f"{taken:.1f} s for {len(data)} bytes"


@pytest.mark.parametrize("name", ["a name of 16 MiB", "deflated zeros"])
def test_memory_for_a_data_set(name: str) -> None:
    syntax, make = DATA_SETS[name]
    data = make()
    tracemalloc.start()
    try:
        _read(data, syntax)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20, f"{peak >> 20} MiB for {len(data)} bytes"


def test_a_length_takes_no_memory_before_its_bytes_come() -> None:
    stream = PduStream()
    stream.space()[:6] = struct.pack(">BxL", 1, MAX_WHOLE_PDU)
    stream.received(6)
    assert stream.next(cut_data=False) is None
    assert len(stream.space()) <= 64 << 10


_REMEMBERED = """
import sys
from association_requests import every_item, presentation_context
from fuzzed_node import fuzzed_node
from scp.header import read_header
from test_fuzz_costs import _with_charset
def noted():
    modules = list(sys.modules.values())
    return sum(len(getattr(one, "__warningregistry__", ())) for one in modules)
with fuzzed_node() as node:
    before = noted()
    for k in range(10):
        contexts = [presentation_context(0, [f"x{k}.{j}".encode() for j in range(50)])]
        node.converse(every_item(contexts))
        read_header(_with_charset(f"WRONG {k}", b""), "1.2.840.10008.1.2.1")
    assert noted() < before + 10, noted() - before
"""


def test_nothing_that_was_wrong_is_remembered() -> None:
    """Python keeps each text that was warned of, and pydicom's warnings quote what a peer sent.

    In a process of its own, because pytest has filters for warnings.
    """
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here, here.parent / "kit")))
    done = subprocess.run(
        [sys.executable, "-c", _REMEMBERED],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-500:]


def test_peers_that_claim_much_take_little(node: FuzzedNode) -> None:
    """A hundred connections, six bytes each."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def associations() -> set[threading.Thread]:
        return {one for one in threading.enumerate() if one.name.startswith("AcceptorThread@")}

    before = resident()
    earlier = associations()
    begun: set[threading.Thread] = set()
    connections = []
    for _ in range(100):
        one = socket.create_connection(("127.0.0.1", node.server.port), timeout=10)
        one.sendall(struct.pack(">BxL", 1, MAX_WHOLE_PDU))
        connections.append(one)
    while len(begun) < 100:
        begun |= associations() - earlier
        time.sleep(0.01)
    time.sleep(1.0)
    growth = resident() - before
    for one in connections:
        one.close()
    assert growth < 30 << 20, f"{growth >> 20} MiB for 600 bytes"
