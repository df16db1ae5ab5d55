"""Maps are kept with their analysis, once for each method, and go with it; on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from db import create_engine
from db.explanations import ExplanationRecord, image_path, keep, meanings, of_analysis
from db.ingest import Ingest, InstanceRecord
from db.migrate import upgrade
from db.outcomes import FindingRecord, Outcome, record_outcome
from db.results import AnalysisRequest, request_analysis
from db.schema import AnalysisState, Presence, Scope
from db.views import VIEWS

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MAP = ExplanationRecord(
    label="pneumothorax",
    sop_instance_uid="1.2.1.1",
    frame=0,
    method="class-activation",
    parameters='{"highest": 2.5}',
    map_rows=8,
    map_columns=8,
    placement="{}",
    cell_height_mm=43.0,
    cell_width_mm=42.0,
    map=b"packed",
)

IMAGE = InstanceRecord(
    study_instance_uid="1.2", patient_id="P", patient_name=None, patient_birth_date=None,
    patient_sex=None, accession_number=None, study_date=None, study_description=None,
    series_instance_uid="1.2.1", modality="DX", series_number=1, series_description=None,
    body_part=None, sop_instance_uid="1.2.1.1", sop_class_uid="1.2", transfer_syntax_uid="1.2",
    instance_number=1, path="images/a.dcm", size_bytes=1, sha256="a" * 64, received_at=NOW,
    association_id="t" * 32,
)  # fmt: skip
REQUEST = AnalysisRequest(
    id="d" * 64, study_instance_uid="1.2", series_instance_uid="1.2.1", instance_ids=(1,),
    instance_digest="d" * 64, model_name="m", model_version="1", weights_sha256="w" * 64,
    configuration_digest="c" * 64, priority="routine", shadow=False, trace_id="t" * 32,
    received_at=NOW,
)  # fmt: skip


@pytest.fixture
def analysed(database_url: str) -> Iterator[tuple[sa.Engine, str]]:
    engine = create_engine(database_url)
    upgrade(engine)
    Ingest(engine).add(IMAGE)
    with engine.begin() as connection:
        request_analysis(connection, REQUEST)
    yield engine, REQUEST.id
    engine.dispose()


def test_labels_are_called_by_the_meanings_of_their_codes(analysed: tuple[sa.Engine, str]) -> None:
    engine, analysis = analysed
    opacity = FindingRecord(
        label="left", code_value="128477000", code_scheme="SCT", code_meaning="Opacity",
        scope=Scope.SERIES, sop_instance_uid=None, probability=0.7, threshold_low=0.3,
        threshold_high=0.6, presence=Presence.PRESENT, key_sop_instance_uid=None,
    )  # fmt: skip
    found = (
        opacity,
        replace(opacity, label="right"),
        replace(opacity, label="any", code_meaning="Intracranial hemorrhage"),
    )
    with engine.begin() as connection:
        record_outcome(connection, analysis, Outcome(AnalysisState.DONE, findings=found))
        assert meanings(connection, analysis) == {
            "left": "Opacity (left)",
            "right": "Opacity (right)",
            "any": "Intracranial hemorrhage",
        }


def test_maps_come_with_the_outcome_and_only_once(analysed: tuple[sa.Engine, str]) -> None:
    engine, analysis = analysed
    outcome = Outcome(AnalysisState.DONE, explanations=(MAP,))
    with engine.begin() as connection:
        assert record_outcome(connection, analysis, outcome)
        assert not record_outcome(connection, analysis, outcome)
        assert of_analysis(connection, analysis) == [MAP]
        row = connection.execute(sa.text("SELECT * FROM v_explanations")).mappings().one()
    assert list(row) == list(VIEWS["v_explanations"])
    assert (row["method"], row["size_bytes"], row["model_name"]) == ("class-activation", 6, "m")
    assert (row["cell_height_mm"], row["cell_width_mm"]) == (43.0, 42.0)


def test_another_method_stands_beside_it_and_the_same_in_its_place(
    analysed: tuple[sa.Engine, str],
) -> None:
    engine, analysis = analysed
    other = replace(MAP, method="occlusion", map_rows=16, cell_height_mm=None, cell_width_mm=None)
    newer = replace(other, parameters='{"patch": 8}', map=b"finer, and longer")
    with engine.begin() as connection:
        for one in (MAP, other, newer, replace(MAP, frame=1), replace(MAP, label="x")):
            keep(connection, analysis, [one], NOW)
        kept = of_analysis(connection, analysis)
        sizes = connection.execute(sa.text("SELECT size_bytes FROM explanation ORDER BY id"))
        assert list(sizes.scalars()) == [6, 17, 6, 6]
    assert kept == [MAP, newer, replace(MAP, frame=1), replace(MAP, label="x")]


def test_maps_go_with_their_analysis(analysed: tuple[sa.Engine, str]) -> None:
    engine, analysis = analysed
    with engine.begin() as connection:
        keep(connection, analysis, [MAP], NOW)
        connection.execute(sa.text("DELETE FROM analysis_instance"))
        connection.execute(sa.text("DELETE FROM analysis"))
        assert connection.execute(sa.text("SELECT COUNT(*) FROM explanation")).scalar() == 0


def test_the_image_of_a_map_is_the_one_that_was_analysed(
    analysed: tuple[sa.Engine, str],
) -> None:
    engine, analysis = analysed
    Ingest(engine).add(replace(IMAGE, path="images/other.dcm", sha256="b" * 64))  # the same UID
    with engine.begin() as connection:
        query = "SELECT id FROM instance WHERE path = 'images/other.dcm'"
        other = connection.execute(sa.text(query)).scalar_one()
        later = replace(REQUEST, id="e" * 64, instance_ids=(other,), instance_digest="e" * 64)
        request_analysis(connection, later)
        assert image_path(connection, analysis, "1.2.1.1") == "images/a.dcm"
        assert image_path(connection, later.id, "1.2.1.1") == "images/other.dcm"
        assert image_path(connection, analysis, "1.2.1.9") is None
        connection.execute(
            sa.text("UPDATE instance SET missing_at = received_at WHERE path = 'images/a.dcm'")
        )
        assert image_path(connection, analysis, "1.2.1.1") is None
