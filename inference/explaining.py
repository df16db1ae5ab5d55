"""Explanations of a loaded network: which way is taken for a label, and what it takes.

Light: torch is imported for gradients alone. The class activation map is there with the numbers,
and occlusion asks any engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .engines import RawOutputs, Rows
from .engines.engine import on_host
from .errors import InferenceError
from .evidence import evidence_for, share_of
from .explanation import DEFAULT, Evidence, Method
from .occlusion import Patches, occlusion
from .scheduling import yield_to_stat

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .saliency import Saliency

# Points on the way of integrated gradients.
DEFAULT_STEPS = 50
# Of occlusion: minutes on one core, where a short stride would take hours.
_MOST_PASSES = 4096


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for.

    Attributes
    ----------
    method : Method or None
        None: the default way. A label's own map, where the network gives one; else the class
        activation map of the same pass; else gradients.
    patch, stride : int or None
        Of occlusion, in pixels of the input; see `Patches.of`.
    steps : int
        Of integrated gradients.
    cell : int or None
        Of integrated gradients: side of the cells that are summed up; a 32nd of the input if None.
    baseline : float or None
        What covers, or where the way begins; the input's black if None.
    batch : int
        Rows at the network at once.
    """

    method: Method | None = None
    patch: int | None = None
    stride: int | None = None
    steps: int = DEFAULT_STEPS
    cell: int | None = None
    baseline: float | None = None
    batch: int = 8


def wanted_of(bundle: Bundle) -> Wanted | None:
    """Return what a bundle, or the site, wants in every picture; None for nothing."""
    if bundle.explanation == "none":
        return None
    # A label's own map comes before it where there is one, gradients where there is none. A network
    # that gives nothing but maps has nothing else to ask.
    if bundle.explanation == DEFAULT or bundle.masks:
        return Wanted()
    return Wanted(Method(bundle.explanation))


