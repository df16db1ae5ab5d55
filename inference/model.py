"""Loading models: from a bundle on disk to a reader that is ready.

Light: what reads volumes runs on torch, and is imported with the first bundle that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from .bundle import Bundle
from .ct_slices_reader import CtSlicesReader
from .device import choose_device
from .engines.choose import EngineSettings
from .errors import BundleError
from .radiograph_reader import RadiographReader
from .reader import DEFAULT_BATCH, Reader

if TYPE_CHECKING:
    from .volume_reader import CtVolumeReader

__all__ = ["LoadedReader", "Reader", "load_image_reader", "load_reader"]

LoadedReader: TypeAlias = "Reader | CtVolumeReader"

_OF_IMAGES: Mapping[str, type[Reader]] = MappingProxyType(
    {"radiograph": RadiographReader, "ct_slices": CtSlicesReader}
)


def load_reader(
    bundle: Bundle,
    device: str,
    batch_size: int = DEFAULT_BATCH,
    engines: EngineSettings | None = None,
) -> LoadedReader:
    """Return the reader of a bundle, loaded onto `device`, which may be ``auto``.

    Without `engines` a CPU runs torch, layer by layer, and nothing is kept on disk.

    Raises
    ------
    BundleError
        If the bundle's network cannot be built or does not fit its weights.
    InferenceError
        If a GPU is asked for that is not there, or the bundle insists on an engine that is not.
    """
    reader = _made(bundle, batch_size)
    reader.setup(choose_device(device), engines)
    return reader


def load_image_reader(bundle: Bundle, device: str, batch_size: int = DEFAULT_BATCH) -> Reader:
    """Return the reader of a bundle that reads images or slices one by one.

    Raises
    ------
    BundleError
        If it reads whole volumes, or as of `load_reader`.
    InferenceError
        If a GPU is asked for that is not there.
    """
    reader = load_reader(bundle, device, batch_size)
    if not isinstance(reader, Reader):
        raise BundleError(
            f"model {bundle.name} reads whole volumes (ct_volume), which have no figure for each "
            "image; a node serves it"
        )
    return reader


def _made(bundle: Bundle, batch_size: int) -> LoadedReader:
    if bundle.spec.kind in _OF_IMAGES:
        return _OF_IMAGES[bundle.spec.kind](bundle, batch_size)
    from .volume_reader import CtVolumeReader

    return CtVolumeReader(bundle, batch_size)
