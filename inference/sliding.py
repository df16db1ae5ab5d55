"""A loaded network of volumes at work: numbers for a whole one, or maps by a sliding window."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import BundleError
from .exclusive import MORE_THAN_HALF

# The same input gives the same output: cuDNN neither tries algorithms out nor rounds to TF32.
_REPRODUCIBLE = functools.partial(
    torch.backends.cudnn.flags, benchmark=False, deterministic=True, allow_tf32=False
)
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

    Raises
    ------
    BundleError
        If definition and weights do not fit each other.
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self._bundle = bundle
        self._device = device
        from .network import load_network  # MONAI: seconds, for those who read volumes alone

        self._module = load_network(bundle, device)

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
        """
        with torch.inference_mode(), _REPRODUCIBLE():
            outputs = self._checked(self._module(tensor.to(self._device)), 2)
            found = self._activated(outputs)[0].cpu()
        wanted = [output.index for output in self._bundle.outputs]
        return np.asarray(found.numpy()[wanted], dtype=np.float64)

    def maps(self, tensor: torch.Tensor) -> VolumeMaps:
        """Return what a network that gives maps says of a volume.

        Where a GPU has too little memory, windows go through it one by one and are put together in
        the memory of the host.

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
        """
        with torch.inference_mode(), _REPRODUCIBLE():
            try:
                return self._chosen(self._slid(tensor.to(self._device), _WINDOWS, self._device))
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                return self._chosen(self._slid(tensor.cpu(), 1, torch.device("cpu")))

    def _slid(self, tensor: torch.Tensor, windows: int, held: torch.device) -> torch.Tensor:
        spec = self._bundle.spec.volume
        assert spec is not None, "a bundle of volumes"
        if spec.roi is None:
            outputs = _first(self._module(tensor.to(self._device)))
            if isinstance(outputs, torch.Tensor):
                outputs = outputs.to(held)
        else:
            from monai.inferers.inferer import SlidingWindowInferer

            inferer = SlidingWindowInferer(
                roi_size=spec.roi,
                sw_batch_size=windows,
                overlap=spec.overlap,
                mode=spec.blend,
                sigma_scale=spec.blend_sigma,
                padding_mode=spec.padding,
                sw_device=self._device,
                device=held,
            )
            outputs = inferer(tensor, self._module)
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

    def _checked(self, outputs: object, dimensions: int) -> torch.Tensor:
        needed = 1 + max(output.index for output in self._bundle.outputs)
        outputs = _first(outputs)
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != dimensions:
            shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else outputs.__class__
            what = "one number for each label" if dimensions == 2 else "a map for each label"
            raise self._fault(f"gives outputs of shape {shape}, not {what}; see masks")
        if outputs.shape[1] < needed:
            raise self._fault(f"gives {outputs.shape[1]} channels, the labels need {needed}")
        if not bool(torch.isfinite(outputs).all()):
            raise self._fault("gives outputs that are no numbers")
        return outputs.float()

    def _fault(self, what: str) -> BundleError:
        return BundleError(f"{self._bundle.path}: the network {what}")


def _first(outputs: object) -> object:
    """Return the result among several: the first, besides deep supervision and other heads."""
    return outputs[0] if isinstance(outputs, (tuple, list)) and outputs else outputs
