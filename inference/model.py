"""Loading models: from a bundle on disk to a reader that is ready."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .bundle import Bundle
from .ct_slices_reader import CtSlicesReader
from .device import choose_device
from .input_spec import ReaderKind
from .network import load_network
from .radiograph_reader import RadiographReader
from .reader import DEFAULT_BATCH, Reader
from .volume_reader import CtVolumeReader

__all__ = ["LoadedReader", "Reader", "load_network", "load_reader"]

LoadedReader = Reader | CtVolumeReader

_KINDS: Mapping[ReaderKind, type[LoadedReader]] = MappingProxyType(
    {"radiograph": RadiographReader, "ct_slices": CtSlicesReader, "ct_volume": CtVolumeReader}
)


def load_reader(bundle: Bundle, device: str, batch_size: int = DEFAULT_BATCH) -> LoadedReader:
    """Return the reader of a bundle, loaded onto `device`, which may be ``auto``.

    Raises
    ------
    BundleError
        If the bundle's network cannot be built or does not fit its weights.
    InferenceError
        If a GPU is asked for that is not there.
    """
    reader = _KINDS[bundle.spec.kind](bundle, batch_size)
    reader.setup(choose_device(device))
    return reader
