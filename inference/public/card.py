"""The model card of a published reader: whose words are whose stands beside every figure."""

from __future__ import annotations

from typing import Final

from ..codes import CHEST_FINDINGS, CHEST_SITES
from .published import Offer

# Pneumothorax, as torchxrayvision's BENCHMARKS.md states it for densenet121-res224-all.
_FIGURES: Final = {
    "torchxrayvision:densenet121-res224-all": (
        ("NIH", 0.75), ("SIIM", 0.79), ("Google", 0.85), ("PadChest", 0.81), ("CheXpert", 0.85),
        ("MIMIC", 0.81),
    ),
}  # fmt: skip
_ARTICLE: Final = (
    "Cohen JP, Viviano JD, Bertin P, et al. TorchXRayVision: A library of chest X-ray datasets and "
    "models. MIDL 2022. https://arxiv.org/abs/2111.00595"
)


def model_card(offer: Offer, name: str, origin: str, sha256: str, weights_sha256: str) -> str:
    """Return the card, Markdown.

    Parameters
    ----------
    offer : Offer
    name : str
        Of the model in the node.
    origin : str
        One sentence: where the file came from, and how far it is known.
    sha256 : str
        Digest of that file.
    weights_sha256 : str
        Digest of the weights of the bundle.
    """
    parts = [
        f"# Findings on frontal chest radiographs ({name}: {offer.name})",
        "The DenseNet-121 that the authors of torchxrayvision trained and published, converted "
        "without a change of its numbers. **Not a medical device.** Before anyone relies on it, "
        "measure it on films of your own.",
        "## Training data",
        f"{offer.trained_on}: frontal views. Most of their labels were taken from reports by "
        "program, with the errors of that.",
        "## Figures",
        _figures(offer),
        "## Outputs",
        "A probability of 0.5 is the operating point that the authors chose for each finding: "
        "where sensitivity plus specificity is highest in their data. Below and above it their "
        "scale is stretched linearly. From 0.5 a finding is Present, below it Absent; "
        "`thresholds` of a `[[model]]` section change that. The probability is no share of "
        "patients: at such an operating point several findings are often Present on one film, and "
        "those of what is rare are mostly false.",
        _outputs(offer),
        "Codes of the scheme 99PREREAD are private: no published code that we are sure of says "
        "as much as the label and no more.",
        "## Pixels",
        "The central square of the picture at 224 x 224, from -1024 (no signal) to 1024 (the "
        "highest value that Bits Stored has room for), as the package prepares DICOM files: no VOI "
        "LUT or window is applied. Films whose values fill a small part of their bits look flat to "
        "it; "
        '`"voi": true` in `configs/preread.json` applies the window of the header, '
        '`"intensity": "percentiles"` spreads the greys, and either is another '
        "reader than the one that was measured. Resized by torch's antialiased bilinear kernel, as "
        "the package's network does with a picture of another size; its `XRayResizer` has others.",
        "## Limits",
        "- It reads frontal views; a lateral one that its header does not tell is read too.\n"
        "- It does not say where: heat maps show what spoke for a finding, not its outline.\n"
        "- SIIM's and RSNA's films come from NIH's collection, which is among the training data "
        "of several of these weights.",
        "## Origin and terms",
        f"{origin} SHA-256 of that file: `{sha256}`. SHA-256 of the weights of this bundle: "
        f"`{weights_sha256}`.",
        "The package is under the Apache License 2.0, and the weights are files of its release "
        "without terms of their own. The data sets have theirs, some for research only: whether "
        "they bind the use of weights is for your lawyers.",
        _ARTICLE,
    ]
    return "\n\n".join(parts) + "\n"


def _figures(offer: Offer) -> str:
    figures = _FIGURES.get(offer.name)
    if figures is None:
        return "None are cited here, and none were measured by Preread."
    rows = "\n".join(f"| {data} | {auc:.2f} |" for data, auc in figures)
    return (
        "Area under the ROC curve for pneumothorax, as the authors state it in their "
        "benchmarks (2021). **Preread has measured none of them.** All sets but SIIM are parts "
        f"held out of the data it was trained on.\n\n| data | AUC |\n| --- | ---: |\n{rows}"
    )


def _outputs(offer: Offer) -> str:
    lines = [
        "| label | code | site | operating point of the network |",
        "| --- | --- | --- | ---: |",
    ]
    for index, label in zip(offer.indices, offer.labels, strict=True):
        code, site = CHEST_FINDINGS[label], CHEST_SITES[label]
        lines.append(
            f"| {label} | ({code.value}, {code.scheme}, {code.meaning}) | {site.meaning} | "
            f"{offer.operating_points[index]:.4g} |"
        )
    return "\n".join(lines)
