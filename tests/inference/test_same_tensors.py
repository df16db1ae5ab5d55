"""Training and service make the same tensor of one file, whatever the form of its pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import dcmread

from inference.bundle import Bundle
from inference.ct_slices_reader import CtSlicesReader
from inference.input_spec import InputSpec
from inference.model_values import model_values
from inference.pixels import open_image
from inference.radiograph_reader import RadiographReader
from inference.reading import SourceImage
from inference.tensors import prepare_ct, prepare_radiograph
from inference.training.prepared import prepare_file
from inference.windows import BRAIN, SOFT, SUBDURAL, VoiLutFunction, Window

Sample = Callable[[str], Path]
Sources = Callable[[Iterable[Path]], list[SourceImage]]

CPU = torch.device("cpu")
CT = InputSpec("ct_slices", 64, (BRAIN, SUBDURAL, SOFT))
FILM = InputSpec("radiograph", 64, polarity="chest")

CT_FILES = [
    "693_UNCR.dcm",
    "693_J2KI.dcm",
    "693_J2KR.dcm",
    "CT_small.dcm",
    "bad_sequence.dcm",
    "explicit_VR-UN.dcm",
    "J2K_pixelrep_mismatch.dcm",
]
FILMS = ["RG1_UNCR.dcm", "RG1_J2KI.dcm", "RG3_J2KR.dcm", "vlut_04.dcm", "mlut_18.dcm", "SC_rgb.dcm"]


def in_training(path: Path, spec: InputSpec) -> torch.Tensor:
    """Return the bytes that training learns from, as 0 to 255: (channels, size, size)."""
    return torch.from_numpy(prepare_file(path, spec))


def prepared(path: Path, spec: InputSpec) -> torch.Tensor:
    """Return the tensor before it is kept as bytes, from the public functions."""
    values = model_values(open_image(path), 0, spec).values
    if spec.kind == "ct_slices":
        return prepare_ct(values[None], spec, CPU)
    return prepare_radiograph(values, spec, CPU)


def in_service(bundle: Bundle, spec: InputSpec, sources: list[SourceImage]) -> torch.Tensor:
    """Return the tensor that the network is given: (1, channels, size, size)."""
    accepts_all = replace(
        bundle.suitability, modalities=(), body_parts=(), min_slices=1, min_rows=1, axial=False
    )
    served = replace(bundle, spec=spec, suitability=accepts_all)
    reader = (CtSlicesReader if spec.kind == "ct_slices" else RadiographReader)(served)
    (batch,) = list(reader.decode(sources).batches)
    return torch.as_tensor(batch.tensor)


def compare(bundle: Bundle, spec: InputSpec, path: Path, sources: Sources) -> None:
    served = in_service(bundle, spec, sources([path]))
    assert torch.equal(served, prepared(path, spec))
    learnt = in_training(path, spec)
    assert learnt.shape == served.shape[1:]
    # A byte is the nearest of 256 levels.
    assert float((learnt / 255 - served[0]).abs().max()) <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("name", CT_FILES)
def test_a_slice_is_the_same_in_both(
    ct_bundle: Bundle, sample: Sample, sources: Sources, name: str
) -> None:
    compare(ct_bundle, CT, sample(name), sources)


@pytest.mark.parametrize("name", FILMS)
def test_a_film_is_the_same_in_both(
    chest_bundle: Bundle, sample: Sample, sources: Sources, name: str
) -> None:
    compare(chest_bundle, FILM, sample(name), sources)


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec("ct_slices", 48, (Window(35, 79.5, "stroke"),)),
        InputSpec("ct_slices", 48, (Window(600, 2800, "bone", VoiLutFunction.SIGMOID), BRAIN)),
        InputSpec("ct_slices", 48, (Window(-600, 1500, "", VoiLutFunction.LINEAR_EXACT),)),
        InputSpec("ct_slices", 48, (SOFT,), crop="head"),
    ],
)
def test_any_windows_of_a_bundle_are(
    ct_bundle: Bundle, sample: Sample, sources: Sources, spec: InputSpec
) -> None:
    """As they come back from the JSON of a bundle."""
    compare(ct_bundle, InputSpec.from_dict(spec.to_dict()), sample("693_UNCR.dcm"), sources)


def test_so_is_a_film_whose_grey_levels_a_reader_asks_for(
    chest_bundle: Bundle, sample: Sample, sources: Sources
) -> None:
    asking = InputSpec.from_dict({"kind": "radiograph", "size": 64, "voi": True})
    compare(chest_bundle, asking, sample("RG3_UNCR.dcm"), sources)
    with_voi = prepared(sample("RG3_UNCR.dcm"), asking)
    without = prepared(sample("RG3_UNCR.dcm"), replace(asking, voi=False))
    assert not torch.equal(with_voi, without)


@pytest.mark.parametrize("form", ["wrapped", "picture", "inverted"])
def test_so_is_a_slice_that_is_repaired(
    ct_bundle: Bundle, sample: Sample, sources: Sources, write_image: Any, form: str
) -> None:
    stored = dcmread(sample("693_UNCR.dcm")).pixel_array.astype(np.int32)
    hu = np.where(stored == -2000, -1024, stored - 1024).clip(-1000, 3000)
    if form == "wrapped":
        path = write_image((hu % 4096).astype(np.uint16), BitsStored=12)
    elif form == "picture":
        greys = np.rint(BRAIN.apply(hu.astype(np.float32)) * 255).astype(np.uint8)
        path = write_image(greys)
    else:
        path = write_image(hu.astype(np.int16), PhotometricInterpretation="MONOCHROME1")
    compare(ct_bundle, CT, path, sources)
    whole = prepared(sample("693_UNCR.dcm"), CT)[0, 0]
    allowed = 0.6 / 255 if form == "picture" else 0.0
    assert float((prepared(path, CT)[0, 0] - whole).abs().max()) <= allowed


@pytest.mark.parametrize("folder", ["head_ct_ge", "cxr_siim_format"])
def test_so_are_the_real_samples(
    ct_bundle: Bundle, chest_bundle: Bundle, shared_data: Path, sources: Sources, folder: str
) -> None:
    head = folder == "head_ct_ge"
    for path in sorted((shared_data / folder).glob("*.dcm"))[:3]:
        compare(ct_bundle if head else chest_bundle, CT if head else FILM, path, sources)


def test_only_a_radiograph_can_ask_for_grey_levels() -> None:
    with pytest.raises(ValueError, match="voi is true or false"):
        InputSpec("ct_slices", 64, (BRAIN,), voi=True)
    with pytest.raises(ValueError, match="voi is true or false"):
        InputSpec.from_dict({"kind": "radiograph", "size": 64, "voi": "yes"})
    # What was done under the configuration of before stays done.
    assert "voi" not in InputSpec("radiograph", 64).to_dict()


@pytest.mark.parametrize("voi", [False, True])
def test_what_a_person_is_shown_beside_it_is_what_the_network_saw(
    chest_bundle: Bundle, sample: Sample, voi: bool
) -> None:
    spec = replace(FILM, voi=voi)
    reader = RadiographReader(replace(chest_bundle, spec=spec))
    picture = reader.picture(open_image(sample("RG3_UNCR.dcm")), 0, [0])
    assert torch.equal(torch.as_tensor(picture.tensor), prepared(sample("RG3_UNCR.dcm"), spec))
