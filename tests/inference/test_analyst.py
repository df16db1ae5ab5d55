"""One analysis from stored images to outcome, report and deliveries; the same however often."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from stored_files import store
from waiting import wait_for

from db import FileStore
from db.ingest import Ingest
from db.notifications import Notified
from db.outcomes import Destined, Outcome
from db.query import Filter, analyses, findings, rows_of
from db.results import request_analysis
from db.workers import WorkerIdentity
from inference.analyst import Analyst
from inference.analyst_settings import AnalystSettings
from inference.bundle import Bundle
from inference.codes import NOT_ANALYSED
from inference.errors import ObjectError
from inference.job_states import Priority
from inference.jobs import JobQueue
from inference.model import load_reader
from inference.objects import DeviceIdentity
from inference.reading import NotAnalysed, Reading, SourceImage
from inference.requests import request_analysis_of
from inference.worker import Worker
from inference.worker_id import claim_worker_id
from inference.worker_settings import WorkerSettings

NODE = DeviceIdentity("PREREAD", "Preread", "Preread", "0.1", "SN1")
SETTINGS = AnalystSettings(
    worker="test-0",
    device="cpu",
    node=NODE,
    destinations=lambda kind, calling_ae: (Destined("pacs"),),
)


@pytest.fixture
def head_ct(
    engine: sa.Engine, files: FileStore, write_image: Callable[..., Path]
) -> tuple[int, ...]:
    """Twelve stored slices; returns their row numbers."""
    ingest = Ingest(engine)
    noise = np.random.default_rng(5)
    for number in range(12):
        path = write_image(
            noise.integers(0, 80, (64, 64), dtype=np.int16),
            StudyInstanceUID="1.2.3",
            SeriesInstanceUID="1.2.3.4",
            SOPInstanceUID=f"1.2.3.4.{number}",
            PatientID="P-1",
            BodyPartExamined="HEAD",
            InstanceNumber=number + 1,
            ImagePositionPatient=[0, 0, 5 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[0.5, 0.5],
            SliceThickness=5,
        )
        store(ingest, files, f"1.2.3.4.{number}", path.read_bytes())
    with engine.connect() as connection:
        return tuple(connection.execute(sa.text("SELECT id FROM instance ORDER BY id")).scalars())


def ask(
    engine: sa.Engine,
    bundle: Bundle,
    instances: tuple[int, ...],
    digest: str = "d",
    shadow: bool = False,
) -> str:
    request = request_analysis_of(
        bundle,
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.4",
        instance_ids=instances,
        instance_digest=digest,
        priority="routine",
        shadow=shadow,
        trace_id="t" * 32,
        received_at=datetime.now(UTC),
    )
    with engine.begin() as connection:
        request_analysis(connection, request)
    return request.id


def analyst(engine: sa.Engine, files: FileStore, bundle: Bundle, **changes: object) -> Analyst:
    reader = load_reader(bundle, "cpu")
    settings = replace(SETTINGS, **changes)
    return Analyst(engine, files, {bundle.name: bundle}, lambda _bundle: reader, settings)


def outcome(engine: sa.Engine) -> dict[str, object]:
    with engine.connect() as connection:
        return analyses(connection, Filter())[0]


def reports(engine: sa.Engine, files: FileStore) -> list[pydicom.Dataset]:
    with engine.connect() as connection:
        paths = connection.execute(
            sa.text("SELECT path FROM result_object WHERE kind = 'sr' ORDER BY id")
        ).scalars()
        return [pydicom.dcmread(files.absolute(path)) for path in paths]


def test_findings_report_and_delivery_are_recorded(
    engine: sa.Engine, files: FileStore, head_ct: tuple[int, ...], ct_bundle: Bundle
) -> None:
    asked = ask(engine, ct_bundle, head_ct)
    analyst(engine, files, ct_bundle).analyse(asked)

    assert outcome(engine)["state"] == "done"
    with engine.connect() as connection:
        found = findings(connection, Filter())
        assert len(found) == 6
        made = {(row["engine"], row["engine_device"], row["engine_precision"]) for row in found}
        assert made == {("torch", "cpu", "float32")}
        assert all(row["engine_batch"] >= 1 and row["engine_version"] for row in found)
        deliveries = rows_of(connection, "v_deliveries", order_by="delivery_id")
    assert {(row["destination"], row["state"]) for row in deliveries} == {("pacs", "pending")}
    assert Counter(row["kind"] for row in deliveries) == {"sc": 6, "sr": 1, "ko": 1}
    (report,) = reports(engine, files)
    assert report.StudyInstanceUID == "1.2.3"
    delivered = {row["sop_instance_uid"] for row in deliveries if row["kind"] == "sr"}
    assert delivered == {str(report.SOPInstanceUID)}


def test_a_repeated_analysis_changes_nothing(
    engine: sa.Engine, files: FileStore, head_ct: tuple[int, ...], ct_bundle: Bundle
) -> None:
    asked = ask(engine, ct_bundle, head_ct)
    working = analyst(engine, files, ct_bundle)
    working.analyse(asked)
    first = outcome(engine)
    working.analyse(asked)

    assert outcome(engine) == first
    assert len(reports(engine, files)) == 1


def test_an_attempt_that_died_before_its_end_leaves_the_same_bytes(
    engine: sa.Engine,
    files: FileStore,
    head_ct: tuple[int, ...],
    ct_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = ask(engine, ct_bundle, head_ct)
    working = analyst(engine, files, ct_bundle)

    def die(*_arguments: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("inference.analyst.record_outcome", die)
        with pytest.raises(KeyboardInterrupt):
            working.analyse(asked)
    left = sorted((files.root / "results").rglob("*.dcm"))
    before = [path.read_bytes() for path in left]
    time.sleep(1.1)
    working.analyse(asked)

    after = sorted((files.root / "results").rglob("*.dcm"))
    assert after == left
    assert [path.read_bytes() for path in after] == before


def test_not_analysed_is_a_coded_outcome_with_a_report(
    engine: sa.Engine, files: FileStore, head_ct: tuple[int, ...], ct_bundle: Bundle
) -> None:
    asked = ask(engine, ct_bundle, head_ct[:1])
    analyst(engine, files, ct_bundle).analyse(asked)

    row = outcome(engine)
    assert row["state"] == "not_analysed"
    assert row["reason_code"] == "too_few_slices"
    (report,) = reports(engine, files)
    assert "122157" not in report.to_json(), "no probability without an analysis"
    with engine.connect() as connection:
        assert findings(connection, Filter()) == []


@pytest.mark.parametrize(
    ("criteria", "code"),
    [
        ({"contrast": "with"}, "contrast"),
        ({"kernels": ["STD*"]}, "kernel"),
        ({"max_duplicates": 0.1}, "duplicate_slices"),
        ({"max_spacing_deviation": 0.05, "max_gap": 0}, "uneven_spacing"),
        ({"phantom_words": ["P"]}, "not_a_patient"),
    ],
)
def test_each_reason_stands_in_the_database_and_in_the_report(
    engine: sa.Engine,
    files: FileStore,
    head_ct: tuple[int, ...],
    ct_bundle: Bundle,
    criteria: dict[str, object],
    code: str,
) -> None:
    with engine.connect() as connection:
        paths = connection.execute(sa.text("SELECT path FROM instance ORDER BY id")).scalars()
        stored = [files.absolute(path) for path in paths]
    for number, path in enumerate(stored):
        # Positions 0, 0, 5, 10 ... 45, 60, a sharp kernel.
        image = pydicom.dcmread(path)
        image.ImagePositionPatient = [0, 0, 60 if number == 11 else 5 * max(0, number - 1)]
        image.ConvolutionKernel = "BONE"
        path.chmod(0o600)
        image.save_as(path)
    if code == "duplicate_slices":
        head_ct = head_ct[:5]  # of five, two are one
    bundle = ct_bundle.with_suitability({"max_gap": 0, **criteria})
    analyst(engine, files, bundle).analyse(ask(engine, bundle, head_ct))

    row = outcome(engine)
    assert (row["state"], row["reason_code"]) == ("not_analysed", code)
    (report,) = reports(engine, files)
    evaluations = report.ContentSequence[-1].ContentSequence
    coded = {
        item.ConceptNameCodeSequence[0].CodeValue: item.ConceptCodeSequence[0].CodeValue
        for item in evaluations
        if item.ValueType == "CODE"
    }
    assert coded["REASON"] == NOT_ANALYSED[NotAnalysed(code)].value
    assert str(row["reason"]) in evaluations[2].TextValue


def test_not_analysed_without_a_report_by_setting(
    engine: sa.Engine, files: FileStore, head_ct: tuple[int, ...], ct_bundle: Bundle
) -> None:
    asked = ask(engine, ct_bundle, head_ct[:1])
    analyst(engine, files, ct_bundle, report_not_analysed=False).analyse(asked)

    assert outcome(engine)["state"] == "not_analysed"
    assert reports(engine, files) == []


def test_a_report_that_cannot_be_made_loses_no_finding(
    engine: sa.Engine,
    files: FileStore,
    head_ct: tuple[int, ...],
    ct_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise ObjectError("a report on SOP class 1.2 cannot be written")

    monkeypatch.setattr("inference.result_objects.make_objects", fail)
    analyst(engine, files, ct_bundle).analyse(ask(engine, ct_bundle, head_ct))
    told = outcome(engine)
    assert (told["state"], told["reason_code"]) == ("done", "report_failed")
    assert "cannot be written" in str(told["reason"])
    with engine.connect() as connection:
        assert len(findings(connection, Filter())) == 6


def test_who_is_told_is_kept_with_the_outcome_also_of_a_failure(
    engine: sa.Engine, files: FileStore, head_ct: tuple[int, ...], ct_bundle: Bundle
) -> None:
    seen: list[tuple[str, str]] = []

    def notify(analysis_id: str, outcome: Outcome) -> tuple[Notified, ...]:
        seen.append((analysis_id, outcome.state.value))
        return (Notified("ris"),)

    done, failed = ask(engine, ct_bundle, head_ct), ask(engine, ct_bundle, head_ct[:-1], "failed")
    working = analyst(engine, files, ct_bundle, notify=notify)
    working.analyse(done)
    working.fail(failed, "error", "it failed")

    assert seen == [(done, "done"), (failed, "failed")]
    with engine.connect() as connection:
        rows = rows_of(connection, "v_notifications", order_by="notification_id")
    assert [(row["analysis_id"], row["target"]) for row in rows] == [
        (failed, "ris"), (done, "ris"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("takes", "told"),
    [
        ({"a": "sr sc ko", "b": "sr sc"}, {"sr": {"sc"}, "ko": {"sc"}}),
        ({"a": "sr sc", "b": "ko"}, {"sr": {"sc"}, "ko": set()}),
        ({"a": "sr sc ko", "b": "ko"}, {"sr": {"sc"}, "ko": set()}),
        ({"a": "sr sc ko", "b": "sr"}, {"sr": set(), "ko": {"sc"}}),
        ({"a": "sr", "b": "sc ko"}, {"sr": set(), "ko": {"sc"}}),
    ],
)
def test_an_object_refers_only_to_what_goes_along(
    engine: sa.Engine,
    files: FileStore,
    head_ct: tuple[int, ...],
    ct_bundle: Bundle,
    takes: dict[str, str],
    told: dict[str, set[str]],
) -> None:
    def destinations(kind: str, _calling_ae: str | None) -> tuple[Destined, ...]:
        return tuple(Destined(name) for name, kinds in takes.items() if kind in kinds.split())

    asked = ask(engine, ct_bundle, head_ct)
    analyst(engine, files, ct_bundle, destinations=destinations).analyse(asked)
    with engine.connect() as connection:
        objects = rows_of(connection, "v_objects", order_by="object_id")
    kind_of = {row["sop_instance_uid"]: row["kind"] for row in objects}
    for row in objects:
        if row["kind"] in told:
            text = str(pydicom.dcmread(files.absolute(row["path"]), stop_before_pixels=True))
            others = {uid: kind for uid, kind in kind_of.items() if uid != row["sop_instance_uid"]}
            found = {kind for uid, kind in others.items() if uid in text}
            assert found == told[row["kind"]], row["kind"]


def test_shadow_results_are_kept_and_not_delivered(
    engine: sa.Engine, files: FileStore, head_ct: tuple[int, ...], ct_bundle: Bundle
) -> None:
    asked = ask(engine, ct_bundle, head_ct, shadow=True)
    analyst(engine, files, ct_bundle).analyse(asked)

    assert outcome(engine)["state"] == "done"
    assert len(reports(engine, files)) == 1
    with engine.connect() as connection:
        assert rows_of(connection, "v_deliveries", order_by="delivery_id") == []


def test_late_images_make_a_report_that_names_its_predecessor(
    engine: sa.Engine, files: FileStore, head_ct: tuple[int, ...], ct_bundle: Bundle
) -> None:
    working = analyst(engine, files, ct_bundle)
    working.analyse(ask(engine, ct_bundle, head_ct[:-1], digest="first"))
    working.analyse(ask(engine, ct_bundle, head_ct, digest="second"))

    first, second = reports(engine, files)
    predecessor = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    named = predecessor.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named == first.SOPInstanceUID
    assert second.SOPInstanceUID != first.SOPInstanceUID


def test_revised_images_that_look_the_same_have_objects_of_their_own(
    engine: sa.Engine, files: FileStore, head_ct: tuple[int, ...], ct_bundle: Bundle
) -> None:
    """Other bytes under the same SOP Instance UIDs, of which the model says the same."""
    working = analyst(engine, files, ct_bundle)
    for digest in ("first", "second"):
        working.analyse(ask(engine, ct_bundle, head_ct, digest=digest))
        assert outcome(engine)["state"] == "done"
    with engine.connect() as connection:
        made = connection.execute(
            sa.text("SELECT kind, sop_instance_uid FROM result_object ORDER BY kind, id")
        ).all()
    kinds = [kind for kind, _ in made]
    assert kinds.count("sr") == 2
    assert kinds.count("sc") >= 2
    assert len({uid for _, uid in made}) == len(made)


def test_a_model_that_changed_meanwhile_is_a_failure(
    engine: sa.Engine,
    files: FileStore,
    head_ct: tuple[int, ...],
    ct_bundle: Bundle,
    chest_bundle: Bundle,
) -> None:
    asked = ask(engine, ct_bundle, head_ct)
    analyst(engine, files, chest_bundle).analyse(asked)

    assert outcome(engine)["reason_code"] == "model_changed"


class FlakyReader:
    """Fails so often, then reads."""

    def __init__(self, bundle: Bundle, failures: int) -> None:
        self.reader = load_reader(bundle, "cpu")
        self.failures = failures
        self.calls = 0

    def read(self, images: Sequence[SourceImage]) -> Reading:
        self.calls += 1
        if self.calls <= self.failures:
            raise RuntimeError("DOE^JANE is not a number")
        return self.reader.read(images)


def serve(
    engine: sa.Engine, files: FileStore, bundle: Bundle, reader: FlakyReader, until: str
) -> None:
    """Run a worker until the analysis has that state."""
    working = Analyst(engine, files, {bundle.name: bundle}, lambda _bundle: reader, SETTINGS)
    identity = WorkerIdentity("test-0", "host", os.getpid(), "cpu", (bundle.name,))
    stop = threading.Event()
    worker = Worker(engine, working, identity, WorkerSettings(grace_seconds=1))
    thread = threading.Thread(target=worker.serve, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: outcome(engine)["state"] == until)
    finally:
        stop.set()
        thread.join(60)


@pytest.mark.parametrize(("failures", "state"), [(2, "done"), (99, "failed")])
def test_a_worker_tries_a_few_times_then_says_why(
    engine: sa.Engine,
    files: FileStore,
    head_ct: tuple[int, ...],
    ct_bundle: Bundle,
    failures: int,
    state: str,
) -> None:
    asked = ask(engine, ct_bundle, head_ct)
    with engine.begin() as connection:
        JobQueue(engine).enqueue(connection, asked, Priority.ROUTINE)
    reader = FlakyReader(ct_bundle, failures)
    serve(engine, files, ct_bundle, reader, state)

    assert reader.calls == 3
    if state == "failed":
        assert outcome(engine)["reason_code"] == "error"
        assert "DOE" not in str(outcome(engine)["reason"])
        assert reports(engine, files) == []


def test_two_workers_of_one_host_never_share_a_name(tmp_path: Path) -> None:
    with claim_worker_id(tmp_path, "cpu") as first, claim_worker_id(tmp_path, "cpu") as second:
        assert first != second
    with claim_worker_id(tmp_path, "cpu") as again:
        assert again == first
