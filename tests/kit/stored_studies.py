"""Studies of phantoms as receiving stores them, and analyses of them that are asked for."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from stored_files import store

from db import FileStore
from db.ingest import Ingest
from db.results import request_analysis
from inference.bundle import Bundle
from inference.job_states import Priority
from inference.jobs import JobQueue
from inference.requests import request_analysis_of


class StoredStudies:
    """A file store and a database that fill with copies of given images.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    files : FileStore
    """

    def __init__(self, engine: sa.Engine, files: FileStore) -> None:
        self._engine = engine
        self._files = files
        self._ingest = Ingest(engine)
        self._queue = JobQueue(engine)

    def close(self) -> None:
        self._ingest.close()
        self._queue.close()

    def copies(self, paths: Iterable[Path], count: int) -> list[tuple[str, list[int]]]:
        """Store so many studies of one series; return series UIDs and row numbers."""
        images = [dcmread(path) for path in paths]
        made = []
        for _ in range(count):
            study, series = generate_uid(), generate_uid()
            uids = [self._store(image, study, series) for image in images]
            made.append((series, uids))
        with self._engine.connect() as connection:
            found = connection.execute(sa.text("SELECT sop_instance_uid, id FROM instance"))
            rows = {row.sop_instance_uid: row.id for row in found}
        return [(series, [rows[uid] for uid in uids]) for series, uids in made]

    def ask(self, bundle: Bundle, series: str, instances: Sequence[int], priority: Priority) -> str:
        """Ask for an analysis as routing does, in one transaction; return its id."""
        request = request_analysis_of(
            bundle,
            study_instance_uid=series,
            series_instance_uid=series,
            instance_ids=tuple(instances),
            instance_digest=series,
            priority=priority.value,
            shadow=False,
            trace_id="t" * 32,
            received_at=datetime.now(UTC),
        )
        with self._engine.begin() as connection:
            request_analysis(connection, request)
            self._queue.enqueue(connection, request.id, priority)
        return request.id

    def _store(self, image: Dataset, study: str, series: str) -> str:
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        buffer = io.BytesIO()
        image.save_as(buffer, enforce_file_format=True)
        store(
            self._ingest, self._files, image.SOPInstanceUID, buffer.getvalue(),
            study_instance_uid=series, patient_id=series[-10:],
        )  # fmt: skip
        return str(image.SOPInstanceUID)
