"""A stored file, read back into the row that it had when it was received.

What was received can be told from the file alone, but for the association that brought it. A file
under its final name was complete when it got that name; only a power loss can have cut it since,
before it was acknowledged. So whatever is read back is walked to its end like a data set from the
network, and the file head must name the same instance.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from io import FileIO

from db.files import FileStore
from db.instances import InstanceRecord

from .errors import IdentityError, Part10Error
from .header import SOP_CLASS_UID, SOP_INSTANCE_UID, Header, read_header
from .part10 import FileLayout, read_layout

# Smaller files are read at once; the head of larger ones lies within these bytes.
_START_BYTES = 1 << 16
_HEADER_FIELDS = tuple(one.name for one in fields(Header))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_stored(files: FileStore, path: str, association_id: str) -> InstanceRecord:
    """Validate a stored image and return its row; it was received when it was written.

    Parameters
    ----------
    path : str
        Relative to the data directory.
    association_id : str
        Stands for the association that brought it, which the file does not name.

    Raises
    ------
    ScpError
        If the file is damaged, truncated, or not what its head says.
    OSError
        If it cannot be read.
    """
    with _opened(files, path) as file:
        written = os.fstat(file.fileno())
        if not written.st_size:
            raise Part10Error("the file is empty")
        start = file.read(min(written.st_size, _START_BYTES))
        layout = read_layout(start)
        if len(start) == written.st_size:
            data_set = memoryview(start)[layout.data_set_offset :]
            digest = hashlib.sha256(data_set).hexdigest()
            found = read_header(data_set, layout.transfer_syntax_uid)
        else:
            # In this order: reading tells of a bad block by an error, a memory map by a signal
            # that ends the process. What was read is in memory when the map looks at it.
            digest = _digest(file, layout)
            found = _mapped_header(file, layout)
    _require_match(layout, found)
    return InstanceRecord(
        **{name: getattr(found, name) for name in _HEADER_FIELDS},
        transfer_syntax_uid=layout.transfer_syntax_uid,
        path=path,
        size_bytes=written.st_size,
        sha256=digest,
        received_at=_EPOCH + timedelta(microseconds=written.st_mtime_ns // 1000),
        association_id=association_id,
    )


def stored_digest(files: FileStore, path: str) -> str:
    """Return the SHA-256 of the data set in a stored image, in hexadecimal; reads every byte.

    Raises
    ------
    ScpError
        If the file has no usable head.
    OSError
        If it cannot be read.
    """
    with _opened(files, path) as file:
        return _digest(file, read_layout(file.read(_START_BYTES)))


@contextmanager
def _opened(files: FileStore, path: str) -> Iterator[FileIO]:
    with (files.root / path).open("rb", buffering=0) as file:
        yield file


def _digest(file: FileIO, layout: FileLayout) -> str:
    file.seek(layout.data_set_offset)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _mapped_header(file: FileIO, layout: FileLayout) -> Header:
    with (
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as whole,
        whole[layout.data_set_offset :] as data_set,
    ):
        return read_header(data_set, layout.transfer_syntax_uid)


def _require_match(layout: FileLayout, found: Header) -> None:
    """Require the UIDs of the file head and of the data set to be equal (PS3.10 Section 7.1)."""
    if layout.sop_instance_uid != found.sop_instance_uid:
        raise IdentityError(
            "SOP Instance UID (0008,0018) differs from the file head's", SOP_INSTANCE_UID
        )
    if layout.sop_class_uid != found.sop_class_uid:
        raise IdentityError("SOP Class UID (0008,0016) differs from the file head's", SOP_CLASS_UID)
