"""The protocol: an engine takes prepared rows and gives what the network gives, as numpy arrays.

Light: neither torch nor ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..engine_spec import Precision
from .errors import DeviceLostError

if TYPE_CHECKING:
    import torch

    # Float32, (rows, channels, size, size). Tensors may lie on the device already.
    Rows = NDArray[np.float32] | torch.Tensor
else:
    Rows = object


@dataclass(frozen=True, slots=True)
class MadeWith:
    """What a result was computed with; stored beside it.

    Attributes
    ----------
    engine : str
        ``onnxruntime``, ``torch`` or ``torch-cuda``.
    version : str
        Of the engine's library.
    device : str
        ``cpu`` or ``cuda:N``.
    precision : {"float32", "bfloat16", "float16"}
    batch : int
        Rows that were computed together, padding included.
    """

    engine: str
    version: str
    device: str
    precision: Precision
    batch: int

    @property
    def facts(self) -> dict[str, object]:
        """The same, JSON-serialisable."""
        return {
            "engine": self.engine,
            "version": self.version,
            "device": self.device,
            "precision": self.precision,
            "batch": self.batch,
        }


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """What an engine says of itself; names as in `MadeWith`.

    Attributes
    ----------
    best_batch : int
        Rows at once beyond which it gains next to nothing.
    """

    name: str
    version: str
    device: str
    precision: Precision
    best_batch: int

    def made(self, batch: int) -> MadeWith:
        """Return what a batch of so many rows is made with."""
        return MadeWith(self.name, self.version, self.device, self.precision, batch)


@dataclass(frozen=True, slots=True, eq=False)
class RawOutputs:
    """What a network gives: no activation, no calibration, no choice of labels.

    Attributes
    ----------
    tensors : tuple of ndarray of float32, (rows, ...)
        One for each output of the network.
    class_maps : ndarray of float32, (rows, outputs, h, w), or None
        Of networks that end in a mean over maps and a linear layer: what each place adds to each
        of the first output's numbers, times the count of places (`class_maps`).
    made_with : MadeWith
        Of most rows, where a batch was taken apart.
    apart : tuple of MadeWith
        Of each row, where they differ; empty where they do not.
    """

    tensors: tuple[NDArray[np.float32], ...]
    class_maps: NDArray[np.float32] | None
    made_with: MadeWith
    apart: tuple[MadeWith, ...] = ()

    @property
    def of_rows(self) -> tuple[MadeWith, ...]:
        """What each row was made with."""
        return self.apart or (self.made_with,) * len(self.tensors[0])


class Engine(Protocol):
    """Carries a network out."""

    @property
    def identity(self) -> EngineIdentity:
        """What it is."""
        ...

    def run(self, rows: Rows) -> RawOutputs:
        """Carry the network out; several threads may call.

        Parameters
        ----------
        rows : ndarray or Tensor of float32, (rows, channels, size, size)
            At least one row.

        Returns
        -------
        RawOutputs
            Each row is the same to 1e-5 whatever rows are beside it.

        Raises
        ------
        EngineOutOfMemoryError
            If a smaller batch may pass.
        DeviceLostError
            If nothing will pass any more.
        EngineRunError
            If these rows do not pass.
        BundleError
            If the network gives something else than tensors.
        """
        ...

    def release(self) -> None:
        """Give back memory that is held for later, after a want of memory."""
        ...


def on_host(rows: Rows) -> NDArray[np.float32]:
    """Return rows as a contiguous array in the memory of the host.

    Raises
    ------
    DeviceLostError
        If they lie on a device that is lost.
    """
    if isinstance(rows, np.ndarray):
        return np.ascontiguousarray(rows, dtype=np.float32)
    try:
        return np.ascontiguousarray(rows.detach().cpu().numpy(), dtype=np.float32)
    except RuntimeError as error:  # what was on a lost device is lost
        raise DeviceLostError("the rows lie on a device that gives them back no more") from error


def joined_rows(parts: Sequence[Rows]) -> Rows:
    """Return several batches as one, where they lie: all of them in one place."""
    arrays = [one for one in parts if isinstance(one, np.ndarray)]
    if len(arrays) == len(parts):
        return np.concatenate(arrays)
    import torch

    return torch.cat([torch.as_tensor(one) for one in parts])


def joined_outputs(parts: Sequence[RawOutputs]) -> RawOutputs:
    """Return the outputs of several batches, one at least, as those of one."""
    if len(parts) == 1:
        return parts[0]
    maps = [part.class_maps for part in parts if part.class_maps is not None]
    made = tuple(one for part in parts for one in part.of_rows)
    return RawOutputs(
        tensors=tuple(
            np.concatenate(same) for same in zip(*(p.tensors for p in parts), strict=True)
        ),
        class_maps=np.concatenate(maps) if len(maps) == len(parts) else None,
        # The largest part: each result would be the same in any of them.
        made_with=max((part.made_with for part in parts), key=lambda one: one.batch),
        apart=made if len(set(made)) > 1 else (),
    )
