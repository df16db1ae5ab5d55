"""CT series of one grey each, and a bundle with a small network that reads them slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import Classifier
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from inference.bundle_writing import write_bundle
from inference.input_spec import InputSpec
from inference.windows import Window

SIZE, LABEL = 64, "any"
_WIDTH = 80.0
_NETWORK = {"in_shape": [1, 32, 32], "classes": 1, "channels": [2], "strides": [2]}


def write_plain_bundle(path: Path, name: str = "plain") -> Path:
    """Write a bundle whose input is 0 at 0 HU and 1 at 80 HU."""
    torch.manual_seed(7)
    write_bundle(
        path,
        name=name,
        version="1",
        network_def={"_target_": "monai.networks.nets.Classifier", **_NETWORK},
        state_dict=Classifier(**_NETWORK).state_dict(),
        preread={
            "input": InputSpec("ct_slices", 32, windows=(Window(_WIDTH / 2, _WIDTH),)).to_dict(),
            "labels": [
                {
                    "name": LABEL,
                    "code": {"value": "50960005", "scheme": "SCT", "meaning": "Hemorrhage"},
                    "thresholds": {"low": 0.01, "high": 0.99},
                }
            ],
            "activation": "sigmoid",
            # Nothing is exported: that takes seconds, and these tests are about what runs it.
            "engine": "torch",
        },
        metadata={},
        card="# For tests\n",
    )
    return path


def write_plain_series(folder: Path, greys: Sequence[float], patient: str = "P") -> list[Path]:
    """Write a study of one axial series whose slices have these greys, 0 to 1, in the input."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series = generate_uid(), generate_uid()
    paths = []
    for number, grey in enumerate(greys):
        pixels = np.full((SIZE, SIZE), round(grey * _WIDTH), dtype=np.int16)
        pixels[:4, :4] = 0  # a slice without contrast is none
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.PatientID = dataset.PatientName = patient
        dataset.StudyDate, dataset.AccessionNumber = "20260501", ""
        dataset.Modality, dataset.InstanceNumber = "CT", number + 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.FrameOfReferenceUID = series
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [0, 0, 5.0 * number]
        dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 5
        dataset.Rows = dataset.Columns = SIZE
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        paths.append(folder / f"{number}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths
