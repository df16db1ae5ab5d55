"""The reference pneumothorax reader as a bundle."""

from __future__ import annotations

from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from torch import nn

from .. import codes
from ..bundle import open_bundle
from ..bundle_writing import write_bundle
from ..input_spec import InputSpec
from ..reading import Code
from .chest_learning import NETWORK_DEF
from .pneumothorax_card import Measured, card
from .recipes import PNEUMOTHORAX

VERSION = "0.2.0"
COMMAND = (
    "OMP_NUM_THREADS=1 preread reference pneumothorax --backgrounds cxr_hannover/png "
    "--labelled cxr_nih_64px --out DIR"
)


def write_reference(out: Path, network: nn.Module, spec: InputSpec, measured: Measured) -> None:
    """Write the bundle to the folder `out`, with its card.

    Parameters
    ----------
    out : Path
    network : Module
        What ships.
    spec : InputSpec
    measured : Measured
    """

    def write(text: str) -> None:
        write_bundle(
            out,
            name=PNEUMOTHORAX.name,
            version=VERSION,
            network_def=NETWORK_DEF,
            state_dict=network.state_dict(),
            preread=_preread_section(spec, measured),
            metadata=_metadata(spec),
            card=text,
            half=True,
        )

    # The card names the hash of the weights, so the weights come first.
    write("")
    command = f"{COMMAND} --seed {measured.settings.seed}"
    write(card(measured, command, open_bundle(out).identity.weights_sha256))


def _preread_section(spec: InputSpec, measured: Measured) -> dict[str, Any]:
    limits = measured.thresholds
    return {
        "input": spec.to_dict(),
        "labels": [
            {
                "name": PNEUMOTHORAX.name,
                "code": _code(codes.PNEUMOTHORAX),
                "site": _code(codes.PLEURA),
                "thresholds": {"low": limits.low, "high": limits.high},
            }
        ],
        "activation": "sigmoid",
        "primary": PNEUMOTHORAX.name,
        "suitability": PNEUMOTHORAX.suitability.to_dict(),
    }


def _code(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def _metadata(spec: InputSpec) -> dict[str, Any]:
    title = PNEUMOTHORAX.title
    tensor = {"dtype": "float32", "value_range": [0, 1], "is_patch_data": False, "num_channels": 1}
    image = {"type": "image", "format": "magnitude", "spatial_shape": [spec.size, spec.size]}
    found: dict[str, Any] = {"type": "probabilities", "format": "classes", "spatial_shape": []}
    return {
        "changelog": {
            VERSION: "lungs cut out; painted and real films; thresholds from real films",
            "0.1.0": "first version",
        },
        "monai_version": installed("monai"),
        "pytorch_version": installed("torch").split("+")[0],
        "numpy_version": installed("numpy"),
        "required_packages_version": {},
        "task": title,
        "description": f"{title}: a demonstration, not for clinical use.",
        "authors": "Preread",
        "copyright": "Preread contributors, Apache-2.0",
        "intended_use": "Demonstration and tests; not for clinical use.",
        "network_data_format": {
            "inputs": {"image": {**tensor, **image, "channel_def": {"0": "intensity"}}},
            "outputs": {"pred": {**tensor, **found, "channel_def": {"0": PNEUMOTHORAX.name}}},
        },
    }
