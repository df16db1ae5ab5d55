"""One analysis from stored images to a stored outcome; repeatable, because jobs are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import pydicom
import sqlalchemy as sa
import structlog

from db.corrections import still_holds
from db.files import FileStore
from db.outcomes import Destined, ObjectRecord, Outcome, record_outcome
from db.results import RequestedAnalysis, latest_object, load, mark_started
from db.schema import AnalysisState

from .analyst_settings import AnalystSettings, ReaderSource
from .bundle import Bundle
from .engines import DeviceLostError
from .errors import CorrectedMeanwhileError, InferenceError, NotAnalysableError, ObjectError
from .fact_store import FactStore
from .objects import object_bytes
from .objects.corrected import correct
from .outcome_records import finding_record, measurement_record
from .reading import Reading, SourceImage
from .requests import is_same_model
from .scheduling import yield_to_stat
from .stored_explanations import record_of

if TYPE_CHECKING:
    from .result_objects import MadeObject

_log = structlog.get_logger()


class Analyst:
    """Carries out analyses.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    files : FileStore
    bundles : mapping of str to Bundle
        By model name.
    reader_of : callable
        Gives the loaded reader of a bundle.
    settings : AnalystSettings
    """

    def __init__(
        self,
        engine: sa.Engine,
        files: FileStore,
        bundles: Mapping[str, Bundle],
        reader_of: ReaderSource,
        settings: AnalystSettings,
    ) -> None:
        self._engine = engine
        self._files = files
        self._bundles = bundles
        self._reader_of = reader_of
        self._settings = settings
        self.facts = FactStore(engine, files)

    def analyse(self, analysis_id: str) -> None:
        """Bring one analysis to its outcome; nothing happens if it has one already.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError, db.DatabaseError
            If the database or the file store is away: worth another attempt.
        CorrectedMeanwhileError
            If a person corrected the study while it was analysed: worth another attempt.
        DeviceLostError
            If only another process can carry it out.
        """
        with self._engine.begin() as connection:
            asked = load(connection, analysis_id)
            if asked is None or asked.state != AnalysisState.PENDING:
                return
            started_at = mark_started(
                connection, analysis_id, self._settings.worker, self._settings.device
            )
        log = _log.bind(trace=asked.trace_id, analysis=asked.id[:12], model=asked.model_name)
        log.info("analysis.started", images=len(asked.images))
        outcome = self._outcome(asked, started_at)
        if self._record(analysis_id, outcome, asked):
            say = log.error if outcome.state is AnalysisState.FAILED else log.info
            say(
                "analysis.ended",
                state=outcome.state.value,
                reason=outcome.reason_code,
                findings=len(outcome.findings),
                objects=[made.sop_instance_uid for made in outcome.objects],
            )

    def fail(self, analysis_id: str, code: str, reason: str) -> None:
        """Record that an analysis could not be brought to an end."""
        outcome = Outcome(AnalysisState.FAILED, reason_code=code, reason=reason)
        if self._record(analysis_id, outcome):
            _log.error("analysis.failed", analysis=analysis_id[:12], reason=code)

    def _record(
        self, analysis_id: str, outcome: Outcome, asked: RequestedAnalysis | None = None
    ) -> bool:
        notified = self._settings.notify(analysis_id, outcome)
        with self._engine.begin() as connection:
            if asked and not still_holds(connection, asked.study_instance_uid, asked.corrections):
                # Objects were made for a patient or request that was corrected meanwhile.
                raise CorrectedMeanwhileError(f"study {asked.study_instance_uid} was corrected")
            told = replace(outcome, notifications=notified)
            is_new = record_outcome(connection, analysis_id, told)
        if is_new:
            self._settings.recorded()
        return is_new

    def _outcome(self, asked: RequestedAnalysis, started_at: datetime) -> Outcome:
        bundle = self._bundles.get(asked.model_name)
        if bundle is None or not is_same_model(asked, bundle):
            return Outcome(
                AnalysisState.FAILED,
                reason_code="model_changed",
                reason=f"model {asked.model_name} {asked.model_version} is no longer installed "
                "as it was when the analysis was asked for",
            )
        try:
            return self._read(asked, bundle, started_at)
        except NotAnalysableError as error:
            return self._not_analysed(asked, bundle, started_at, error)
        except DeviceLostError:
            raise
        except InferenceError as error:
            return Outcome(
                AnalysisState.FAILED,
                reason_code=error.code,
                reason=str(error),
                facts=error.facts,
            )

    def _read(self, asked: RequestedAnalysis, bundle: Bundle, started_at: datetime) -> Outcome:
        images = tuple(
            SourceImage(
                instance_id=image.instance_id,
                sop_instance_uid=image.sop_instance_uid,
                sop_class_uid=image.sop_class_uid,
                transfer_syntax_uid=image.transfer_syntax_uid,
                path=self._files.absolute(image.path),
            )
            for image in asked.images
        )
        began = time.monotonic()
        with self.facts.paused():
            reading = self._reader_of(bundle).read(self.facts.with_facts(images))
        seconds = round(time.monotonic() - began, 4)
        _log.info(
            "analysis.read", trace=asked.trace_id, analysis=asked.id[:12], model=asked.model_name,
            seconds=seconds,
        )  # fmt: skip
        used = reading.used_sop_instance_uids
        findings = tuple(finding_record(finding) for finding in reading.findings)
        measured = tuple(measurement_record(one) for one in reading.measurements)
        explained = tuple(
            record_of(one.explanation, one.sop_instance_uid, one.frame, one.window)
            for one in reading.illustrations
            if one.explanation is not None
        )
        try:
            objects, facts = self._objects(asked, bundle, started_at, used, reading)
        except ObjectError as error:
            # What was found must not be lost with the report of it.
            _log.error("object.failed", analysis=asked.id[:12], kind="sr", reason=str(error))
            return Outcome(
                AnalysisState.DONE,
                findings=findings,
                reason_code="report_failed",
                reason=str(error),
                facts=reading.facts,
                measurements=measured,
                explanations=explained,
            )
        return Outcome(
            AnalysisState.DONE,
            findings=findings,
            measurements=measured,
            explanations=explained,
            objects=objects,
            facts={**reading.facts, **facts},
        )

    def _not_analysed(
        self,
        asked: RequestedAnalysis,
        bundle: Bundle,
        started_at: datetime,
        error: NotAnalysableError,
    ) -> Outcome:
        objects: tuple[ObjectRecord, ...] = ()
        facts: dict[str, object] = {}
        if self._settings.report_not_analysed:
            used = tuple(image.sop_instance_uid for image in asked.images)
            objects, facts = self._objects(asked, bundle, started_at, used, None, error)
        return Outcome(
            AnalysisState.NOT_ANALYSED,
            objects=objects,
            reason_code=str(error.code),
            reason=error.reason,
            facts={**(error.facts or {}), **facts} or None,
        )

    def _objects(
        self,
        asked: RequestedAnalysis,
        bundle: Bundle,
        started_at: datetime,
        used: tuple[str, ...],
        reading: Reading | None,
        error: NotAnalysableError | None = None,
    ) -> tuple[tuple[ObjectRecord, ...], dict[str, object]]:
        """Make the objects and put them on disk; return them, and facts about those that failed."""
        from .result_objects import ResultBasis, make_objects  # highdicom: `late` imports it

        sources = reading.headers if reading else ()
        if not sources:
            paths = {image.sop_instance_uid: image.path for image in asked.images}
            sources = tuple(self._header(paths[uid]) for uid in used)
        for source in sources:
            correct(source, asked.corrections)
        result = make_objects(
            ResultBasis(
                sources=sources,
                model=bundle.identity,
                device=self._settings.node,
                # Content Time is when the content began to be made (PS3.3 C.17.2), and the first
                # start is the same at every attempt: so are the bytes of the objects.
                created_at=started_at.astimezone(),
                reading=reading,
                not_analysed=(str(error.code), error.reason) if error else None,
                predecessor=self._predecessor(asked),
                together=self._together(asked),
                analysis=asked.id,
            ),
            yield_to_stat,
        )
        for kind, reason in result.failures.items():
            _log.error("object.failed", analysis=asked.id[:12], kind=kind, reason=reason)
        facts: dict[str, object] = {"objects_failed": result.failures} if result.failures else {}
        return tuple(self._keep(made, asked) for made in result.made), facts

    def _keep(self, made: MadeObject, asked: RequestedAnalysis) -> ObjectRecord:
        if made.fault is not None:
            _log.error("object.invalid", analysis=asked.id[:12], kind=made.kind, reason=made.fault)
        uid = str(made.dataset.SOPInstanceUID)
        yield_to_stat()
        stored = self._files.write_result(uid, object_bytes(made.dataset))
        return ObjectRecord(
            kind=made.kind,
            sop_class_uid=str(made.dataset.SOPClassUID),
            sop_instance_uid=uid,
            series_instance_uid=str(made.dataset.SeriesInstanceUID),
            path=stored.path,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            destinations=self._destinations(made.kind, asked),
            fault=made.fault,
        )

    def _destinations(self, kind: str, asked: RequestedAnalysis) -> tuple[Destined, ...]:
        return () if asked.shadow else self._settings.destinations(kind, asked.calling_ae)

    def _together(self, asked: RequestedAnalysis) -> dict[str, frozenset[str]]:
        """Return, by kind, the kinds that go wherever it goes."""
        from .result_objects import KINDS

        names = {kind: {place.name for place in self._destinations(kind, asked)} for kind in KINDS}
        return {
            kind: frozenset(other for other in KINDS if names[kind] <= names[other])
            for kind in KINDS
        }

    def _header(self, path: str) -> pydicom.Dataset:
        return pydicom.dcmread(self._files.absolute(path), stop_before_pixels=True, force=True)

    def _predecessor(self, asked: RequestedAnalysis) -> pydicom.Dataset | None:
        with self._engine.connect() as connection:
            path = latest_object(connection, asked.predecessor_id, "sr")
        return self._header(path) if path is not None else None
