"""From a published file to a bundle that the node serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Final

from ..bundle import open_bundle
from ..bundle_writing import write_bundle
from ..codes import CHEST_FINDINGS, CHEST_SITES
from ..criteria import Criteria
from ..errors import BundleError
from ..input_spec import InputSpec
from ..reading import Code
from .card import model_card
from .download import check_digest, fetch, sha256_of
from .published import Offer

# By this name the built-in rules give it frontal chest radiographs.
DEFAULT_NAME: Final = "chest-findings"
PACKAGE: Final = "torchxrayvision 1.5.7"
_SPEC: Final = InputSpec(
    kind="radiograph",
    size=224,
    polarity="chest",
    crop="square",
    intensity="full_range",
    value_range=(-1024.0, 1024.0),
)
_SUITABILITY: Final = Criteria(
    modalities=("CR", "DX"),
    body_parts=("CHEST", "THORAX", "LUNG", "PORT CHEST"),
    refused_views=("LL", "RL", "LATERAL", "LLD", "RLD"),
    min_rows=224,
)
# The operating point of every label, after calibration.
_THRESHOLD: Final = 0.5


@dataclass(frozen=True, slots=True)
class Added:
    """A published reader that is now a bundle.

    Attributes
    ----------
    path : Path
        The bundle.
    name : str
        Of the model.
    sha256 : str
        Digest of the published file.
    origin : str
        One sentence: where the file came from, and how far it is known.
    """

    path: Path
    name: str
    sha256: str
    origin: str


def add_model(
    offer: Offer,
    out: Path,
    *,
    cache: Path,
    name: str = DEFAULT_NAME,
    file: Path | None = None,
    sha256: str | None = None,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Added:
    """Make a bundle of a published reader.

    Parameters
    ----------
    offer : Offer
    out : Path
        Folder of the bundle; made if need be.
    cache : Path
        Where fetched files are kept.
    name : str
        Of the model.
    file : Path, optional
        The published file, or its state dict; without one it is fetched.
    sha256 : str, optional
        Digest that the file must have; without one, that of the offer if the file is fetched.
    on_progress : callable
        Called with the bytes fetched so far and, if known, the bytes there are.

    Raises
    ------
    DownloadError
        If the file cannot be fetched or has another digest.
    BundleError
        If it does not hold the weights of the network, or `out` holds something else already.
    """
    # torch takes seconds to import, and a wrong digest is told without it.
    if out.exists() and not (out / "configs" / "preread.json").is_file() and any(out.iterdir()):
        raise BundleError(f"{out} holds something else than a bundle: give another --out")
    if file is None:
        path = fetch(offer.url, cache, sha256 or offer.sha256, on_progress)
        found = path.stem
    else:
        path, found = file, sha256_of(file)
        if sha256 is not None:
            check_digest(path, found, sha256)
    origin = _origin(offer, found, fetched=file is None, asked=sha256)
    from .densenet import NETWORK_DEF, read_weights

    weights = read_weights(path, offer)

    write_bundle(
        out,
        name=name,
        version=offer.weights,
        network_def=NETWORK_DEF,
        state_dict=weights,
        preread=preread_section(offer),
        metadata=_metadata(offer, found, origin),
        card="",
    )
    # The card names the digest of the weights, so the weights come first.
    bundle = open_bundle(out)
    card = model_card(offer, name, origin, found, bundle.identity.weights_sha256)
    (out / "docs" / "README.md").write_text(card, encoding="utf-8")
    return Added(out, name, found, origin)


def preread_section(offer: Offer) -> dict[str, Any]:
    """Return what stands in ``configs/preread.json``."""
    return {
        "input": _SPEC.to_dict(),
        "labels": [
            {
                "name": label,
                "code": _code(CHEST_FINDINGS[label]),
                "site": _code(CHEST_SITES[label]),
                "thresholds": {"low": _THRESHOLD, "high": _THRESHOLD},
                "output": index,
            }
            for index, label in zip(offer.indices, offer.labels, strict=True)
        ],
        "activation": "sigmoid",
        "calibration": {
            "operating_points": [offer.operating_points[index] for index in offer.indices]
        },
        "primary": "pneumothorax" if "pneumothorax" in offer.labels else offer.labels[0],
        "suitability": _SUITABILITY.to_dict(),
    }


def _origin(offer: Offer, found: str, *, fetched: bool, asked: str | None) -> str:
    source = f"The weights were fetched from {offer.url}" if fetched else "The weights are a file"
    if found == offer.sha256:
        known = "with the digest that others have published for this file"
    elif asked is not None:
        known = "with the digest that was asked for"
    elif offer.sha256 is not None:
        known = f"that was given, and **not the published file** ({offer.sha256})"
    elif fetched:
        known = "with a digest that nothing was there to compare with: it was trusted"
    else:
        known = "that was given; no digest of the published file is known to compare with"
    return f"{source} {known}."


def _metadata(offer: Offer, sha256: str, origin: str) -> dict[str, Any]:
    return {
        "changelog": {offer.weights: f"converted from {PACKAGE}"},
        "monai_version": installed("monai"),
        "pytorch_version": installed("torch").split("+")[0],
        "numpy_version": installed("numpy"),
        "required_packages_version": {},
        "task": "Findings on frontal chest radiographs",
        "description": f"{offer.name}, converted for Preread.",
        "authors": "The authors of torchxrayvision",
        "manufacturer": "torchxrayvision",
        "copyright": "The authors of torchxrayvision, Apache-2.0",
        "intended_use": "Not a medical device; measure it on films of your own first.",
        "source": {"name": offer.name, "url": offer.url, "sha256": sha256, "origin": origin},
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "num_channels": 1,
                    "spatial_shape": [_SPEC.size, _SPEC.size],
                    "dtype": "float32",
                    "value_range": list(_SPEC.value_range),
                    "is_patch_data": False,
                    "channel_def": {"0": "intensity"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classes",
                    "num_channels": len(offer.operating_points),
                    "spatial_shape": [],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {
                        str(i): label for i, label in zip(offer.indices, offer.labels, strict=True)
                    },
                }
            },
        },
    }


def _code(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}
