"""A loaded network at work: probabilities, maps of them, and where it looked."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import BundleError
from .exclusive import of_labels
from .masks import Maps
from .network import load_network
from .placement import Placement
from .postprocess import Probabilities
from .saliency import Saliency

# The same input gives the same output: cuDNN neither tries algorithms out nor rounds to TF32.
_REPRODUCIBLE = functools.partial(
    torch.backends.cudnn.flags, benchmark=False, deterministic=True, allow_tf32=False
)


class Network:
    """The network of a bundle on a device.

    Parameters
    ----------
    bundle : Bundle
    device : torch.device

    Raises
    ------
    BundleError
        If definition and weights do not fit each other.
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self._bundle = bundle
        self._device = device
        module = load_network(bundle, device)
        # Measured on CPU: 15 % less time for EfficientNet-B0.
        self._module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._saliency = Saliency(self._module)
        plane = bundle.spec.plane
        self._transposed = plane is not None and plane.transposed

    def probabilities(self, tensor: torch.Tensor) -> Probabilities:
        """Return what a network that gives numbers says.

        Parameters
        ----------
        tensor : Tensor of float32, (rows, channels, size, size)

        Returns
        -------
        ndarray of float64, (rows, labels)
            In the order of the bundle's labels.

        Raises
        ------
        BundleError
            If there are fewer outputs than labels, or they are no numbers.
        """
        outputs = self._outputs(tensor)
        if outputs.ndim != 2:
            raise self._fault(
                f"gives outputs of shape {outputs.shape}, not one number for each label; if it "
                'gives maps, set "masks": true in configs/preread.json'
            )
        return outputs.astype(np.float64)

    def maps(self, tensor: torch.Tensor) -> Maps:
        """Return what a network that gives maps says.

        Parameters
        ----------
        tensor : Tensor of float32, (rows, channels, size, size)

        Returns
        -------
        ndarray of float32, (rows, labels, size, size)
            Probabilities over the input, in the order of the bundle's labels. Of an exclusive
            bundle of all outputs, in their order: the most probable wins; see `of_labels`.

        Raises
        ------
        BundleError
            If there are fewer maps than labels, or none, or they are no numbers.
        """
        outputs = self._outputs(tensor, every=self._bundle.exclusive)
        if outputs.ndim != 4:
            raise self._fault(
                f"gives outputs of shape {outputs.shape}, not a map for each label as "
                '"masks" in configs/preread.json says'
            )
        return outputs

    def both(self, tensor: torch.Tensor) -> tuple[Probabilities, Maps]:
        """Return what a network that gives numbers and maps says.

        Parameters
        ----------
        tensor : Tensor of float32, (rows, channels, size, size)

        Returns
        -------
        ndarray of float64, (rows, labels)
            In the order of the bundle's labels.
        ndarray of float32, (rows, mapped labels, size, size)
            Probabilities over the input, in the order of `Bundle.mapped`.

        Raises
        ------
        BundleError
            If it does not give two outputs, one of them has too few channels, or they are no
            numbers.
        """
        with torch.inference_mode(), _REPRODUCIBLE():
            outputs = self._module(self._moved(tensor))
            if not (isinstance(outputs, tuple | list) and len(outputs) == 2):
                raise self._fault('gives no second output, but "masks" names labels that have maps')
            maps = F.interpolate(
                self._back(outputs[1]).float(),
                size=tensor.shape[-2:],
                mode="bilinear",
                align_corners=False,
            ).sigmoid()
        if maps.shape[1] < len(self._bundle.mapped):
            raise self._fault(
                f"gives maps of shape {tuple(maps.shape)}, {len(self._bundle.mapped)} are named"
            )
        found = np.asarray(maps[:, : len(self._bundle.mapped)].cpu().numpy(), dtype=np.float32)
        if not np.isfinite(found).all():
            raise self._fault("gives maps that are no numbers")
        return self._told(outputs[0], tensor.shape).astype(np.float64), found

    def looked_at(
        self, row: torch.Tensor, column: int, place: Placement
    ) -> NDArray[np.float32] | None:
        """Return where the network looked for a label: see `Saliency.of`, or its own map.

        Parameters
        ----------
        row : Tensor of float32, (1, channels, size, size)
        column : int
            Which of the bundle's labels.
        place : Placement
            What of the source the input shows.

        Returns
        -------
        ndarray of float32, (h, w), or None
            0 to 1, over the whole source: without the padding of the input.
        """
        if self._bundle.masks:
            maps = of_labels(self.maps(row), self._bundle).probability
            square: NDArray[np.float32] | None = maps[0, column]
        elif (name := self._bundle.labels[column].name) in self._bundle.mapped:
            square = self.both(row)[1][0, self._bundle.mapped.index(name)]
        else:
            output = self._bundle.outputs[column].index
            with _REPRODUCIBLE():
                square = self._saliency.of(self._moved(row), output, self._bundle.activation)
            if square is not None and self._transposed:
                square = np.ascontiguousarray(square.T)
        return None if square is None else place.over_source(square)

    def _outputs(self, tensor: torch.Tensor, every: bool = False) -> NDArray[np.float32]:
        """Return what the network gives for the labels, as probabilities: (rows, labels, ...)."""
        with torch.inference_mode(), _REPRODUCIBLE():
            outputs = self._module(self._moved(tensor))
        if not isinstance(outputs, torch.Tensor):
            raise self._fault('gives several outputs; "masks" must name the labels of its maps')
        return self._told(self._back(outputs), tensor.shape, every)

    def _told(
        self, outputs: torch.Tensor, shape: torch.Size, every: bool = False
    ) -> NDArray[np.float32]:
        with torch.inference_mode():
            outputs = outputs.float()
            if outputs.ndim == 4 and outputs.shape[-2:] != shape[-2:]:
                outputs = F.interpolate(
                    outputs, size=shape[-2:], mode="bilinear", align_corners=False
                )
            if self._bundle.activation == "sigmoid":
                outputs = outputs.sigmoid()
            else:
                outputs = outputs.softmax(dim=1)
        probabilities = np.asarray(outputs.cpu().numpy(), dtype=np.float32)
        wanted = [output.index for output in self._bundle.outputs]
        if probabilities.ndim < 2 or probabilities.shape[1] <= max(wanted):
            raise self._fault(
                f"gives outputs of shape {probabilities.shape}, the labels need {max(wanted) + 1}"
            )
        if not np.isfinite(probabilities).all():
            raise self._fault("gives outputs that are no numbers")
        if every:
            return probabilities
        calibration = self._bundle.calibration
        chosen = probabilities[:, wanted]
        return chosen if calibration is None else calibration.apply(chosen)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        there = tensor.to(self._device)
        if self._transposed:
            there = there.transpose(-1, -2)
        return there.contiguous(memory_format=torch.channels_last)

    def _back(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return maps with rows and columns as those of the source; numbers as they are."""
        return outputs.transpose(-1, -2) if self._transposed and outputs.ndim == 4 else outputs

    def _fault(self, what: str) -> BundleError:
        return BundleError(f"{self._bundle.path}: the network {what}")
