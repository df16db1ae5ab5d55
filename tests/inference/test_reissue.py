"""A patient merge or a new accession number: results again, corrected, and only these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from stored_files import store

from db import FileStore, create_engine
from db.corrections import correct
from db.ingest import Ingest
from db.outcomes import Destined, Outcome, record_outcome
from db.query import rows_of
from db.results import request_analysis
from inference import codes
from inference.analyst import Analyst
from inference.analyst_settings import AnalystSettings
from inference.bundle import Bundle
from inference.errors import CorrectedMeanwhileError, ReissueError
from inference.objects import DeviceIdentity, validate
from inference.reading import Finding, Illustration, Label, Reading, Scope, SourceImage, Thresholds
from inference.reissue import reissue_study
from inference.requests import request_analysis_of

STUDY = "1.2.3"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ANY = Label("any", codes.INTRACRANIAL_HEMORRHAGE, Thresholds(0.2, 0.5), codes.INTRACRANIAL)


class Reads:
    """A reader that finds the same in whatever it is given."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.meanwhile = meanwhile

    def read(self, images: Sequence[SourceImage]) -> Reading:
        self.meanwhile()
        uids = tuple(image.sop_instance_uid for image in images)
        keys = uids[1:3]
        picture = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
        return Reading(
            (Finding(ANY, Scope.SERIES, 0.93, None, keys),),
            uids,
            illustrations=tuple(
                Illustration(uid, 0, picture, "brain 40/80", labels=("any",), position_mm=5.0)
                for uid in keys
            ),
        )


@pytest.fixture
def ask(
    engine: sa.Engine, files: FileStore, write_image: Callable[..., Path], ct_bundle: Bundle
) -> Callable[[int], str]:
    """Store so many slices and ask for their analysis."""

    def add(number: int) -> None:
        request = pydicom.Dataset()
        request.RequestedProcedureID, request.AccessionNumber = "RP", "A-1"
        path = write_image(
            np.zeros((64, 64), dtype=np.int16),
            SpecificCharacterSet="ISO_IR 100",
            StudyInstanceUID=STUDY,
            SeriesInstanceUID="1.2.3.4",
            SOPInstanceUID=f"1.2.3.4.{number}",
            PatientName="Müller^Eva",
            PatientID="P-1",
            AccessionNumber="A-1",
            InstanceNumber=number + 1,
            RequestAttributesSequence=[request],
        )
        store(Ingest(engine), files, f"1.2.3.4.{number}", path.read_bytes(), received_at=NOW)

    def asked(count: int) -> str:
        with engine.connect() as connection:
            there = rows_of(connection, "v_instances", order_by="received_at")
        for number in range(len(there), count):
            add(number)
        with engine.begin() as connection:
            ids = connection.execute(sa.text("SELECT id FROM instance ORDER BY id")).scalars().all()
            request = request_analysis_of(
                ct_bundle,
                study_instance_uid=STUDY,
                series_instance_uid="1.2.3.4",
                instance_ids=tuple(ids),
                instance_digest=str(count),
                priority="routine",
                shadow=False,
                trace_id="t" * 32,
                received_at=NOW,
            )
            request_analysis(connection, request)
        return request.id

    return asked


@pytest.fixture
def analyst(engine: sa.Engine, files: FileStore, ct_bundle: Bundle) -> Callable[..., Analyst]:
    settings = AnalystSettings(
        worker="test-0",
        device="cpu",
        node=DeviceIdentity("PREREAD", "Preread", "Preread", "0.1", "SN1"),
        destinations=lambda kind, calling_ae: (Destined("pacs"),) if kind != "ko" else (),
    )

    def make(reads: Reads | None = None) -> Analyst:
        reader = reads or Reads()
        return Analyst(engine, files, {ct_bundle.name: ct_bundle}, lambda _bundle: reader, settings)

    return make


def objects(engine: sa.Engine, files: FileStore, **equals: object) -> dict[str, pydicom.Dataset]:
    """Return the newest object of each kind, captures by number."""
    with engine.connect() as connection:
        rows = rows_of(connection, "v_objects", order_by="object_id", equals=equals)
    found: dict[str, pydicom.Dataset] = {}
    for row in reversed(rows):
        ds = pydicom.dcmread(files.absolute(row["path"]))
        number = f"{ds.InstanceNumber}" if row["kind"] == "sc" else ""
        found[f"{row['kind']}{number}"] = ds
    return found


