"""Analyses in the queue of a node whose other parts do not run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import sqlalchemy as sa
from pydicom.uid import generate_uid
from stored_files import store

from db.ingest import Ingest
from db.results import request_analysis
from deploy.ground import Ground, ground
from deploy.settings import Settings
from inference.bundle import Bundle
from inference.catalogue import open_catalogue
from inference.job_states import Priority
from inference.jobs import JobQueue
from inference.requests import request_analysis_of


@dataclass(frozen=True, slots=True)
class Asking:
    """Stores images and asks for their analysis, as the part that receives does."""

    base: Ground
    bundles: dict[str, Bundle]
    ingest: Ingest
    queue: JobQueue

    def ask(self, model: str, files: Sequence[Path]) -> str:
        """Store files as one series under new UIDs and enqueue its analysis; return its id."""
        study, series = generate_uid(), generate_uid()
        instances = tuple(self._stored(path, study, series) for path in files)
        with self.base.engine.begin() as connection:
            request = request_analysis_of(
                self.bundles[model],
                study_instance_uid=study,
                series_instance_uid=series,
                instance_ids=instances,
                instance_digest=series,
                priority="routine",
                shadow=False,
                trace_id="a" * 32,
                received_at=datetime.now(UTC),
            )
            request_analysis(connection, request)
            self.queue.enqueue(connection, request.id, Priority.ROUTINE)
        return request.id

    def _stored(self, path: Path, study: str, series: str) -> int:
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        uid = generate_uid()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        made = self.base.files.root / "made.dcm"
        dataset.save_as(made, enforce_file_format=True)
        content = made.read_bytes()
        made.unlink()
        store(self.ingest, self.base.files, uid, content)
        row = sa.text("SELECT id FROM instance WHERE sop_instance_uid = :uid")
        with self.base.engine.connect() as connection:
            return int(connection.execute(row, {"uid": uid}).scalar_one())


@contextmanager
def asking(settings: Settings) -> Iterator[Asking]:
    """Open the database and the files of settings, and a queue."""
    with ground(settings) as base:
        ingest, queue = Ingest(base.engine), JobQueue(base.engine)
        try:
            bundles = open_catalogue(settings.inference, settings.model)
            yield Asking(base, bundles, ingest, queue)
        finally:
            queue.close()
            ingest.close()
