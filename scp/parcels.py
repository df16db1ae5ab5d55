"""Result objects read from disk for sending; only what passes its checks leaves here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from db import deliveries, fallbacks
from db.deliveries import DueDelivery
from db.errors import DatabaseError
from db.fallbacks import KeptObject
from db.files import FileStore

from .channel import Parcel
from .errors import FaultError, Part10Error, ScpError
from .header import Header, read_header
from .part10 import read_layout
from .requestor import Context

# Checked objects are remembered by number; results are few.
_MOST_REMEMBERED = 10_000


class Check(Protocol):
    """Tells whether a result object may be sent."""

    def __call__(self, path: Path) -> str | None:
        """Return what is wrong with the file, or None."""


class Fallback(Protocol):
    """Makes a report anew in a SOP class that more destinations take."""

    def __call__(self, stored_path: Path, sop_class_uid: str) -> bytes:
        """Return a whole file (PS3.10), the same bytes every time.

        Raises
        ------
        FaultError
            If the report cannot be said in that class.
        """


def no_fault(path: Path) -> None:
    """Let every file pass."""


class Parcels:
    """Reads result objects for sending.

    Parameters
    ----------
    engine, files
        Where the outbox and the objects are.
    check : Check
        Asked before an object is sent the first time.
    fallback : Fallback or None
        Without one reports are sent in their own class only.
    clock : callable
        Returns the time as aware UTC.
    """

    def __init__(
        self,
        engine: sa.Engine,
        files: FileStore,
        check: Check,
        fallback: Fallback | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._files = files
        self._check = check
        self._fallback = fallback
        self._clock = clock
        self._passed: set[int] = set()

    @property
    def can_fall_back(self) -> bool:
        """Whether reports can be had in other classes."""
        return self._fallback is not None

    def read(self, delivery: DueDelivery) -> Parcel:
        """Return the object of a delivery.

        Raises
        ------
        FaultError
            If it must not be sent; the fault is noted with the object.
        OSError
            If it cannot be read.
        """
        if delivery.fault is not None:
            raise FaultError(delivery.fault)
        try:
            return self._read(delivery)
        except FaultError as error:
            with self._engine.begin() as connection:
                deliveries.note_fault(connection, delivery.object_id, str(error))
            raise

    def fault_since(self, delivery: DueDelivery) -> str | None:
        """Return why the object must not be sent any more: a correction may have replaced it."""
        with self._engine.connect() as connection:
            return deliveries.fault_of(connection, delivery.object_id)

    def _read(self, delivery: DueDelivery) -> Parcel:
        try:
            path = self._files.absolute(delivery.path)
        except DatabaseError as error:
            raise FaultError(str(error)) from error
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != delivery.sha256:
            raise FaultError(f"{delivery.path} is not as it was stored: its SHA-256 has changed")
        try:
            layout = read_layout(content)
        except Part10Error as error:
            raise FaultError(f"{delivery.path}: {error}") from error
        self._pass(delivery.object_id, path)
        return Parcel(
            Context(delivery.sop_class_uid, layout.transfer_syntax_uid),
            delivery.sop_instance_uid,
            content,
            layout.data_set_offset,
        )

    def _pass(self, object_id: int, path: Path) -> None:
        if object_id in self._passed:
            return
        if (fault := self._check(path)) is not None:
            raise FaultError(fault)
        if len(self._passed) >= _MOST_REMEMBERED:
            self._passed.clear()
        self._passed.add(object_id)

    def in_class(self, delivery: DueDelivery, sop_class_uid: str) -> tuple[DueDelivery, Parcel]:
        """Switch a delivery to its report in another class; that is made once and kept.

        Raises
        ------
        FaultError
            If it cannot be made, or must not be sent.
        OSError, db.DatabaseError
            If it cannot be kept or read.
        """
        assert self._fallback is not None, "asked for a fallback without a way to make one"
        with self._engine.connect() as connection:
            root = fallbacks.kept_object(connection, delivery.root_id)
            made = fallbacks.fallback_of(connection, root.id, sop_class_uid)
        if root.fault is not None:  # it may have been replaced since it was claimed
            raise FaultError(root.fault)
        if made is None:
            made = self._make(self._fallback, root, sop_class_uid)
        with self._engine.begin() as connection:
            fallbacks.switch_object(connection, delivery.id, made.id)
        switched = replace(
            delivery,
            object_id=made.id,
            sop_class_uid=made.sop_class_uid,
            sop_instance_uid=made.sop_instance_uid,
            series_instance_uid=made.series_instance_uid,
            path=made.path,
            sha256=made.sha256,
            fault=made.fault,
        )
        return switched, self.read(switched)

    def _make(self, fallback: Fallback, root: KeptObject, sop_class_uid: str) -> KeptObject:
        content = fallback(self._files.absolute(root.path), sop_class_uid)
        header = _header(content)
        if (
            header.sop_class_uid != sop_class_uid
            or header.sop_instance_uid == root.sop_instance_uid
        ):
            raise FaultError("the fallback of the report is not in another class under its own UID")
        stored = self._files.write_result(header.sop_instance_uid, content)
        with self._engine.begin() as connection:
            return fallbacks.add_fallback(
                connection,
                root.id,
                sop_class_uid=header.sop_class_uid,
                sop_instance_uid=header.sop_instance_uid,
                series_instance_uid=header.series_instance_uid or root.series_instance_uid,
                stored=stored,
                now=self._clock(),
            )


def _header(content: bytes) -> Header:
    try:
        layout = read_layout(content)
        data_set = memoryview(content)[layout.data_set_offset :]
        return read_header(data_set, layout.transfer_syntax_uid)
    except ScpError as error:
        raise FaultError(f"the fallback of the report: {error}") from error
