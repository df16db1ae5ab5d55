"""Codestreams decoded by a GPU, with nvImageCodec: JPEG, JPEG 2000 and HTJ2K of one sample.

An option (the extra `nvimagecodec`, ``inference.gpu_decoding``). It stands in for imagecodecs in
`direct_frames`, whose checks stay; whatever it does not decode, the decode pool does. The first
frame of each kind is decoded by both: a kind that differs is never given to the GPU again.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from pydicom.uid import HTJ2K, JPEG2000, UID, JPEGBaseline8Bit

from ..direct_frames import EXCHANGEABLE, Cells, direct_frame
from ..engines.errors import EngineUnavailableError
from ..extras import installed_by

_log = structlog.get_logger()
_PACKAGE = "nvidia.nvimgcodec"
# Syntaxes that may be lossy, of which decoders round differently: by so many grey levels.
_LOSSY, _ROUNDING = (JPEGBaseline8Bit, JPEG2000, HTJ2K), 2

# A codestream, its transfer syntax and what the header says of its cells.
Encoded = tuple[bytes, UID, Cells]


class GpuCodec:
    """Decodes on one GPU; for any number of threads.

    Parameters
    ----------
    library : module
        ``nvidia.nvimgcodec``.
    number : int
        Of the GPU.
    """

    def __init__(self, library: Any, number: int) -> None:
        kinds = library.BackendKind
        # What its own CPU decoders would do, ours do.
        self._decoder = library.Decoder(
            device_id=number,
            backend_kinds=[kinds.GPU_ONLY, kinds.HW_GPU_ONLY, kinds.HYBRID_CPU_GPU],
        )
        self._how = library.DecodeParams(
            apply_exif_orientation=False,
            color_spec=library.ColorSpec.UNCHANGED,
            # Else values are spread over 8 bits.
            allow_any_depth=True,
        )
        self._one_at_a_time = threading.Lock()
        self._trusted: dict[tuple[object, ...], bool] = {}

    def takes(self, syntax: UID, cells: Cells) -> bool:
        """Tell whether frames of these cells are worth a try."""
        return syntax in EXCHANGEABLE and self._trusted.get(_kind(syntax, cells), True)

    def decode(self, frames: Sequence[Encoded]) -> list[NDArray[Any] | None]:
        """Decode frames together.

        Parameters
        ----------
        frames : sequence of (bytes, UID, Cells)
            For which `takes` holds.

        Returns
        -------
        list of ndarray, (rows, columns), or None
            As of `direct_frame`; None for each that another decoder has to read.
        """
        decoded = self._samples([frame for frame, _, _ in frames])
        return [
            None if samples is None else self._checked(encoded, samples)
            for encoded, samples in zip(frames, decoded, strict=True)
        ]

    def _samples(self, streams: list[bytes]) -> list[NDArray[Any] | None]:
        try:
            with self._one_at_a_time:
                images = self._decoder.decode(streams, self._how)
                return [None if one is None else _on_host(one) for one in images]
        except (RuntimeError, MemoryError, ValueError, TypeError) as error:
            # Also of a GPU that is lost, which the network will say.
            _log.warning("decode.gpu_failed", frames=len(streams), error=type(error).__name__)
            return [None] * len(streams)

    def _checked(self, encoded: Encoded, samples: NDArray[Any]) -> NDArray[Any] | None:
        frame, syntax, cells = encoded
        values = direct_frame(frame, syntax, cells, lambda _: samples)
        kind = _kind(syntax, cells)
        if values is not None and kind not in self._trusted:
            self._trusted[kind] = _agree(values, direct_frame(frame, syntax, cells), syntax)
            if not self._trusted[kind]:
                _log.warning("decode.gpu_differs", syntax=syntax.name, bits=cells.stored)
        return values if self._trusted.get(kind, False) else None


def _kind(syntax: UID, cells: Cells) -> tuple[object, ...]:
    return syntax, cells.allocated, cells.stored, cells.high, cells.signed


def _on_host(image: Any) -> NDArray[Any] | None:
    """Return the samples of an image, (rows, columns); None for several in a pixel."""
    there = image.cpu()
    if there is None:
        return None
    samples = np.array(there)
    if samples.ndim == 3 and samples.shape[-1] == 1:
        samples = samples[..., 0]
    return samples if samples.ndim == 2 else None


def _agree(values: NDArray[Any], told: NDArray[Any] | None, syntax: UID) -> bool:
    if told is None or told.shape != values.shape or told.dtype != values.dtype:
        return False
    allowed = _ROUNDING if syntax in _LOSSY else 0
    return int(np.abs(values.astype(np.int64) - told.astype(np.int64)).max()) <= allowed


@lru_cache(maxsize=8)
def codec_on(device: str) -> GpuCodec:
    """Return what decodes on a device, one for all readers of this process.

    Raises
    ------
    EngineUnavailableError
        If the package is missing, or has no decoder for this GPU.
    """
    try:
        library = importlib.import_module(_PACKAGE)
        return GpuCodec(library, int(device.partition(":")[2] or 0))
    except ImportError as error:
        raise EngineUnavailableError(
            "inference.gpu_decoding is on, and nvImageCodec is not installed: "
            f"{installed_by('nvimagecodec')}, or switch it off"
        ) from error
    except (RuntimeError, MemoryError) as error:
        raise EngineUnavailableError(
            f"inference.gpu_decoding is on, and nvImageCodec does not start on {device} "
            f"({type(error).__name__}); switch it off"
        ) from error
