"""A loaded network of volumes at work: numbers for a whole one, or maps by a sliding window.

Windows go through the network as rows of a batch, behind the ladder that images have too
(`engines.ladder`): fewer at once, then the CPU. They are put together in the memory of the host, so
that a GPU holds no more than the windows that are computed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .bundle import Bundle
from .engines import MadeWith
from .engines.choose import EngineSettings
from .engines.choose_volume import choose_volume_engine
from .engines.errors import DeviceLostError, EngineOutOfMemoryError, PoisonedRowsError
from .engines.torch_faults import faults_typed
from .errors import BundleError
from .exclusive import MORE_THAN_HALF
from .poison import PoisonedVolumeError

# Windows that go through the network at once.
_WINDOWS = 4


@dataclass(frozen=True, slots=True, eq=False)
class VolumeMaps:
    """What a network says of each voxel, in the order of the bundle's labels.

    Attributes
    ----------
    probability : Tensor of float32, (labels, x, y, z)
        0 to 1; of labels that exclude each other zero where another channel is more probable.
    belongs : Tensor of float32, (labels, x, y, z)
        0 to 1, made to be interpolated: a voxel belongs to the label from `limits` on.
    limits : tuple of float
        By label.
    """

    probability: torch.Tensor
    belongs: torch.Tensor
    limits: tuple[float, ...]


class VolumeNetwork:
    """The network of a bundle of volumes on a device.

    Parameters
    ----------
    bundle : Bundle
        Of kind ``ct_volume``.
    device : torch.device
    engines : EngineSettings, optional
        What the site says of engines.

    Raises
    ------
    BundleError
        If definition and weights do not fit each other.
    """

    def __init__(
        self, bundle: Bundle, device: torch.device, engines: EngineSettings | None = None
    ) -> None:
        self._bundle = bundle
        self._device = device
        settings = engines or EngineSettings()
        self._ladder = choose_volume_engine(bundle, device, settings)
        self._engine = settings.share(bundle.name, self._ladder)
        self._local = threading.local()

    @property
    def rows_made_with(self) -> tuple[MadeWith, ...]:
        """What each window of the last volume of this thread was computed with."""
        return tuple(getattr(self._local, "made", ()))

    @property
    def place(self) -> torch.device:
        """Where to make the input: the device, or the host once that is lost."""
        return self._device if self._ladder.lost is None else torch.device("cpu")

    def hear(self, error: DeviceLostError | EngineOutOfMemoryError) -> None:
        """Take note of what happened where the input is made; see `Ladder.hear`."""
        self._ladder.hear(error)

    def probabilities(self, tensor: torch.Tensor) -> NDArray[np.float64]:
        """Return what a network that gives numbers says of a volume.

        Parameters
        ----------
        tensor : Tensor of float32, (1, channels, x, y, z)

        Returns
        -------
        ndarray of float64, (labels,)

        Raises
        ------
        BundleError
            If there are fewer outputs than labels, or they are no numbers.
        EngineError
            If the network cannot be carried out, on the CPU either.
        """
        self._local.made = []
        with torch.inference_mode(), faults_typed():
            outputs = self._checked(self._run(tensor), 2)
            found = self._activated(outputs)[0]
        wanted = [output.index for output in self._bundle.outputs]
        return np.asarray(found.numpy()[wanted], dtype=np.float64)

    def maps(self, tensor: torch.Tensor) -> VolumeMaps:
        """Return what a network that gives maps says of a volume.

        Parameters
        ----------
        tensor : Tensor of float32, (1, channels, x, y, z)

        Returns
        -------
        VolumeMaps
            In the memory of the host.

        Raises
        ------
        BundleError
            If there are fewer maps than labels, or of another size, or they are no numbers.
        EngineError
            If the network cannot be carried out, on the CPU either.
        """
        self._local.made = []
        with torch.inference_mode(), faults_typed():
            return self._chosen(self._slid(tensor.cpu()))

    def _run(self, windows: torch.Tensor) -> torch.Tensor:
        """Carry the network out for (windows, channels, x, y, z); on the host."""
        try:
            outputs = self._engine.run(windows)
        except PoisonedRowsError as error:
            raise PoisonedVolumeError(str(error.__cause__ or error)) from error
        self._local.made += outputs.of_rows
        return torch.from_numpy(outputs.tensors[0])

    def _slid(self, tensor: torch.Tensor) -> torch.Tensor:
        spec = self._bundle.spec.volume
        assert spec is not None, "a bundle of volumes"
        if spec.roi is None:
            outputs = self._run(tensor)
        else:
            # MONAI: seconds, for those who slide alone.
            from monai.inferers.inferer import SlidingWindowInferer

            inferer = SlidingWindowInferer(
                roi_size=spec.roi,
                sw_batch_size=_WINDOWS,
                overlap=spec.overlap,
                mode=spec.blend,
                sigma_scale=spec.blend_sigma,
                padding_mode=spec.padding,
            )
            found = inferer(tensor, self._run)
            assert isinstance(found, torch.Tensor), "windows of one network are put together"
            outputs = found
        checked = self._checked(outputs, 5)
        if checked.shape[2:] != tensor.shape[2:]:
            raise self._fault(
                f"gives maps of shape {tuple(checked.shape[2:])} for {tuple(tensor.shape[2:])}"
            )
        return checked

    def _chosen(self, outputs: torch.Tensor) -> VolumeMaps:
        bundle = self._bundle
        everything = self._activated(outputs)[0]
        wanted = [output.index for output in bundle.outputs]
        maps = everything[wanted]
        if not bundle.exclusive:
            limits = tuple(label.thresholds.high for label in bundle.labels)
            here = maps.cpu()
            return VolumeMaps(here, here, limits)
        if everything.shape[0] < 2:
            raise self._fault(
                "gives 1 channel, and with exclusive the most probable of several wins"
            )
        # The distance to the best of the others, so that it can be interpolated between voxels.
        best = everything.topk(2, dim=0)
        belongs = torch.stack(
            [
                one - torch.where(best.indices[0] == number, best.values[1], best.values[0])
                for number, one in zip(wanted, maps, strict=True)
            ]
        )
        return VolumeMaps(
            torch.where(belongs > 0.0, maps, torch.zeros_like(maps)).cpu(),
            ((belongs + 1.0) / 2.0).cpu(),
            (MORE_THAN_HALF,) * len(wanted),
        )

    def _activated(self, outputs: torch.Tensor) -> torch.Tensor:
        if self._bundle.activation == "sigmoid":
            return outputs.sigmoid()
        return outputs.softmax(dim=1)

    def _checked(self, outputs: torch.Tensor, dimensions: int) -> torch.Tensor:
        needed = 1 + max(output.index for output in self._bundle.outputs)
        if outputs.ndim != dimensions:
            what = "one number for each label" if dimensions == 2 else "a map for each label"
            raise self._fault(
                f"gives outputs of shape {tuple(outputs.shape)}, not {what}; see masks"
            )
        if outputs.shape[1] < needed:
            raise self._fault(f"gives {outputs.shape[1]} channels, the labels need {needed}")
        if not bool(torch.isfinite(outputs).all()):
            raise self._fault("gives outputs that are no numbers")
        return outputs.float()

    def _fault(self, what: str) -> BundleError:
        return BundleError(f"{self._bundle.path}: the network {what}")
