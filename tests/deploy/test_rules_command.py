"""``preread rules test`` answers what the node would do: by the models that it offers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from typer.testing import CliRunner

from deploy.cli import app
from deploy.errors import SettingsError

Ask = Callable[..., str]


def write_film(path: Path, **attributes: str) -> Path:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.Modality = "CR"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    (tmp_path / "films").mkdir()
    return write_film(tmp_path / "films" / "01.dcm")


@pytest.fixture
def ask(film: Path, tmp_path: Path) -> Ask:
    def call(settings: str = "", *options: str) -> str:
        config = tmp_path / "preread.toml"
        config.write_text(f'data_dir = "{tmp_path / "data"}"\n{settings}')
        done = CliRunner().invoke(
            app, ["rules", "test", str(film.parent), "--config", str(config), *options]
        )
        if done.exception is not None:
            raise done.exception
        return done.stdout

    return call


def test_only_models_that_are_offered_are_named(ask: Ask) -> None:
    told = ask()
    assert "  -> pneumothorax (routine), rule chest-frontal" in told
    assert "chest-findings" not in told


def test_without_a_model_the_file_is_parked(ask: Ask) -> None:
    told = ask('[[model]]\nname = "pneumothorax"\nenabled = false\n')
    assert "  -> parked" in told
    assert "pneumothorax" not in told


def test_a_rule_for_a_model_that_is_not_there_is_refused_as_by_the_node(ask: Ask) -> None:
    with pytest.raises(SettingsError, match="mine: model chest-findings is not installed"):
        ask('[[rule]]\nname = "mine"\nmodel = "chest-findings"\nwhen = { Modality = "CR" }\n')


def test_a_rule_by_the_sender_is_answered_for_a_sender(ask: Ask) -> None:
    rule = '[[rule]]\nname = "first"\ncalling_ae = "EMERGENCY"\npriority = "stat"\n'
    assert "  -> pneumothorax (routine)" in ask(rule)
    assert "first: no, it is not known who sent it, asked for calling AE title EMERGENCY" in ask(
        rule
    )
    assert "  -> pneumothorax (stat)" in ask(rule, "--calling", "EMERGENCY")
    assert "first: no, calling AE title WARD does not match EMERGENCY" in ask(
        rule, "--calling", "WARD"
    )


def test_a_series_is_one_block_and_equal_answers_are_one(ask: Ask, film: Path) -> None:
    for number in range(2, 13):
        write_film(film.with_name(f"{number:02}.dcm"))
    write_film(film.with_name("13.dcm"), ViewPosition="LL")
    write_film(film.with_name("14.dcm"), SeriesInstanceUID="1.2.3.5", Modality="US")
    write_film(film.with_name("15.dcm"), SeriesInstanceUID="")
    lines = ask().splitlines()
    assert [one for one in lines if not one.startswith("   ")] == [
        "series 1.2.3.4: 13 images",
        "  -> pneumothorax (routine), rule chest-frontal",
        f"  12 images: {film} and 11 more",
        f"  1 image: {film.with_name('13.dcm')}",
        "series 1.2.3.5: 1 image",
        "  -> parked: kept, read by no model",
        f"  1 image: {film.with_name('14.dcm')}",
        "no Series Instance UID",
        "  -> read by no model: without a Series Instance UID it belongs to no series",
        f"  1 image: {film.with_name('15.dcm')}",
    ]
    assert lines.count("     chest-frontal: read by pneumothorax, routine") == 2
    assert "     chest-frontal: no, ViewPosition is 'LL', asked for AP*, PA*, no value" in lines
    assert "     chest-frontal: no, Modality is 'US', asked for CR, DX" in lines


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_answered(
    ask: Ask, film: Path
) -> None:
    film.with_name("no.dcm").write_text("no image")
    with pytest.raises(SystemExit) as ended:
        ask()
    assert ended.value.code == 1
