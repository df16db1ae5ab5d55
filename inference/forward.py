"""A loaded network at work: probabilities, maps of them, and where it looked. Light: no torch."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .activations import activated
from .bundle import Bundle
from .engines import MadeWith, RawOutputs, Rows
from .engines.choose import EngineSettings, choose_engine
from .errors import BundleError
from .evidence import enlarged
from .exclusive import of_labels
from .explaining import Explainer, Wanted
from .explanation import Evidence, Method
from .placement import Placement
from .postprocess import Probabilities

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .masks import Maps


@dataclass(frozen=True, slots=True, eq=False)
class _Passed:
    """The last batch of a thread, and what the network gave for it."""

    rows: Rows
    outputs: RawOutputs


class Network:
    """The network of a bundle on a device.

    Parameters
    ----------
    bundle : Bundle
    device : torch.device or str
        ``cpu`` or ``cuda:N``.
    engines : EngineSettings, optional
        What the site says of engines; without them nothing is exported, and a CPU runs torch.

    Raises
    ------
    BundleError
        If definition and weights do not fit each other.
    EngineUnavailableError
        If the bundle insists on an engine that cannot be had.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: torch.device | str,
        engines: EngineSettings | None = None,
    ) -> None:
        self._bundle = bundle
        self._device = str(device)
        settings = engines or EngineSettings()
        self._chosen = choose_engine(bundle, self._device, settings)
        self._engine = settings.share(bundle.name, self._chosen.engine)
        self._explainer = Explainer(bundle, self._run, self._module, self._device)
        self._local = threading.local()
        plane = bundle.spec.plane
        self._transposed = plane is not None and plane.transposed

    @property
    def made_with(self) -> MadeWith | None:
        """What the last batch of this thread was computed with; None before the first."""
        passed: _Passed | None = getattr(self._local, "passed", None)
        return None if passed is None else passed.outputs.made_with

    @property
    def rows_made_with(self) -> tuple[MadeWith, ...]:
        """What each row of the last batch of this thread was computed with."""
        passed: _Passed | None = getattr(self._local, "passed", None)
        return () if passed is None else passed.outputs.of_rows

    @property
    def best_batch(self) -> int:
        """Rows at once beyond which the engine gains next to nothing."""
        return self._engine.identity.best_batch

    def probabilities(self, tensor: Rows) -> Probabilities:
        """Return what a network that gives numbers says.

        Parameters
        ----------
        tensor : ndarray or Tensor of float32, (rows, channels, size, size)

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

    def maps(self, tensor: Rows) -> Maps:
        """Return what a network that gives maps says.

        Parameters
        ----------
        tensor : ndarray or Tensor of float32, (rows, channels, size, size)

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

    def both(self, tensor: Rows) -> tuple[Probabilities, Maps]:
        """Return what a network that gives numbers and maps says.

        Parameters
        ----------
        tensor : ndarray or Tensor of float32, (rows, channels, size, size)

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
        outputs = self._run(tensor).tensors
        if len(outputs) != 2:
            raise self._fault('gives no second output, but "masks" names labels that have maps')
        wanted = len(self._bundle.mapped)
        if outputs[1].ndim != 4 or outputs[1].shape[1] < wanted:
            raise self._fault(f"gives maps of shape {outputs[1].shape}, {wanted} are named")
        found = activated(enlarged(outputs[1][:, :wanted], _size(tensor)), "sigmoid")
        if not np.isfinite(found).all():
            raise self._fault("gives maps that are no numbers")
        return self._told(outputs[0], tensor).astype(np.float64), found

    def explained(self, row: Rows, column: int, wanted: Wanted) -> Evidence | None:
        """Return where the network looks for a label, and how that was found out.

        Parameters
        ----------
        row : ndarray or Tensor of float32, (1, channels, size, size)
        column : int
            Which of the bundle's labels.
        wanted : Wanted

        Returns
        -------
        Evidence or None
            None if the default way leads nowhere.

        Raises
        ------
        InferenceError
            If the method that is asked for cannot be had.
        """
        name = self._bundle.labels[column].name
        if self._bundle.masks and wanted.method is not None:
            raise self._fault("gives masks, which say where: they are all the explanation it has")
        if self._bundle.masks:
            maps = of_labels(self.maps(row), self._bundle).probability
            return Evidence(Method.OWN_MAP, maps[0, column])
        if name in self._bundle.mapped and wanted.method is None:
            own = self.both(row)[1][0, self._bundle.mapped.index(name)]
            return Evidence(Method.OWN_MAP, own)
        output = self._bundle.outputs[column].index
        return self._explainer.explain(row, output, wanted, lambda: self._passed(row))

    def looked_at(self, row: Rows, column: int, place: Placement) -> NDArray[np.float32] | None:
        """Return where the network looks for a label, by the default way; see `explained`.

        Parameters
        ----------
        row : ndarray or Tensor of float32, (1, channels, size, size)
        column : int
            Which of the bundle's labels.
        place : Placement
            What of the source the input shows.

        Returns
        -------
        ndarray of float32, (h, w), or None
            0 to 1, over the whole source: without the padding of the input.
        """
        found = self.explained(row, column, Wanted())
        if found is None:
            return None
        return found.placed(self._bundle.labels[column].name, place).over_source()

    def _outputs(self, tensor: Rows, every: bool = False) -> NDArray[np.float32]:
        """Return what the network gives for the labels, as probabilities: (rows, labels, ...)."""
        outputs = self._run(tensor).tensors
        if len(outputs) != 1:
            raise self._fault('gives several outputs; "masks" must name the labels of its maps')
        return self._told(outputs[0], tensor, every)

    def _run(self, tensor: Rows) -> RawOutputs:
        """Carry the network out; maps come with rows and columns as those of the source."""
        if self._transposed:
            outputs = _turned_back(self._engine.run(_turned(tensor)))
        else:
            outputs = self._engine.run(tensor)
        self._local.passed = _Passed(tensor, outputs)
        return outputs

    def _told(
        self, outputs: NDArray[np.float32], tensor: Rows, every: bool = False
    ) -> NDArray[np.float32]:
        if outputs.ndim == 4:
            outputs = enlarged(outputs, _size(tensor))
        wanted = [output.index for output in self._bundle.outputs]
        if outputs.ndim < 2 or outputs.shape[1] <= max(wanted):
            raise self._fault(
                f"gives outputs of shape {outputs.shape}, the labels need {max(wanted) + 1}"
            )
        probabilities = activated(outputs, self._bundle.activation)
        if not np.isfinite(probabilities).all():
            raise self._fault("gives outputs that are no numbers")
        if every:
            return probabilities
        calibration = self._bundle.calibration
        chosen = probabilities[:, wanted]
        return chosen if calibration is None else calibration.apply(chosen)

    def _passed(self, row: Rows) -> tuple[RawOutputs, int]:
        """Return what was given for a row: by the last batch, if it stood there."""
        last: _Passed | None = getattr(self._local, "passed", None)
        if last is not None and last.outputs.class_maps is None:
            return last.outputs, 0  # it has no class maps for any row
        if last is not None and last.rows.shape[1:] == row.shape[1:]:
            for number in range(len(last.rows)):
                if _same(last.rows[number], row[0]):
                    return last.outputs, number
        return self._run(row), 0

    def _module(self) -> nn.Module:
        """Return the module of torch; an engine that runs an export has none, and loads it."""
        import torch

        from .network import load_network

        network = self._chosen.network
        return (
            load_network(self._bundle, torch.device(self._device)) if network is None else network
        )

    def _fault(self, what: str) -> BundleError:
        return BundleError(f"{self._bundle.path}: the network {what}")


def _size(rows: Rows) -> tuple[int, int]:
    return int(rows.shape[-2]), int(rows.shape[-1])


def _turned(rows: Rows) -> Rows:
    """Return rows of the input with their rows and columns exchanged."""
    return rows.swapaxes(-1, -2)


def _turned_back(outputs: RawOutputs) -> RawOutputs:
    """Return outputs with the rows and columns of their maps exchanged; numbers as they are."""
    tensors = tuple(one.swapaxes(-1, -2) if one.ndim == 4 else one for one in outputs.tensors)
    maps = outputs.class_maps
    turned = None if maps is None else maps.swapaxes(-1, -2)
    return replace(outputs, tensors=tensors, class_maps=turned)


def _same(one: Rows, other: Rows) -> bool:
    """Tell whether two rows are equal, wherever they lie."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(np.asarray(one), np.asarray(other))
    return one.device == other.device and one.equal(other)
