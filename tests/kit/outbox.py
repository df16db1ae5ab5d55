"""Result objects in an outbox, and a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import sqlalchemy as sa
from one_series import insert_analysis, insert_series
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from db import FileStore
from db.schema import Delivery, DestinationHealth, ResultObject
from scp.settings import DestinationSettings

NOW = datetime(2024, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def settings_for(port: int, **changes: Any) -> DestinationSettings:
    defaults = {
        "name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "timeout": 60,
        "max_attempts": 3, "backoff_first_seconds": 10, "backoff_max_seconds": 15,
        "commit_hold_seconds": 60,
    }  # fmt: skip
    return DestinationSettings.model_validate({**defaults, **changes})


class Outbox:
    """An analysis with result objects and their deliveries."""

    def __init__(
        self, engine: sa.Engine, files: FileStore, image: Callable[..., Dataset], folder: Path
    ) -> None:
        self.engine, self.files, self.image, self.folder = engine, files, image, folder
        self.number = 0
        with engine.begin() as connection:
            insert_series(connection, NOW)
            insert_analysis(connection, NOW)

    def put(
        self,
        *destinations: str,
        kind: str = "sr",
        sop_class: str = "1.2.840.10008.5.1.4.1.1.88.34",
        deadline: timedelta | None = None,
    ) -> str:
        """Put a result object for the named destinations into the outbox; return its UID."""
        self.number += 1
        result = self.image("1.2.4", sop_class=sop_class, Modality="SR", StudyInstanceUID="1.2")
        path = self.folder / "result.dcm"
        result.save_as(path, enforce_file_format=True)
        uid = str(result.SOPInstanceUID)
        kept = self.files.write_result(uid, path.read_bytes())
        with self.engine.begin() as connection:
            connection.execute(
                sa.insert(ResultObject).values(
                    id=self.number, analysis_id="a", kind=kind, sop_class_uid=sop_class,
                    sop_instance_uid=uid, series_instance_uid="1.2.4", path=kept.path,
                    size_bytes=kept.size_bytes, sha256=kept.sha256, created_at=NOW,
                )
            )  # fmt: skip
            for destination in destinations:
                connection.execute(
                    sa.insert(Delivery).values(
                        result_object_id=self.number, destination=destination,
                        next_attempt_at=NOW, created_at=NOW,
                        deadline_at=None if deadline is None else NOW + deadline,
                    )
                )  # fmt: skip
        return uid

    def file(self, uid: str) -> Path:
        """Return where the object of that UID lies."""
        return next((self.files.root / "results").rglob(f"{uid}.dcm"))

    def rows(self) -> list[Any]:
        """Return the deliveries."""
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(Delivery.__table__).order_by(Delivery.id)))

    def row(self) -> Any:
        """Return the one delivery that there is."""
        (one,) = self.rows()
        return one

    def objects(self) -> list[Any]:
        """Return the result objects."""
        with self.engine.connect() as connection:
            query = sa.select(ResultObject.__table__).order_by(ResultObject.id)
            return list(connection.execute(query))

    def health(self, destination: str = "pacs") -> Any:
        """Return the row of a destination's circuit breaker, if there is one."""
        with self.engine.connect() as connection:
            query = sa.select(DestinationHealth.__table__).filter_by(destination=destination)
            return connection.execute(query).first()


class Fallbacks:
    """Makes the same object in another class, and counts."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, stored_path: Path, sop_class_uid: str) -> bytes:
        self.made.append(sop_class_uid)
        report = pydicom.dcmread(stored_path)
        uid = generate_uid(entropy_srcs=[str(report.SOPInstanceUID), sop_class_uid])
        report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = sop_class_uid
        report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = uid
        written = BytesIO()
        report.save_as(written)
        return written.getvalue()
