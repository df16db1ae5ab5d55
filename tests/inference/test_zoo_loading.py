"""Which axis of a picture comes first, as each of MONAI's readers has it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import plane_bundles
import pytest
from monai.data import image_reader
from monai.transforms import Compose, EnsureChannelFirst, LoadImage
from PIL import Image

from inference.errors import BundleError

SPOT = np.zeros((40, 24), dtype=np.uint8)
SPOT[3:9, 15:20] = 200


def transposed(path: Path, **loading: Any) -> bool:
    """Return what is taken over from a bundle that loads so."""
    steps = [plane_bundles.one("LoadImaged", **loading), plane_bundles.STRETCHED]
    plane = plane_bundles.served(plane_bundles.written(path, steps)).spec.plane
    assert plane is not None
    return plane.transposed


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("value", [None, False, True])
@pytest.mark.parametrize(
    ("reader", "argument", "form"),
    [
        ("PILReader", "reverse_indexing", "png"),
        ("PydicomReader", "swap_ij", "dcm"),
        ("ITKReader", "reverse_indexing", "png"),
        ("ITKReader", "reverse_indexing", "dcm"),
    ],
)
def test_pictures_are_turned_as_monai_loads_them(
    reader: str,
    argument: str,
    form: str,
    value: bool | None,
    nested: bool,
    tmp_path: Path,
    write_image: Any,
) -> None:
    if reader == "ITKReader":
        pytest.importorskip("itk", reason="MONAI's ITKReader needs itk")
    if form == "png":
        file = tmp_path / "spot.png"
        Image.fromarray(SPOT).save(file)
    else:
        file = write_image(SPOT.astype(np.uint16), Modality="CR")
    said = {} if value is None else {argument: value}
    by_name = {"reader": reader, **said}
    in_monai = {"reader": getattr(image_reader, reader)(**said)} if nested else by_name
    loaded = Compose([LoadImage(image_only=True, **in_monai), EnsureChannelFirst()])(file)
    shown = np.squeeze(np.asarray(loaded))  # ITK gives DICOM a third axis
    # What is said beside a reader with arguments of its own is not heard.
    ours = {"reader": {"_target_": f"monai.data.{reader}", **said}} if nested else by_name
    assert np.array_equal(shown.T if transposed(tmp_path / "b", **ours) else shown, SPOT)
    assert not np.array_equal(shown.T, shown)


@pytest.mark.parametrize("value", [False, True])
def test_itk_is_taken_to_give_what_monai_makes_of_it(
    value: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without itk too: MONAI's own turning of an array that ITK would give, rows first."""
    stored = SimpleNamespace(array_view_from_image=lambda image, keep_axes: SPOT)
    monkeypatch.setattr(image_reader, "itk", stored)
    reader = object.__new__(image_reader.ITKReader)
    reader.reverse_indexing = value
    shown = reader._get_array_data(SimpleNamespace(GetNumberOfComponentsPerPixel=lambda: 1))
    turned = transposed(tmp_path / "b", reader="monai.data.ITKReader", reverse_indexing=value)
    assert np.array_equal(shown.T if turned else shown, SPOT)


def test_what_is_said_beside_a_reader_with_arguments_of_its_own_is_not_heard(
    tmp_path: Path,
) -> None:
    own = {"_target_": "PILReader", "converter": "$lambda image: image.convert('L')"}
    assert transposed(tmp_path / "a", reader=own, reverse_indexing=False)
    assert transposed(tmp_path / "b", reader="PydicomReader", reverse_indexing=True)
    assert not transposed(tmp_path / "c", reader=["pilreader"], reverse_indexing="$1 > 2")


@pytest.mark.parametrize(
    ("loading", "message"),
    [
        ({"reader": "NumpyReader"}, "its reader 'NumpyReader' is none of PILReader, ITKReader"),
        ({"reader": "NibabelReader"}, "its reader 'NibabelReader' is none"),
        ({"reader": "$monai.data.ITKReader(reverse_indexing=True)"}, "its reader '.monai"),
        ({"reader": "$monai.data.PILReader"}, "its reader '.monai.data.PILReader' is none"),
        ({"reader": "our.PILReader"}, "its reader 'our.PILReader' is none"),
        ({"reader": {"_target_": "our.Reader"}}, "its reader 'our.Reader' is none"),
        ({"reader": {"_target_": "PILReader", "_mode_": "callable"}}, "its reader has _mode_"),
        ({"reader": ["PILReader", "NumpyReader"]}, "its reader 'NumpyReader' is none"),
        ({"reader": ["PILReader", "ITKReader"], "reverse_indexing": True}, "its readers differ"),
        ({"reverse_indexing": True}, "its reverse_indexing means something else for each reader"),
        ({"reverse_indexing": False}, "its reverse_indexing means something else"),
        ({"swap_ij": False}, "its swap_ij means something else for each reader"),
        ({"reader": "PILReader", "reverse_indexing": 0}, "its reverse_indexing is 0, not true"),
    ],
)
def test_a_reader_that_does_not_tell_is_refused_by_its_name(
    loading: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=f"LoadImaged cannot be taken over: {message}"):
        transposed(tmp_path / "bundle", **loading)
