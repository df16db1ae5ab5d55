"""Training and service make the same tensor of one file, whatever the form of its pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.data import get_testdata_file

from inference.bundle import Bundle
from inference.ct_slices_reader import CtSlicesReader
from inference.decode_pool import DecodePool
from inference.decode_settings import PoolSettings
from inference.errors import InferenceError, NotAnalysableError
from inference.image_file import open_image
from inference.input_spec import InputSpec
from inference.model_values import model_values
from inference.radiograph_reader import RadiographReader
from inference.reading import SourceImage
from inference.tensors import prepare_ct, prepare_radiograph
from inference.training.layouts import LabelledImages
from inference.training.prepared import InputCache, PreparedImages, prepare_file
from inference.training.processes import Pool
from inference.training.samples import as_bytes
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


def served_by(
    bundle: Bundle, spec: InputSpec, sources: list[SourceImage], pool: DecodePool
) -> torch.Tensor:
    """Return the first row that a reader with decode processes gives its network."""
    every = replace(bundle.suitability, modalities=(), body_parts=(), min_slices=1, min_rows=1)
    open_to_all = replace(every, axial=False, refused_views=(), phantom_words=())
    served = replace(bundle, spec=spec, suitability=open_to_all)
    reader = (CtSlicesReader if spec.kind == "ct_slices" else RadiographReader)(served)
    reader.decoding = pool
    return torch.as_tensor(next(iter(reader.decode(sources).batches)).tensor[:1])


def compare(bundle: Bundle, spec: InputSpec, path: Path, sources: Sources) -> None:
    served = in_service(bundle, spec, sources([path]))
    assert torch.equal(served, prepared(path, spec))
    learnt = in_training(path, spec)
    assert learnt.shape == served.shape[1:]
    # Training keeps the nearest of 256 levels, and nothing else lies between the two.
    assert np.array_equal(learnt.numpy(), as_bytes(served[0]))
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


# One file, at least, of each transfer syntax and form that there is among pydicom's.
EVERY_CT = [*CT_FILES, "eCT_Supplemental.dcm"]
EVERY_FILM = [
    *FILMS, "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "image_dfl.dcm",
    "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_implicit.dcm",
    "JPEGLSNearLossless_16.dcm", "JPEGLSNearLossless_08.dcm", "JPEG2000.dcm", "JPGExtended.dcm",
    "JPGLosslessP14SV1_1s_1f_8b.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle.dcm", "OBXXXX1A.dcm",
    "examples_palette.dcm", "HTJ2KLossless_08_RGB.dcm", "HTJ2K_08_RGB.dcm", "RG3_J2KI.dcm",
    "SC_ybr_full_422_uncompressed.dcm", "parametric_map_float.dcm", "emri_small_RLE.dcm",
    "J2K_pixelrep_mismatch.dcm", "JPEG-LL.dcm", "RG1_UNCI.dcm",
]  # fmt: skip
LUNGS = InputSpec("radiograph", 64, polarity="chest", crop="lungs")
BITS = InputSpec("radiograph", 64, intensity="full_range")


@pytest.mark.parametrize(
    ("kind", "spec"),
    [("ct", CT), ("film", FILM), ("film", LUNGS), ("film", BITS)],
    ids=["ct", "film", "lungs", "bits"],
)
def test_what_a_training_learns_from_is_what_a_reader_with_processes_decodes(
    ct_bundle: Bundle, chest_bundle: Bundle, sources: Sources, tmp_path: Path,
    kind: str, spec: InputSpec,
) -> None:  # fmt: skip
    """Bit for bit, of all files at once: what either refuses the other refuses, too."""
    names = EVERY_CT if kind == "ct" else EVERY_FILM
    found = [get_testdata_file(name, download=False) for name in names]
    paths = [Path(str(path)) for path in found if path is not None]
    assert len(paths) >= len(names) // 2
    for number, path in enumerate(paths):
        (tmp_path / f"{number:03}.dcm").symlink_to(path)
    listed = np.array([f"{number:03}.dcm".encode() for number in range(len(paths))])
    images = LabelledImages(tmp_path, listed, np.zeros((len(paths), 1), np.uint8))
    cache = InputCache(tmp_path / "none.u8", (0, spec.channels, spec.size, spec.size))
    learnt: dict[int, Any] = {}
    served: dict[int, Any] = {}
    with Pool(1) as pool:
        dataset = PreparedImages(images, spec, cache, pool)
        for row in range(len(paths)):
            with suppress(InferenceError):  # too many that cannot be read, it would say
                ((_, batch),) = dataset.batches([np.array([row])])
                if len(batch):
                    learnt[row] = batch[0].numpy()
    bundle = ct_bundle if kind == "ct" else chest_bundle
    with DecodePool(PoolSettings(1)) as processes:
        for row, path in enumerate(paths):
            with suppress(NotAnalysableError):
                served[row] = as_bytes(served_by(bundle, spec, sources([path]), processes)[0])
    assert served.keys() == learnt.keys()
    assert len(served) >= len(paths) * 0.8
    for row, value in served.items():
        assert np.array_equal(value, learnt[row]), paths[row].name