class Explainer:
    """Makes explanations of the numbers that a network gives.

    Parameters
    ----------
    bundle : Bundle
        Of images or slices, with labels that have numbers.
    run : callable
        Carries the network out; maps come with rows and columns as those of the source.
    network : callable
        Gives the module of torch, on `device`; called when gradients are asked for first.
    device : str
    """

    def __init__(
        self,
        bundle: Bundle,
        run: Callable[[Rows], RawOutputs],
        network: Callable[[], nn.Module],
        device: str,
    ) -> None:
        self._bundle = bundle
        self._run = run
        self._network = network
        self._device = device
        self._saliency: Saliency | None = None
        self._preparing = threading.Lock()

    def explain(
        self, row: Rows, output: int, wanted: Wanted, passed: Callable[[], tuple[RawOutputs, int]]
    ) -> Evidence | None:
        """Return what each cell of a row adds to an output.

        Parameters
        ----------
        row : ndarray or Tensor of float32, (1, channels, size, size)
        output : int
            Of the network.
        wanted : Wanted
        passed : callable
            Gives what the network gave for a batch that holds the row, and the row's number in it.

        Returns
        -------
        Evidence or None
            None where the default way leads nowhere.

        Raises
        ------
        InferenceError
            If the method that is asked for cannot be had, or its options do not fit.
        """
        method = wanted.method
        if method is Method.OCCLUSION:
            return self._occlusion(row, output, wanted)
        if method is Method.INTEGRATED_GRADIENTS:
            return self._integrated(row, output, wanted)
        if method in (None, Method.CLASS_ACTIVATION):
            outputs, number = passed()
            found = self.class_activation(output, outputs, number)
            if found is not None or method is not None:
                return self._had(found, method)
        return self._had(self._gradients(row, output), method)

    def _had(self, found: Evidence | None, method: Method | None) -> Evidence | None:
        if found is not None or method is None:
            return found
        raise InferenceError(
            f"model {self._bundle.name} has no {method.words}: its network does not end in "
            "global pooling and a linear layer; take gradients, occlusion or integrated-gradients"
            if method is Method.CLASS_ACTIVATION
            else f"model {self._bundle.name} has no feature maps to ask; take occlusion or "
            "integrated-gradients"
        )

    def class_activation(
        self, output: int, outputs: RawOutputs, number: int = 0
    ) -> Evidence | None:
        """Return the class activation map of a pass; None for a network that has none.

        Parameters
        ----------
        output : int
            Of the network.
        outputs : RawOutputs
        number : int
            Which row of them.
        """
        if outputs.class_maps is None:
            return None
        share = share_of(outputs.tensors[0][number], output, self._bundle.activation)
        return Evidence(Method.CLASS_ACTIVATION, evidence_for(outputs.class_maps[number], share))

    def _occlusion(self, row: Rows, output: int, wanted: Wanted) -> Evidence:
        shown = on_host(row)
        try:
            patches = Patches.of(int(shown.shape[-1]), wanted.patch, wanted.stride)
        except ValueError as error:
            raise InferenceError(str(error)) from None
        if patches.count > _MOST_PASSES:
            raise InferenceError(
                f"a patch of {patches.patch} that is moved by {patches.stride} takes "
                f"{patches.count} passes of the network, more than {_MOST_PASSES}: take a longer "
                "stride, and a patch of one or more of it"
            )
        black = self._baseline(shown, wanted)
        values = occlusion(
            lambda rows: self._run(rows).tensors[0],
            shown,
            output,
            self._bundle.activation,
            patches,
            baseline=black,
            batch=wanted.batch,
        )
        told = {"patch": patches.patch, "stride": patches.stride, "baseline": black}
        return Evidence(Method.OCCLUSION, values, told, float(patches.stride))

    def _integrated(self, row: Rows, output: int, wanted: Wanted) -> Evidence:
        from .engines.torch_engine import reproducible
        from .integrated_gradients import CELLS, integrated_gradients, summed

        size = int(row.shape[-1])
        cell = wanted.cell or max(1, round(size / CELLS))
        if not 1 <= cell <= size or wanted.steps < 1:
            raise InferenceError(
                f"integrated gradients take steps from 1 on and cells of 1 to {size} pixels, not "
                f"{wanted.steps} and {cell}"
            )
        black = self._baseline(on_host(row), wanted)
        network = self._network()
        with reproducible():
            found = integrated_gradients(
                network,
                self._moved(row),
                output,
                self._bundle.activation,
                steps=wanted.steps,
                baseline=black,
                pause=yield_to_stat,
            )
        told = {
            "steps": wanted.steps,
            "cell": cell,
            "baseline": black,
            "difference": round(found.difference, 6),
            "gap": round(found.gap, 6),
        }
        values = self._upright(found.values)
        return Evidence(Method.INTEGRATED_GRADIENTS, summed(values, cell), told, float(cell))

    def _gradients(self, row: Rows, output: int) -> Evidence | None:
        from .engines.torch_engine import reproducible

        with reproducible():
            values = self._watched().of(self._moved(row), output, self._bundle.activation)
        return None if values is None else Evidence(Method.GRADIENTS, self._upright(values))

    def _watched(self) -> Saliency:
        """Return what looks at the network's gradients, made when it is asked first."""
        from .saliency import Saliency

        with self._preparing:
            if self._saliency is None:
                self._saliency = Saliency(self._network())
            return self._saliency

    def _moved(self, row: Rows) -> torch.Tensor:
        """Return a row as the network takes it."""
        import torch

        moved = torch.as_tensor(row.swapaxes(-1, -2) if self._transposed else row)
        moved = moved.to(torch.device(self._device))
        return moved.contiguous(memory_format=torch.channels_last)

    def _upright(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a map with rows and columns as those of the source."""
        return np.ascontiguousarray(values.T) if self._transposed else values

    @property
    def _transposed(self) -> bool:
        plane = self._bundle.spec.plane
        return plane is not None and plane.transposed

    def _baseline(self, row: NDArray[np.float32], wanted: Wanted) -> float:
        """Return the input's black; steps of a plane can move it, also by each picture's values."""
        if wanted.baseline is not None:
            return wanted.baseline
        spec = self._bundle.spec
        return float(row.min()) if spec.plane is not None else float(spec.value_range[0])
