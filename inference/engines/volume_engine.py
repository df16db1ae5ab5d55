"""Windows of volumes, or whole ones, through a network of torch; rows are windows."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..errors import BundleError
from .engine import EngineIdentity, RawOutputs, Rows
from .torch_engine import reproducible
from .torch_faults import faults_typed

# Windows at once. On a CPU each takes all cores anyway, and several take several times the memory.
_GPU_BATCH, _CPU_BATCH = 4, 1


class VolumeEngine:
    """Runs a module of torch that takes volumes.

    Parameters
    ----------
    network : torch.nn.Module
        On `device`, in evaluation mode.
    device : torch.device
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._network = network
        self._device = device
        batch = _CPU_BATCH if device.type == "cpu" else _GPU_BATCH
        self._identity = EngineIdentity("torch", torch.__version__, str(device), "float32", batch)

    @property
    def identity(self) -> EngineIdentity:
        """What it is."""
        return self._identity

    def run(self, rows: Rows) -> RawOutputs:
        """Carry the network out; see `Engine.run`.

        Parameters
        ----------
        rows : ndarray or Tensor of float32, (windows, channels, x, y, z)

        Returns
        -------
        RawOutputs
            Of several outputs the first: others are deep supervision and other heads.
        """
        with torch.inference_mode(), reproducible(), faults_typed():
            outputs = self._network(torch.as_tensor(rows).to(self._device))
            if isinstance(outputs, tuple | list) and outputs:
                outputs = outputs[0]
            if not isinstance(outputs, torch.Tensor):
                raise BundleError(f"the network gives {type(outputs).__name__}, not tensors")
            found = np.ascontiguousarray(outputs.float().cpu().numpy())
        return RawOutputs((found,), None, self._identity.made(len(rows)))

    def release(self) -> None:
        """Give back memory that torch holds for later."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
