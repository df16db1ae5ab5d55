"""Writing a bundle to disk, whole or not at all. Light: no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from .bundle import open_bundle
from .bundle_files import WEIGHTS_FILES
from .bundle_section import SCHEMA
from .bundle_swap import made_anew
from .errors import BundleError
from .sequence_spec import SEQUENCE_WEIGHTS

_CONFIGS = ("configs/metadata.json", "configs/inference.json", "configs/preread.json")
_CARD = "docs/README.md"
METADATA_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)


def write_bundle(
    path: Path,
    *,
    name: str,
    version: str,
    network_def: Mapping[str, Any],
    state_dict: Mapping[str, Any],
    preread: Mapping[str, Any],
    metadata: Mapping[str, Any],
    card: str,
    half: bool = False,
    sequence: Mapping[str, Any] | None = None,
) -> None:
    """Write a bundle that `open_bundle` accepts; files that stand there are replaced, all at once.

    It is written beside `path` and takes its place when it is whole: what is served is never half
    of one bundle and half of another. After an error the bundle of before stands there unchanged.

    Parameters
    ----------
    path : Path
        Folder of the bundle; made if need be.
    name, version : str
        Of the model; they go into ``metadata.json``.
    network_def : mapping
        MONAI configuration with ``_target_``, e.g. ``{"_target_":
        "monai.networks.nets.EfficientNetBN", "model_name": "efficientnet-b0", ...}``.
    state_dict : mapping of str to Tensor
        Weights on any device.
    preread : mapping
        The Preread section: ``input``, ``labels`` and, with defaults, ``activation``, ``primary``,
        ``pooling``, ``suitability``, ``masks``, ``calibration``, ``sequence``, ``engine``.
    metadata : mapping
        Further fields of ``metadata.json``.
    card : str
        The model card, Markdown.
    half : bool
        Store floating-point weights in half precision, which halves the file; they are computed
        with in single precision.
    sequence : mapping of str to Tensor, optional
        Weights of the head that the section ``sequence`` speaks of; always in single precision.

    Raises
    ------
    BundleError
        If what was written is not a bundle that can be opened.
    """
    weights_file = f"models/{WEIGHTS_FILES[0]}"
    written = (*_CONFIGS, _CARD, weights_file, SEQUENCE_WEIGHTS)
    stated = {"schema": METADATA_SCHEMA, **metadata, "name": name, "version": version}
    configs = (stated, {"network_def": dict(network_def)}, {"schema": SCHEMA, **preread})
    with made_anew(path, written) as new:
        for folder in ("configs", "models", "docs"):
            (new / folder).mkdir(exist_ok=True)
        for file, content in zip(_CONFIGS, configs, strict=True):
            _write_json(new / file, content)
        (new / _CARD).write_text(card, encoding="utf-8")
        weights = {key: _array(tensor, half) for key, tensor in state_dict.items()}
        save_file(weights, new / weights_file)
        if sequence is not None:
            head = {key: _array(tensor, half=False) for key, tensor in sequence.items()}
            save_file(head, new / SEQUENCE_WEIGHTS)
        try:
            open_bundle(new)
        except BundleError as error:
            raise BundleError(str(error).replace(str(new), str(path))) from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _array(tensor: Any, half: bool) -> np.ndarray[Any, Any]:
    values = np.ascontiguousarray(tensor.detach().cpu().numpy())
    return values.astype(np.float16) if half and values.dtype == np.float32 else values
