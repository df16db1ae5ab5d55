"""OpenVINO on the CPU, in float32, from the network that was exported for ONNX Runtime."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from .engine import EngineIdentity, RawOutputs, Rows, on_host
from .errors import ExportError
from .exported import CPU_BATCH, cpu_threads, exported_outputs, typed_error
from .said import said


class OpenVinoEngine:
    """Runs an exported network.

    Parameters
    ----------
    path : Path
        The exported network.
    class_maps : bool
        Whether its last output are class maps.
    threads : int
        Threads for one batch; 0 is one for each core that the process may use.

    Raises
    ------
    ExportError
        If it cannot be loaded.
    """

    def __init__(self, path: Path, *, class_maps: bool, threads: int = 0) -> None:
        try:
            core: Any = openvino.Core()
            self._compiled: Any = core.compile_model(core.read_model(path), "CPU", _how(threads))
        except RuntimeError as error:
            raise ExportError(f"OpenVINO cannot load {path}: {_said(error)}") from error
        self._class_maps = class_maps
        # A request has one memory for its outputs.
        self._local = threading.local()
        self._identity = EngineIdentity(
            "openvino", str(openvino.__version__).partition("-")[0], "cpu", "float32", CPU_BATCH
        )

    @property
    def identity(self) -> EngineIdentity:
        """What it is."""
        return self._identity

    def run(self, rows: Rows) -> RawOutputs:
        """Carry the network out; see `Engine.run`."""
        given = on_host(rows)
        try:
            request = self._request()
            request.infer([given], share_inputs=True)
            outputs = [
                np.array(request.get_output_tensor(number).data, dtype=np.float32)
                for number in range(len(self._compiled.outputs))
            ]
        except (RuntimeError, MemoryError) as error:
            raise typed_error("OpenVINO", error, _said(error)) from error
        return exported_outputs(outputs, self._class_maps, self._identity.made(len(given)))

    def release(self) -> None:
        """Give back what the library holds for later."""
        self._compiled.release_memory()

    def _request(self) -> Any:
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        return self._local.request


def _how(threads: int) -> dict[str, object]:
    return {
        # Some processors have a lower precision, which it would take.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": cpu_threads(threads),
        # Pinned threads of two workers would share the same cores.
        "ENABLE_CPU_PINNING": False,
    }


def _said(error: Exception) -> str:
    return said(str(error), type(error).__name__)
