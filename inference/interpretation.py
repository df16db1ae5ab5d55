"""What the raw outputs of a network mean for the labels of its bundle. Light: no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .activations import activated
from .bundle import Bundle
from .engines import RawOutputs
from .errors import BundleError
from .evidence import enlarged
from .exclusive import of_labels
from .masks import Maps
from .placement import Shape
from .postprocess import Probabilities


class Interpretation:
    """Makes probabilities, and maps of them, of what a network gives.

    Parameters
    ----------
    bundle : Bundle
        Of images or slices.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def probabilities(self, outputs: RawOutputs) -> Probabilities:
        """Return the numbers of a network that gives no maps; see `Network.probabilities`."""
        numbers = self._told(self._only(outputs))
        if numbers.ndim != 2:
            raise self._fault(
                f"gives outputs of shape {numbers.shape}, not one number for each label; if it "
                'gives maps, set "masks": true in configs/preread.json'
            )
        return numbers.astype(np.float64)

    def maps(self, outputs: RawOutputs, size: Shape) -> Maps:
        """Return the maps of a network that gives nothing else; see `Network.maps`.

        Parameters
        ----------
        outputs : RawOutputs
        size : tuple of int
            Rows and columns of the input.
        """
        given = self._only(outputs)
        if given.ndim == 4:
            given = enlarged(given, size)
        maps = self._told(given, every=self._bundle.exclusive)
        if maps.ndim != 4:
            raise self._fault(
                f"gives outputs of shape {maps.shape}, not a map for each label as "
                '"masks" in configs/preread.json says'
            )
        return maps

    def both(self, outputs: RawOutputs, size: Shape) -> tuple[Probabilities, Maps]:
        """Return the numbers and maps of a network that gives both; see `Network.both`."""
        given = outputs.tensors
        if len(given) != 2:
            raise self._fault('gives no second output, but "masks" names labels that have maps')
        wanted = len(self._bundle.mapped)
        if given[1].ndim != 4 or given[1].shape[1] < wanted:
            raise self._fault(f"gives maps of shape {given[1].shape}, {wanted} are named")
        found = activated(enlarged(given[1][:, :wanted], size), "sigmoid")
        if not np.isfinite(found).all():
            raise self._fault("gives maps that are no numbers")
        return self._told(given[0]).astype(np.float64), found

    def has_map(self, column: int) -> bool:
        """Tell whether the network gives a label a map of its own."""
        return self._bundle.masks or self._bundle.labels[column].name in self._bundle.mapped

    def own_map(self, outputs: RawOutputs, column: int, size: Shape) -> NDArray[np.float32]:
        """Return the probability of a label at each place of the input, of the first row.

        Parameters
        ----------
        outputs : RawOutputs
        column : int
            Which of the bundle's labels; one that `has_map`.
        size : tuple of int
            Rows and columns of the input.

        Returns
        -------
        ndarray of float32, (size, size)
        """
        if self._bundle.masks:
            maps = of_labels(self.maps(outputs, size), self._bundle).probability
            return np.asarray(maps[0, column])
        name = self._bundle.labels[column].name
        return np.asarray(self.both(outputs, size)[1][0, self._bundle.mapped.index(name)])

    def _only(self, outputs: RawOutputs) -> NDArray[np.float32]:
        if len(outputs.tensors) != 1:
            raise self._fault('gives several outputs; "masks" must name the labels of its maps')
        return outputs.tensors[0]

    def _told(self, given: NDArray[np.float32], every: bool = False) -> NDArray[np.float32]:
        """Return what the network gives for the labels, as probabilities: (rows, labels, ...)."""
        wanted = [output.index for output in self._bundle.outputs]
        if given.ndim < 2 or given.shape[1] <= max(wanted):
            raise self._fault(
                f"gives outputs of shape {given.shape}, the labels need {max(wanted) + 1}"
            )
        probabilities = activated(given, self._bundle.activation)
        if not np.isfinite(probabilities).all():
            raise self._fault("gives outputs that are no numbers")
        if every:
            return probabilities
        calibration = self._bundle.calibration
        chosen = probabilities[:, wanted]
        return chosen if calibration is None else calibration.apply(chosen)

    def _fault(self, what: str) -> BundleError:
        return BundleError(f"{self._bundle.path}: the network {what}")
