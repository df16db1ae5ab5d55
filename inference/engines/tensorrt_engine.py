"""TensorRT on a GPU of NVIDIA, by ONNX Runtime, from the network that was exported for it.

What TensorRT has no layer for, ONNX Runtime's own CUDA kernels do. TensorRT builds its engine at
the first start, which takes minutes, and keeps it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..engine_spec import Precision
from .engine import EngineIdentity
from .errors import ExportError
from .exported import ExportedEngine
from .onnx_engine import INPUT, RAISED

_TENSORRT, _CUDA = "TensorrtExecutionProvider", "CUDAExecutionProvider"


def is_there() -> bool:
    """Tell whether the installed ONNX Runtime is built with TensorRT."""
    return _TENSORRT in onnxruntime.get_available_providers()


class TensorRtEngine(ExportedEngine):
    """Runs an exported network.

    Parameters
    ----------
    path : Path
        The exported network.
    number : int
        Of the GPU.
    shape : tuple of int
        Channels, rows and columns of a row.
    class_maps : bool
        Whether its last output are class maps.
    precision : {"float32", "float16"}
        Of layers that gain by it.
    largest : int
        Rows of the largest batch.
    cache : Path or None
        Folder of built engines, made when there is one.

    Raises
    ------
    ExportError
        If it cannot be loaded, or TensorRT is left out: its libraries are not there, say.
    """

    library = "ONNX Runtime"
    raised = (*RAISED, MemoryError)

    def __init__(
        self,
        path: Path,
        *,
        number: int,
        shape: tuple[int, int, int],
        class_maps: bool,
        precision: Precision = "float32",
        largest: int = 32,
        cache: Path | None = None,
    ) -> None:
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
        providers = [
            (_TENSORRT, _how(number, shape, precision, largest, cache)),
            # TF32 keeps 10 bits of each factor.
            (_CUDA, {"device_id": str(number), "use_tf32": "0"}),
        ]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(path, options, providers=providers)
        except RAISED as error:
            raise ExportError(f"TensorRT cannot load {path}: {self.said_by(error)}") from error
        if _TENSORRT not in self._session.get_providers():
            raise ExportError("ONNX Runtime leaves TensorRT out: its libraries are not found")
        self._largest = largest
        # The version is that of ONNX Runtime, which names its TensorRT.
        identity = EngineIdentity(
            "tensorrt", onnxruntime.__version__, f"cuda:{number}", precision, largest
        )
        super().__init__(identity, class_maps=class_maps)

    def _outputs(self, rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return [one.astype(np.float32) for one in self._session.run(None, {INPUT: rows})]

    def _at_once(self, rows: int) -> int:
        return min(rows, self._largest)


def _how(
    number: int,
    shape: tuple[int, int, int],
    precision: Precision,
    largest: int,
    cache: Path | None,
) -> dict[str, str]:
    def of(rows: int) -> str:
        return f"{INPUT}:{'x'.join(map(str, (rows, *shape)))}"

    options = {
        "device_id": str(number),
        "trt_fp16_enable": str(int(precision == "float16")),
        # One engine for batches of any size: without, each new size is built for minutes.
        "trt_profile_min_shapes": of(1),
        "trt_profile_opt_shapes": of(largest),
        "trt_profile_max_shapes": of(largest),
    }
    if cache is None:
        return options
    kept = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
    return {**options, **kept, "trt_timing_cache_enable": "1", "trt_timing_cache_path": str(cache)}
