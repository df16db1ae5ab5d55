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


@pytest.fixture
def film(tmp_path: Path) -> Path:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.Modality = "CR"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path = tmp_path / "film.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def ask(film: Path, tmp_path: Path) -> Ask:
    def call(settings: str = "", *options: str) -> str:
        config = tmp_path / "preread.toml"
        config.write_text(f'data_dir = "{tmp_path / "data"}"\n{settings}')
        done = CliRunner().invoke(
            app, ["rules", "test", str(film), "--config", str(config), *options]
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
    assert "first: no, it is not known who sent it" in ask(rule)
    assert "  -> pneumothorax (stat)" in ask(rule, "--calling", "EMERGENCY")
    assert "first: no, WARD called PREREAD" in ask(rule, "--calling", "WARD")
