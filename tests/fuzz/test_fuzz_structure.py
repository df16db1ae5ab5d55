"""Truncation is found at every byte: a prefix passes only where an outermost element ends."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeAlias

import pytest
from conversation import JPEG
from data_sets import GE_PRIVATE, Encoding, encoding_of
from encoded import EXPLICIT_BIG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_pdus import EXPLICIT_LITTLE, IMPLICIT_LITTLE

from scp.errors import StructureError
from scp.structure import walk

Write: TypeAlias = Callable[[Encoding], bytes]
_UNDEFINED = 0xFFFFFFFF
_TAGS = st.sampled_from((0x00080005, 0x00080018, 0x00100010, 0x00291010, 0x300A0010, 0x7FE00010))


def plain(tag: int, vr: bytes, value: bytes) -> Write:
    return lambda how: how.element(tag, vr, value)


def sequence(tag: int, items: list[tuple[bool, list[Write]]], defined: bool) -> Write:
    def write(how: Encoding) -> bytes:
        body = b""
        for item_defined, elements in items:
            content = b"".join(one(how) for one in elements)
            end = b"" if item_defined else how.item(0xFFFEE00D, b"")
            body += how.item(0xFFFEE000, content + end, None if item_defined else _UNDEFINED)
        if defined:
            return how.element(tag, b"SQ", body)
        return how.element(tag, b"SQ", body + how.item(0xFFFEE0DD, b""), _UNDEFINED)

    return write


values = st.binary(max_size=12)
plains = st.builds(plain, _TAGS, st.sampled_from((b"LO", b"UI", b"OB", b"UT", b"US")), values)
trees = st.recursive(
    plains,
    lambda inner: st.builds(
        sequence,
        st.sampled_from((0x00081140, 0x00291020)),
        st.lists(st.tuples(st.booleans(), st.lists(inner, max_size=3)), max_size=3),
        st.booleans(),
    ),
    max_leaves=8,
)
data_sets = st.lists(trees, min_size=1, max_size=5)
syntaxes = st.sampled_from((EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG, JPEG, GE_PRIVATE))


def passes(data: bytes, syntax: str) -> bool:
    try:
        walk(memoryview(data), syntax)
    except StructureError:
        return False
    return True


def check(elements: list[Write], syntax: str) -> None:
    how = encoding_of(syntax)
    ends, whole = set(), b""
    for one in elements:
        whole += one(how)
        ends.add(len(whole))
    assert walk(whole, syntax).n_elements == len(elements)
    for end in range(len(whole)):
        assert passes(whole[:end], syntax) == (end in ends), f"{end} of {len(whole)} bytes"
    for garbage in (b"\0", b"\xff" * 7, struct.pack("<HHL", 2, 0x10, 0), b"DICM" * 2):
        assert not passes(whole + garbage, syntax)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data_sets, syntaxes)
def test_prefixes(elements: list[Write], syntax: str) -> None:
    check(elements, syntax)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(data_sets, syntaxes)
def test_many_prefixes(elements: list[Write], syntax: str) -> None:
    check(elements, syntax)
