"""Bundles of MONAI's Model Zoo at a real node: a series in, masks, volume and rows out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import zoo_bundles
from painted import Painted, dice, rotation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from running import Node

from inference.objects.checks import nodes
from scp import Peer, send_files

pytestmark = pytest.mark.slow

PAINTED = Painted(
    rotation((6.0, -4.0, 185.0)),
    tuple(np.cumsum([0.0] + [2.5, 3.5, 3.0, 2.0] * 6).tolist()),
    shear=0.3,
    shape=(72, 72),
    radii=(24.0, 21.0, 22.0),
)


def write_series(folder: Path) -> list[Path]:
    """Write a CT series of a body with something bright and large in it."""
    folder.mkdir()
    common = Dataset()
    common.SOPClassUID = CTImageStorage
    common.Modality = "CT"
    common.PatientName, common.PatientID = "Painted^Spleen", "ZOO-1"
    common.PatientBirthDate, common.PatientSex = "19700101", "O"
    common.StudyInstanceUID, common.SeriesInstanceUID = generate_uid(), generate_uid()
    common.FrameOfReferenceUID = generate_uid()
    common.StudyDate, common.StudyTime = "20260301", "101010"
    common.AccessionNumber, common.StudyID = "ACC-1", "1"
    common.ReferringPhysicianName, common.PositionReferenceIndicator = "", ""
    common.Manufacturer, common.SeriesNumber = "Painted", 2
    common.BodyPartExamined, common.PatientPosition = "ABDOMEN", "HFS"
    common.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    common.KVP, common.AcquisitionNumber, common.SliceThickness = "120", 1, "3"
    common.SamplesPerPixel, common.PhotometricInterpretation = 1, "MONOCHROME2"
    common.BitsAllocated = common.BitsStored = 16
    common.HighBit, common.PixelRepresentation = 15, 1
    common.RescaleSlope, common.RescaleIntercept, common.RescaleType = "1", "0", "HU"
    common.Rows, common.Columns = PAINTED.shape
    paths = []
    for number in range(len(PAINTED.along)):
        one = Dataset()
        one.update(common)
        one.SOPInstanceUID = generate_uid()
        for keyword, value in PAINTED.header(number).items():
            setattr(one, keyword, value)
        one.PixelData = np.where(PAINTED.inside(number), 150, -50).astype(np.int16).tobytes()
        one["PixelData"].VR = "OW"
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        paths.append(folder / f"{number:03}.dcm")
        one.save_as(paths[-1], enforce_file_format=True)
    return paths


def test_two_bundles_of_the_zoo_join_by_a_section_each(
    node: Node, tmp_path: Path, validators: Any
) -> None:
    spleen = zoo_bundles.write_spleen(
        tmp_path / "spleen_ct_segmentation", zoo_bundles.trained_unet()
    )
    nodules = zoo_bundles.write_classifier(tmp_path / "nodule_classification")
    node.configure(
        f'shipped = false\n[[model]]\nname = "spleen"\npath = "{spleen}"\n'
        f'[[model]]\nname = "nodules"\npath = "{nodules}"\n'
        + "".join(
            f'[[rule]]\nname = "{model}"\nmodel = "{model}"\nwhen = {{ Modality = "CT" }}\n'
            for model in ("spleen", "nodules")
        )
    )
    node.start()
    files = write_series(tmp_path / "series")
    report = send_files(Peer("127.0.0.1", node.port, "PREREAD", "TEST"), files)
    assert report.ok, report
    done = node.preread("results", "--format", "json", "--patient", "ZOO-1", "--wait", "200")
    assert done.returncode == 0, done.stderr
    found = {(f["model_name"], f["label"]): f for f in json.loads(done.stdout)["findings"]}
    assert set(found) == {("spleen", "spleen"), ("nodules", "nodule"), ("nodules", "pneumothorax")}
    assert found["spleen", "spleen"]["presence"] == "Present"

    # Asked by SQL: the volume, near to the painted one.
    rows = node.query("SELECT model_name, label, quantity, value, unit FROM v_measurements")
    ((model, label, quantity, value, unit),) = rows
    assert (model, label, quantity, unit) == ("spleen", "spleen", "Volume", "ml")
    assert value == pytest.approx(PAINTED.ml, rel=0.1)

    # The objects: masks where it was painted, and the same volume in the report.
    kept = node.query(
        "SELECT model_name, kind, path FROM v_objects WHERE model_name = 'spleen' AND fault IS NULL"
    )
    objects = {kind: node.data / path for _, kind, path in kept}
    assert {"sr", "seg", "sc", "ko"} <= set(objects)
    segmentation = pydicom.dcmread(objects["seg"])
    assert dice(*masks(segmentation, files)) > 0.9
    (segment,) = segmentation.SegmentSequence
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    sr = pydicom.dcmread(objects["sr"])
    volumes = [n.item for n in nodes(sr) if n.name is not None and n.name.meaning == "Volume"]
    (measured,) = volumes[0].MeasuredValueSequence
    assert float(measured.NumericValue) == pytest.approx(value, rel=0.01)
    made = {f"{kind}{n}": (node.data / path).read_bytes() for n, (_, kind, path) in enumerate(kept)}
    validators.check_objects(made, files, tmp_path)
    validators.assert_template(objects["sr"].read_bytes(), tmp_path / "judged.dcm")
    assert node.stop() == 0


def masks(segmentation: Dataset, files: Iterable[Path]) -> tuple[Any, Any]:
    """Return the masks of a segmentation, and the painted ones, in the order of the files."""
    frames = {
        str(
            group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        ): pixels
        for group, pixels in zip(
            segmentation.PerFrameFunctionalGroupsSequence,
            np.atleast_3d(segmentation.pixel_array).astype(bool),
            strict=True,
        )
    }
    empty = np.zeros(PAINTED.shape, dtype=bool)
    uids = [str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in files]
    return (
        np.stack([frames.get(uid, empty) for uid in uids]),
        np.stack([PAINTED.inside(number) for number in range(len(uids))]),
    )