def referenced(ds: pydicom.Dataset) -> set[str]:
    return {str(e.value) for e in ds.iterall() if e.keyword == "ReferencedSOPInstanceUID"}


def test_every_object_is_replaced_by_a_corrected_one(
    engine: sa.Engine, files: FileStore, ask: Callable[[int], str], analyst: Callable[..., Analyst]
) -> None:
    analyst().analyse(ask(4))
    old = objects(engine, files)
    assert sorted(old) == ["ko", "sc1", "sc2", "sr"]
    name = "Yamada^Tarou=山田^太郎"
    corrected = {"PatientID": "P-2", "PatientName": name, "AccessionNumber": "A-2"}
    done = reissue_study(engine, files, STUDY, corrected, "merge", NOW)
    assert {one.replaced for one in done} == {str(ds.SOPInstanceUID) for ds in old.values()}
    new = objects(engine, files, is_current=True)
    for kind, ds in new.items():
        validate(ds)
        assert (ds.PatientID, str(ds.PatientName)) == ("P-2", name), kind
        assert ds.AccessionNumber == "A-2"
        assert ds.SOPInstanceUID != old[kind].SOPInstanceUID
        assert ds.SeriesInstanceUID != old[kind].SeriesInstanceUID
        assert old[kind].PatientID == "P-1"
    assert new["sc1"].SeriesInstanceUID == new["sc2"].SeriesInstanceUID
    assert new["sc1"].PixelData == old["sc1"].PixelData
    assert new["sr"].ReferencedRequestSequence[0].AccessionNumber == "A-2"
    (study,) = new["sr"].PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == old["sr"].SOPInstanceUID
    captures = {str(new[name].SOPInstanceUID) for name in ("sc1", "sc2")}
    assert captures <= referenced(new["sr"])
    gone = {str(ds.SOPInstanceUID) for ds in old.values()} - {str(old["sr"].SOPInstanceUID)}
    assert not gone & referenced(new["sr"])
    with engine.connect() as connection:
        deliveries = rows_of(connection, "v_deliveries", order_by="delivery_id")
        (told,) = rows_of(connection, "v_studies", order_by="received_at")
    pending = {row["sop_instance_uid"] for row in deliveries if row["state"] == "pending"}
    assert pending == {str(new[name].SOPInstanceUID) for name in ("sc1", "sc2", "sr")}
    assert (told["patient_id"], told["accession_number"]) == ("P-2", "A-2")


def test_the_same_correction_again_replaces_what_replaced(
    engine: sa.Engine, files: FileStore, ask: Callable[[int], str], analyst: Callable[..., Analyst]
) -> None:
    analyst().analyse(ask(3))
    reissue_study(engine, files, STUDY, {"PatientID": "P-2"}, "merge", NOW)
    reissue_study(engine, files, STUDY, {"PatientID": "P-1"}, "it was right", NOW)
    current = objects(engine, files, is_current=True)
    assert {str(ds.PatientID) for ds in current.values()} == {"P-1"}
    with engine.connect() as connection:
        rows = rows_of(connection, "v_objects", order_by="object_id")
    assert len(rows) == 3 * len(current)
    assert len({row["sop_instance_uid"] for row in rows}) == len(rows)


def test_later_results_are_correct_from_the_start(
    engine: sa.Engine, files: FileStore, ask: Callable[[int], str], analyst: Callable[..., Analyst]
) -> None:
    analyst().analyse(ask(3))
    reissue_study(engine, files, STUDY, {"PatientID": "P-2", "AccessionNumber": "A-2"}, "r", NOW)
    corrected = objects(engine, files, kind="sr", is_current=True)["sr"]
    analyst().analyse(ask(4))
    (newest,) = [ds for ds in objects(engine, files, version=2).values() if ds.Modality == "SR"]
    assert (newest.PatientID, newest.AccessionNumber) == ("P-2", "A-2")
    before = newest.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == corrected.SOPInstanceUID


def test_a_study_without_results_is_corrected_for_those_to_come(
    engine: sa.Engine, files: FileStore, ask: Callable[[int], str], analyst: Callable[..., Analyst]
) -> None:
    asked = ask(3)
    assert reissue_study(engine, files, STUDY, {"PatientID": "P-2"}, "merge", NOW) == []
    analyst().analyse(asked)
    assert {str(ds.PatientID) for ds in objects(engine, files).values()} == {"P-2"}


