"""Facts for the routing rules, read from the header of a stored instance."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence

from db.completeness import Sender

from .conditions import Facts
from .errors import Part10Error, StructureError
from .header import CHARACTER_SET
from .part10 import read_layout
from .rule_settings import RuleSettings
from .rules import Decision, decide, keywords_needed
from .structure import BeyondError, encodings

# What pydicom 3 lets out for bytes that contradict themselves; there is no common base.
_DAMAGE = (
    AttributeError,  # an attribute asked of a value that decoded to another type
    BytesLengthException,  # a binary number of the wrong length
    EOFError,  # an element of undefined length without an end
    LookupError,  # a character set that names no codec of text
    NotImplementedError,  # a VR that is none
    OverflowError,  # an integer string like 1e999
    RecursionError,  # sequences nested beyond reason
    struct.error,  # the header of an element, cut short
    TypeError,  # items where a string was expected, and the other way round
    ValueError,  # text that is no number, date or code; NUL in a character set
    zlib.error,  # a deflated data set that does not inflate
)
_SERIES = "SeriesInstanceUID"
_BEGINNING = 65536
# Of facts that are remembered: how many headers', and bytes of the elements that they were read of.
_MOST_KNOWN = 256
_MOST_SAID = 4096
# Specific Character Set (0008,0005), little or big endian.
_CHARACTER_SET = re.compile(rb"\x08\x00\x05\x00|\x00\x08\x00\x05(?=[A-Z]{2})")


class FactsReader:
    """Reads the facts of many files; those of equal headers once.

    The images of a series say the same of nearly everything that rules ask for, and to tell that
    takes a tenth of the time that decoding does.

    Parameters
    ----------
    keywords : iterable of str
        What the rules ask for.
    """

    def __init__(self, keywords: Iterable[str]) -> None:
        self._keywords = tuple(sorted(keywords))
        attributes = {keyword.partition(".")[0] for keyword in self._keywords}
        tags = {tag_for_keyword(attribute) for attribute in attributes}
        self._tags = frozenset(tag for tag in tags if tag is not None) | {CHARACTER_SET}
        self._known: OrderedDict[tuple[str, bytes], Facts] = OrderedDict()

    def read(self, path: Path) -> Facts:
        """Return what `read_facts` does, the very same object for headers that say the same.

        Raises what `read_facts` raises.
        """
        key = self._key(path)
        if key is None:
            return read_facts(path, self._keywords)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        facts = self._known[key] = read_facts(path, self._keywords)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return facts

    def _key(self, path: Path) -> tuple[str, bytes] | None:
        """Return all that the facts of a file depend on, None if that is not told so easily."""
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
            size = os.fstat(file.fileno()).st_size
        try:
            layout = read_layout(beginning)
            if layout.has_odd_vr:
                return None
            start, syntax = layout.data_set_offset, layout.transfer_syntax_uid
            data_set = memoryview(beginning)[start:]
            said = encodings(data_set, syntax, self._tags, size - start)
        except (Part10Error, StructureError, BeyondError):
            return None
        return (syntax, said) if len(said) <= _MOST_SAID else None


def read_facts(path: Path, keywords: Iterable[str]) -> Facts:
    """Read what the rules ask for from a DICOM file, without its pixels.

    An attribute whose own bytes are damaged counts as absent; it does not hide the others.

    Raises
    ------
    Part10Error
        If the file cannot be read as DICOM.
    OSError
        If it cannot be read at all.
    """
    return _read(path, keywords)[0]


@dataclass(frozen=True, slots=True)
class Examined:
    """What the rules say of one file.

    Attributes
    ----------
    series_instance_uid : str
        Empty if it names none: such a file is in no series, and is kept, but never read.
    damaged : tuple of str
        Keywords of attributes that count as absent because their bytes are damaged.
    """

    path: Path
    series_instance_uid: str
    decision: Decision
    damaged: tuple[str, ...]


def examine(
    path: Path,
    rules: Sequence[RuleSettings],
    own_devices: Collection[str] = (),
    senders: Collection[Sender] = (),
) -> Examined:
    """Return which models would read a file and why no other one.

    Parameters are those of `decide`. Raises what `read_facts` raises.
    """
    facts, damaged = _read(path, {*keywords_needed(rules), _SERIES})
    decision = decide(facts, rules, own_devices, senders)
    return Examined(path, next(iter(facts[_SERIES]), ""), decision, tuple(damaged))


def _read(path: Path, keywords: Iterable[str]) -> tuple[Facts, list[str]]:
    """Return the facts, and the keywords of those that are damaged."""
    wanted = sorted(keywords)
    header = _header(path, sorted({keyword.partition(".")[0] for keyword in wanted}))
    damaged: list[str] = []
    facts = {}
    for keyword in wanted:
        values, whole = _values(header, keyword.split("."))
        facts[keyword] = values
        if not whole:
            damaged.append(keyword)
    return facts, damaged


def _header(path: Path, attributes: Sequence[str]) -> Dataset:
    with path.open("rb") as file:
        try:
            try:
                return _parse(file, attributes)
            except Part10Error:
                # pydicom needs the character set at once: damaged, it would hide all others.
                file.seek(0)
                return _parse(BytesIO(_without_character_set(file.read())), attributes)
        except InvalidDicomError as error:
            raise Part10Error(f"{path}: not a DICOM file") from error
        except Part10Error as error:
            raise Part10Error(f"{path}: {error}") from error


def _parse(file: BinaryIO, attributes: Sequence[str]) -> Dataset:
    with _damage_is_ours():
        return dcmread(file, stop_before_pixels=True, specific_tags=list(attributes))


def _without_character_set(content: bytes) -> bytes:
    """Make the first Specific Character Set (0008,0005) a (0008,0004), which nobody asks for."""
    found = _CHARACTER_SET.search(content, 132)
    if found is None:
        return content
    renamed = found[0].replace(b"\5", b"\4")
    return content[: found.start()] + renamed + content[found.end() :]


def _values(data_set: Dataset, path: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """Return the values, and whether all of them could be read."""
    try:
        with _damage_is_ours():
            value = data_set.get(path[0])
            if not isinstance(value, DicomSequence):
                return (() if len(path) > 1 else _texts(value)), True
    except Part10Error:
        return (), False
    if len(path) == 1:
        return (), True
    found = [_values(item, path[1:]) for item in value]
    return tuple(text for texts, _ in found for text in texts), all(whole for _, whole in found)


def _texts(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    several = value if isinstance(value, MultiValue | list | tuple) else (value,)
    return tuple(str(one).strip() for one in several)


@contextmanager
def _damage_is_ours() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise Part10Error(f"the header is damaged ({type(error).__name__})") from error
    except OSError as error:
        # pydicom's own, for a sequence without an item, has no number; the file system's has.
        if error.errno is not None or isinstance(error.__context__, OSError):
            raise
        raise Part10Error("the header is damaged (no item in a sequence)") from error
