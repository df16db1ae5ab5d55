"""Images that the tests make, real images where they are, and bundles with tiny networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from dbos import DBOS
from monai.networks.nets import Classifier
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from db import create_engine
from db.migrate import upgrade
from inference.bundle import Bundle, open_bundle
from inference.bundle_writing import write_bundle
from inference.input_spec import InputSpec
from inference.jobs import prepare
from inference.reading import SourceImage
from inference.windows import BRAIN, SOFT, SUBDURAL

HEMORRHAGE = (
    "any",
    "epidural",
    "intraparenchymal",
    "intraventricular",
    "subarachnoid",
    "subdural",
)


@pytest.fixture(autouse=True)
def _no_worker_is_left_over() -> Iterator[None]:
    """The job engine is one per process: what a failed test left would fail those after it."""
    yield
    DBOS.destroy()


@pytest.fixture(scope="session")
def sample() -> Callable[[str], Path]:
    """Return the path of a file of pydicom or pydicom-data, or skip."""

    def find(name: str) -> Path:
        path = get_testdata_file(name, download=False)
        if path is None:
            pytest.skip(f"{name} is not installed (pip install pydicom-data)")
        return Path(str(path))

    return find


def _source(path: Path, number: int = 0) -> SourceImage:
    header = dcmread(path, stop_before_pixels=True)
    syntax = header.file_meta.TransferSyntaxUID
    return SourceImage(number, header.SOPInstanceUID, header.SOPClassUID, syntax, path)


@pytest.fixture(scope="session")
def sources() -> Callable[[Iterable[Path]], list[SourceImage]]:
    """Return stored images as the database would describe them."""
    return lambda paths: [_source(path, number) for number, path in enumerate(paths)]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """An SQLite database with our tables and the job engine's."""
    engine = create_engine(f"sqlite:///{tmp_path / 'facts.sqlite'}")
    upgrade(engine)
    prepare(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def jobs_engine(database_url: str) -> Iterator[sa.Engine]:
    """The same in a database of each kind."""
    engine = create_engine(database_url)
    upgrade(engine)
    prepare(engine)
    prepare(engine)  # which may be repeated
    yield engine
    engine.dispose()


@pytest.fixture
def write_image(tmp_path: Path) -> Callable[..., Path]:
    """Write an image of 16-bit cells; keywords set, or with None remove, attributes."""

    def write(pixels: np.ndarray[Any, Any], **elements: Any) -> Path:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = generate_uid()
        dataset.Modality = "CT"
        dataset.Rows, dataset.Columns = pixels.shape[-2:]
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = pixels.dtype.itemsize * 8
        dataset.BitsStored = dataset.BitsAllocated
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        if "BitsStored" in elements and "HighBit" not in elements:
            dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path = tmp_path / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


def _label(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "code": {"value": "50960005", "scheme": "SCT", "meaning": "Hemorrhage"},
        "site": {"value": "12738006", "scheme": "SCT", "meaning": "Brain"},
        "thresholds": {"low": 0.1, "high": 0.5},
    }


def _tiny(path: Path, name: str, spec: InputSpec, labels: Iterable[str], **preread: Any) -> Bundle:
    torch.manual_seed(7)
    wanted = list(labels)
    arguments = {
        "in_shape": [spec.channels, spec.size, spec.size],
        "classes": len(wanted),
        "channels": [4, 8],
        "strides": [2, 2],
    }
    write_bundle(
        path,
        name=name,
        version="0.0.1",
        network_def={"_target_": "monai.networks.nets.Classifier", **arguments},
        state_dict=Classifier(**arguments).state_dict(),
        preread={
            "input": spec.to_dict(),
            "labels": [_label(label) for label in wanted],
            **preread,
        },
        metadata={"description": "A network for tests"},
        card="# For tests\n",
    )
    return open_bundle(path)


@pytest.fixture(scope="session")
def ct_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a tiny reader of head CT with the six labels of the RSNA set."""
    return _tiny(
        tmp_path_factory.mktemp("bundles") / "hemorrhage",
        "hemorrhage",
        InputSpec("ct_slices", 32, (BRAIN, SUBDURAL, SOFT)),
        HEMORRHAGE,
        suitability={
            "modalities": ["CT"],
            "body_parts": ["HEAD", "BRAIN", "SKULL"],
            "min_slices": 4,
            "max_gap": 1.6,
            "axial": True,
        },
    )


@pytest.fixture(scope="session")
def chest_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a tiny reader of chest radiographs."""
    return _tiny(
        tmp_path_factory.mktemp("bundles") / "pneumothorax",
        "pneumothorax",
        InputSpec("radiograph", 64, polarity="chest"),
        ["pneumothorax"],
        suitability={
            "modalities": ["CR", "DX"],
            "body_parts": ["CHEST", "THORAX"],
            "refused_views": ["LL", "RL", "LATERAL"],
        },
    )
