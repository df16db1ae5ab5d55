"""Which published readers can be added, and what their publishers say of them. Light: no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import InferenceError

FAMILY: Final = "torchxrayvision"
_RELEASE: Final = "https://github.com/mlmed/torchxrayvision/releases/download/v1/"
_SUFFIX: Final = "-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"

# The outputs of every DenseNet of this family, in their order; a set of weights learned some.
OUTPUTS: Final = (
    "atelectasis", "consolidation", "infiltration", "pneumothorax", "edema", "emphysema",
    "fibrosis", "effusion", "pneumonia", "pleural_thickening", "cardiomegaly", "nodule", "mass",
    "hernia", "lung_lesion", "fracture", "lung_opacity", "enlarged_cardiomediastinum",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Offer:
    """A published set of weights.

    Attributes
    ----------
    name : str
        By which it is asked for, such as ``torchxrayvision:densenet121-res224-all``.
    url : str
        Where its publisher keeps the file.
    sha256 : str or None
        Digest of that file; None where none is known to us: then the file is trusted when it is
        first fetched, or the person who asks gives the digest.
    trained_on : str
        Data sets, as the publisher names them.
    operating_points : tuple of float
        For each of `OUTPUTS`; not a number for an output that was not trained.
    """

    name: str
    url: str
    sha256: str | None
    trained_on: str
    operating_points: tuple[float, ...]

    @property
    def weights(self) -> str:
        """The publisher's name of the weights, such as ``densenet121-res224-all``."""
        return self.name.partition(":")[2]

    @property
    def labels(self) -> tuple[str, ...]:
        """The outputs that were trained, in their order."""
        return tuple(OUTPUTS[index] for index in self.indices)

    @property
    def indices(self) -> tuple[int, ...]:
        """Which outputs of the network were trained."""
        points = enumerate(self.operating_points)
        return tuple(index for index, point in points if not math.isnan(point))


def offers() -> tuple[Offer, ...]:
    """Return every reader that can be added."""
    return _OFFERS


def find_offer(name: str) -> Offer:
    """Return the offer of that name.

    Raises
    ------
    InferenceError
        If there is none; the message lists what there is.
    """
    for offer in _OFFERS:
        if name == offer.name:
            return offer
    known = ", ".join(offer.name for offer in _OFFERS)
    raise InferenceError(f"no published reader is named {name!a}; there are: {known}")


def _offer(
    data: str,
    stem: str,
    trained_on: str,
    points: Mapping[str, float] | Sequence[float],
    sha256: str | None = None,
) -> Offer:
    by_output = (
        tuple(points.get(output, math.nan) for output in OUTPUTS)
        if isinstance(points, Mapping)
        else (*points, *[math.nan] * (len(OUTPUTS) - len(points)))
    )
    name = f"{FAMILY}:densenet121-res224-{data}"
    return Offer(name, f"{_RELEASE}{stem}{_SUFFIX}", sha256, trained_on, by_output)


def _chexpert_labels(*points: float) -> dict[str, float]:
    labels = (
        "atelectasis", "consolidation", "pneumothorax", "edema", "effusion", "pneumonia",
        "cardiomegaly", "lung_lesion", "fracture", "lung_opacity", "enlarged_cardiomediastinum",
    )  # fmt: skip
    return dict(zip(labels, points, strict=True))


# Addresses and operating points are those of the package torchxrayvision 1.5.7. Its publisher
# states no digests. That of "all" (28,382,008 bytes) is the one that more than five unrelated
# projects pin in public; nobody of this project has computed it from the file.
_OFFERS: Final = (
    _offer(
        "all",
        "nih-pc-chex-mimic_ch-google-openi-kaggle",
        "NIH ChestX-ray14, PadChest, CheXpert, MIMIC-CXR (CheXpert labels), NIH with Google's "
        "labels, OpenI and RSNA Pneumonia",
        (
            0.07422872, 0.038290843, 0.09814756, 0.0098118475, 0.023601074, 0.0022490358,
            0.010060724, 0.103246614, 0.056810737, 0.026791653, 0.050318155, 0.023985857,
            0.01939503, 0.042889766, 0.053369623, 0.035975814, 0.20204692, 0.05015312,
        ),
        "56524913dd16a906422e8d8b66a7a5c46be1d82eb7ac012d8103776f1aa68899",
    ),
    _offer(
        "nih",
        "nih",
        "NIH ChestX-ray14",
        (
            0.039117552, 0.0034529066, 0.11396341, 0.0057298196, 0.00045666535, 0.0018880932,
            0.012037827, 0.038744126, 0.0037213727, 0.014730946, 0.016149804, 0.054241467,
            0.037198864, 0.0004403434,
        ),
    ),
    _offer(
        "pc",
        "pc",
        "PadChest",
        {
            **dict(
                zip(
                    OUTPUTS,
                    (
                        0.031012505, 0.013347598, 0.081435576, 0.001262615, 0.002587246,
                        0.0035944257, 0.0023071, 0.055412333, 0.044385884, 0.042766232,
                        0.043258056, 0.037629247, 0.005658899, 0.0091741895,
                    ),
                    strict=False,
                )
            ),
            "fracture": 0.026507627,
        },
    ),
    _offer(
        "chex",
        "chex",
        "CheXpert",
        _chexpert_labels(
            0.1988969, 0.05710573, 0.0531293, 0.1435217, 0.27212676, 0.07749717, 0.19712369,
            0.09932402, 0.09273402, 0.3270967, 0.10888247,
        ),
    ),
    _offer(
        "rsna",
        "kaggle",
        "RSNA Pneumonia Detection Challenge",
        {"pneumonia": 0.13486601, "lung_opacity": 0.13511065},
    ),
    _offer(
        "mimic_nb",
        "mimic_nb",
        "MIMIC-CXR (NegBio labels)",
        _chexpert_labels(
            0.08558747, 0.011884617, 0.0040595434, 0.010733786, 0.118761964, 0.022924708,
            0.06358637, 0.022143636, 0.017476924, 0.1258702, 0.014020768,
        ),
    ),
    _offer(
        "mimic_ch",
        "mimic_ch",
        "MIMIC-CXR (CheXpert labels)",
        _chexpert_labels(
            0.09121389, 0.010573786, 0.005023008, 0.003698257, 0.08001232, 0.037242252,
            0.05006329, 0.019866971, 0.03823637, 0.11303808, 0.0069147074,
        ),
    ),
)  # fmt: skip