def test_a_correction_while_the_model_reads_is_not_lost(
    engine: sa.Engine, files: FileStore, ask: Callable[[int], str], analyst: Callable[..., Analyst]
) -> None:
    def meanwhile() -> None:
        with engine.begin() as connection:
            correct(connection, STUDY, {"PatientID": "P-2"}, "merge", NOW)

    asked = ask(3)
    with pytest.raises(CorrectedMeanwhileError):
        analyst(Reads(meanwhile)).analyse(asked)
    assert objects(engine, files) == {}
    analyst().analyse(asked)  # the worker's next attempt
    assert {str(ds.PatientID) for ds in objects(engine, files).values()} == {"P-2"}


@pytest.mark.parametrize("kind", [ValueError, MemoryError, KeyError, TypeError])
def test_a_companion_that_fails_oddly_does_not_lose_the_finding(
    engine: sa.Engine,
    files: FileStore,
    ask: Callable[[int], str],
    analyst: Callable[..., Analyst],
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
) -> None:
    def odd(*_: object) -> None:
        raise kind("Müller")

    monkeypatch.setattr("inference.result_objects.build_capture", odd)
    monkeypatch.setattr("inference.result_objects.build_key_objects", odd)
    analyst().analyse(ask(3))
    assert set(objects(engine, files)) == {"sr"}
    with engine.connect() as connection:
        (ended,) = connection.execute(sa.text("SELECT state, facts FROM analysis")).all()
        presences = connection.execute(sa.text("SELECT presence FROM finding")).scalars().all()
    assert ended.state == "done" and "Müller" not in ended.facts
    assert presences == ["Present"]


def test_nobody_corrects_between_the_check_and_the_entry(
    engine: sa.Engine,
    files: FileStore,
    ask: Callable[[int], str],
    analyst: Callable[..., Analyst],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rival = create_engine(str(engine.url), wait_seconds=0.2)

    def entered(connection: sa.Connection, analysis_id: str, outcome: Outcome) -> bool:
        with pytest.raises(sa.exc.OperationalError):
            reissue_study(rival, files, STUDY, {"PatientID": "P-2"}, "merge", NOW)
        return record_outcome(connection, analysis_id, outcome)

    monkeypatch.setattr("inference.analyst.record_outcome", entered)
    analyst().analyse(ask(3))
    reissue_study(rival, files, STUDY, {"PatientID": "P-2"}, "merge", NOW)
    rival.dispose()
    current = objects(engine, files, is_current=True)
    assert {str(ds.PatientID) for ds in current.values()} == {"P-2"}


def test_an_earlier_version_that_waits_is_not_sent_any_more(
    engine: sa.Engine, files: FileStore, ask: Callable[[int], str], analyst: Callable[..., Analyst]
) -> None:
    analyst().analyse(ask(3))
    analyst().analyse(ask(4))
    reissue_study(engine, files, STUDY, {"PatientID": "P-2"}, "merge", NOW)
    with engine.connect() as connection:
        rows = rows_of(connection, "v_deliveries", order_by="delivery_id")
        paths = {
            row["sop_instance_uid"]: row["path"]
            for row in rows_of(connection, "v_objects", order_by="object_id")
        }
    sent = [paths[row["sop_instance_uid"]] for row in rows if row["state"] == "pending"]
    assert sent
    assert {str(pydicom.dcmread(files.absolute(path)).PatientID) for path in sent} == {"P-2"}


@pytest.mark.parametrize(
    ("study", "attributes", "said"),
    [
        ("9.9", {"PatientID": "X"}, "not known"),
        (STUDY, {"StudyDate": "20260101"}, "StudyDate cannot be corrected"),
        (STUDY, {}, "nothing to correct; what can be: PatientID"),
        (STUDY, {"PatientBirthDate": "12.3.1999"}, "PatientBirthDate is no legal value"),
        (STUDY, {"PatientSex": "female"}, "PatientSex"),
        (STUDY, {"AccessionNumber": "A" * 17}, "AccessionNumber is no legal value"),
    ],
)
def test_what_cannot_be_is_refused_without_quoting_it(
    engine: sa.Engine,
    files: FileStore,
    ask: Callable[[int], str],
    study: str,
    attributes: dict[str, str],
    said: str,
) -> None:
    ask(2)
    with pytest.raises(ReissueError, match=said) as refused:
        reissue_study(engine, files, study, attributes, "merge", NOW)
    assert not any(value in str(refused.value) for value in attributes.values() if len(value) > 3)
