"""A loaded network at work: probabilities, maps of them, and where it looked. Light: no torch."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .engines import MadeWith, RawOutputs, Rows
from .engines.choose import EngineSettings, choose_engine
from .errors import BundleError
from .explaining import Explainer, Wanted
from .explanation import Evidence, Method
from .interpretation import Interpretation
from .kept_passes import RowPass
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
        self._meaning = Interpretation(bundle)
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
        return self._meaning.probabilities(self._run(tensor))

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
        return self._meaning.maps(self._run(tensor), _size(tensor))

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
        return self._meaning.both(self._run(tensor), _size(tensor))

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
        if self._bundle.masks and wanted.method is not None:
            raise BundleError(
                f"{self._bundle.path}: the network gives masks, which say where: they are all the "
                "explanation it has"
            )
        if self._meaning.has_map(column) and wanted.method is None:
            own = self._meaning.own_map(self._run(row), column, _size(row))
            return Evidence(Method.OWN_MAP, own)
        output = self._bundle.outputs[column].index
        return self._explainer.explain(row, output, wanted, lambda: self._passed(row))

    def outputs_of(self, tensor: Rows) -> RawOutputs | None:
        """Return what the last pass of this thread gave, if it was that of these very rows.

        None too where no picture can use it, without class maps and maps of the labels' own.
        """
        passed: _Passed | None = getattr(self._local, "passed", None)
        if passed is None or passed.rows is not tensor:
            return None
        has_maps = self._bundle.masks or self._bundle.mapped
        return passed.outputs if has_maps or passed.outputs.class_maps is not None else None

    def evidence_of(self, row: RowPass, column: int, wanted: Wanted) -> Evidence | None:
        """Return where the network looked for a label, by a pass that was made.

        Parameters
        ----------
        row : RowPass
        column : int
            Which of the bundle's labels.
        wanted : Wanted

        Returns
        -------
        Evidence or None
            None if that pass does not tell; see `explained`.
        """
        if self._meaning.has_map(column) and wanted.method is None:
            own = self._meaning.own_map(row.outputs, column, row.size)
            return Evidence(Method.OWN_MAP, own)
        if self._bundle.masks or wanted.method not in (None, Method.CLASS_ACTIVATION):
            return None
        return self._explainer.class_activation(self._bundle.outputs[column].index, row.outputs)

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

    def _run(self, tensor: Rows) -> RawOutputs:
        """Carry the network out; maps come with rows and columns as those of the source."""
        if self._transposed:
            outputs = _turned_back(self._engine.run(_turned(tensor)))
        else:
            outputs = self._engine.run(tensor)
        self._local.passed = _Passed(tensor, outputs)
        return outputs

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
