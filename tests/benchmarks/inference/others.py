"""What people run: the tutorials' style, image by image, and MONAI's dictionary transforms.

Both with torch as it comes and the same weights. The tutorials resize with OpenCV or Pillow; here
torch's bilinear interpolation without antialiasing does it, which is as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from cases import Case
from monai.data import DataLoader, Dataset
from monai.transforms import (
    Compose,
    ConcatItemsd,
    CopyItemsd,
    EnsureChannelFirstd,
    LoadImaged,
    Resized,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    SpatialPadd,
)
from pydicom import dcmread

from inference.bundle import Bundle
from inference.input_spec import InputSpec
from inference.network import load_network
from inference.postprocess import Probabilities

_BATCH = 8


class Tutorial:
    """``dcmread``, ``pixel_array``, numpy, a resize, the network: one image after the other."""

    def __init__(self, case: Case, bundle: Bundle, device: str) -> None:
        self._case, self._spec = case, bundle.spec
        self._device = torch.device(device)
        self._network = load_network(bundle, self._device)

    def __call__(self) -> Probabilities:
        told = []
        with torch.no_grad():
            for path in self._case.files:
                rows = torch.from_numpy(self._channels(path))[None].to(self._device)
                size = (self._spec.size, self._spec.size)
                rows = F.interpolate(rows, size=size, mode="bilinear", align_corners=False)
                told.append(torch.sigmoid(self._network(rows)).cpu().numpy())
        return np.concatenate(told).astype(np.float64)

    def _channels(self, path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
        image = dcmread(path)
        slope, intercept = float(image.RescaleSlope), float(image.RescaleIntercept)
        values = image.pixel_array * slope + intercept
        if self._spec.kind == "radiograph":
            return ((values - values.min()) / np.ptp(values))[None].astype(np.float32)
        made = []
        for window in self._spec.windows:
            low, high = window.center - window.width / 2, window.center + window.width / 2
            made.append((np.clip(values, low, high) - low) / (high - low))
        return np.stack(made).astype(np.float32)


class Dictionaries:
    """MONAI's dictionary transforms and its DataLoader.

    Parameters
    ----------
    workers : int
        Of the DataLoader; 0 loads in this process.
    """

    def __init__(self, case: Case, bundle: Bundle, device: str, workers: int) -> None:
        self._device = torch.device(device)
        self._network = load_network(bundle, self._device)
        self._loader = DataLoader(
            Dataset([{"image": str(path)} for path in case.files], _transforms(bundle.spec)),
            batch_size=_BATCH,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def __call__(self) -> Probabilities:
        told = []
        with torch.no_grad():
            for batch in self._loader:
                rows = batch["image"].as_tensor().to(self._device)
                told.append(torch.sigmoid(self._network(rows)).cpu().numpy())
        return np.concatenate(told).astype(np.float64)


def _transforms(spec: InputSpec) -> Compose:
    first: Sequence[Any] = [
        LoadImaged("image", reader="PydicomReader"),
        EnsureChannelFirstd("image"),
    ]
    resize: dict[str, Any] = {"mode": "bilinear", "anti_aliasing": True}
    if spec.kind == "radiograph":
        return Compose(
            [
                *first,
                ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0, 1, clip=True),
                Resized("image", spec.size, size_mode="longest", **resize),
                SpatialPadd("image", (spec.size, spec.size)),
            ]
        )
    names = [f"window{number}" for number in range(len(spec.windows))]
    windows = [
        ScaleIntensityRanged(
            name, one.center - one.width / 2, one.center + one.width / 2, 0, 1, clip=True
        )
        for name, one in zip(names, spec.windows, strict=True)
    ]
    return Compose(
        [
            *first,
            CopyItemsd("image", len(names), names=names),
            *windows,
            ConcatItemsd(names, "image"),
            Resized("image", (spec.size, spec.size), **resize),
        ]
    )
