"""``preread show``: an object as text, as a page in a real browser, as a picture."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from typer.testing import CliRunner

from deploy.cli import app
from deploy.errors import DeployError
from inference import codes
from inference.objects import DeviceIdentity, object_bytes
from inference.reading import (
    Finding,
    Illustration,
    Label,
    ModelIdentity,
    Reading,
    Scope,
    Thresholds,
)
from inference.result_objects import ResultBasis, make_objects

NAME = "Yamada^Tarou=山田^太郎<b>&"


def made_of(source: Dataset, **changes: object) -> dict[str, bytes]:
    """Return the objects of an analysis of one radiograph, by kind."""
    uid = str(source.SOPInstanceUID)
    label = Label("pneumothorax", codes.PNEUMOTHORAX, Thresholds(0.3, 0.6), codes.PLEURA)
    finding = Finding(label, Scope.IMAGE, 0.9312, sop_instance_uid=uid)
    picture = np.linspace(0, 255, 64 * 64).astype(np.uint8).reshape(64, 64)
    shown = Illustration(uid, 0, picture, labels=("pneumothorax",))
    values: dict[str, object] = {
        "sources": (source,),
        "model": ModelIdentity("ptx", "1.0", "a" * 64),
        "device": DeviceIdentity("PREREAD", "Preread", "Preread", "0.1", "SN1"),
        "created_at": datetime(2026, 3, 1, tzinfo=UTC),
        "reading": Reading((finding,), (uid,), illustrations=(shown,)),
    }
    result = make_objects(ResultBasis(**(values | changes)))  # type: ignore[arg-type]
    return {one.kind: object_bytes(one.dataset) for one in result.made}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = get_testdata_file("RG1_UNCR.dcm")
    if found is None:
        pytest.skip("pydicom-data has no RG1_UNCR.dcm")
    source = dcmread(str(found), stop_before_pixels=True)
    source.SpecificCharacterSet, source.PatientName = "ISO_IR 192", NAME
    paths = {}
    for kind, content in made_of(source).items():
        paths[kind] = tmp_path / f"{kind}.dcm"
        paths[kind].write_bytes(content)
    return paths


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["show", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_report_is_printed(files: dict[str, Path]) -> None:
    printed = run(files["sr"])
    assert "Pneumothorax: Present, AI probability 93.12 %" in printed
    assert "Images read: 1" in printed


def test_a_capture_becomes_a_picture(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    run(files["sc"], "--out", out)
    with Image.open(out) as picture:
        assert np.array_equal(np.asarray(picture), dcmread(files["sc"]).pixel_array)


@pytest.mark.parametrize(("kind", "suffix"), [("sr", "png"), ("sc", "html")])
def test_what_cannot_be_shown_so_is_said(
    files: dict[str, Path], tmp_path: Path, kind: str, suffix: str
) -> None:
    with pytest.raises(DeployError, match="only a"):
        run(files[kind], "--out", tmp_path / f"x.{suffix}")


def test_what_is_no_object_is_said(tmp_path: Path) -> None:
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM")
    with pytest.raises(DeployError, match="is no DICOM file"):
        run(text)


@pytest.mark.peer
def test_the_page_stands_in_a_browser_as_it_is(files: dict[str, Path], tmp_path: Path) -> None:
    """Names in any script, nothing of a header becomes markup, nothing is fetched."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is missing, and CI must have it")
        pytest.skip("chromium is missing")
    page = tmp_path / "x.html"
    run(files["sr"], "--out", page)
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu",
         f"--user-data-dir={tmp_path / 'b'}",
         "--dump-dom", f"file://{page}"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    dom = done.stdout
    assert "山田 太郎&lt;b&gt;&amp;" in dom
    assert 'class="Present"' in dom
    assert "Not for primary diagnosis" in dom
    assert not any(word in dom for word in ("<script", "src=", "href=", "@import", "url("))
