"""Settings of a bundle that says less than a node must know: ``[model.input]`` and others.

The same as ``configs/preread.json`` of a bundle that was made for Preread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .engine_spec import EngineName
from .explanation import ExplanationName
from .input_spec import Crop, Polarity, ReaderKind
from .intensity_spec import IntensityKind
from .volume_spec import Blend, Fit, IntensityPlace, Padding, Resize
from .windows import VoiLutFunction

Three = tuple[float, float, float]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def said(self) -> dict[str, Any]:
        """What is set, as `configs/preread.json` says it."""
        return self.model_dump(exclude_unset=True, exclude_none=True, mode="json")


class CodeSettings(_Settings):
    """A coded concept (PS3.3 8.8)."""

    value: str = Field(description="Code Value, such as 78961009.")
    scheme: str = Field(default="SCT", description="Coding Scheme Designator.")
    meaning: str = Field(description="Code Meaning, such as Spleen.")

    @property
    def said(self) -> dict[str, Any]:
        """All of it."""
        return self.model_dump()


class WindowSettings(_Settings):
    """A window of CT slices: one channel of the input."""

    center: float = Field(description="Centre in HU.")
    width: float = Field(description="Width in HU.")
    name: str = Field(default="", description="Name of the window, shown in pictures.")
    function: VoiLutFunction = Field(
        default=VoiLutFunction.LINEAR, description="LINEAR, LINEAR_EXACT or SIGMOID (PS3.3 C.11.2)."
    )


class IntensitySettings(_Settings):
    """A step from the values of a volume to what the network sees."""

    kind: IntensityKind = Field(
        description="range (HU to target), minmax, percentiles (to target) or standardize (less "
        "the mean, by the standard deviation)."
    )
    source: tuple[float, float] | None = Field(
        default=None, description="Of range: from and to in HU; of percentiles: 0 to 100."
    )
    target: tuple[float, float] | None = Field(
        default=None, description="What they become; [0, 1] if not set."
    )
    clip: bool | None = Field(
        default=None, description="Limit what is beyond the target; true if not set."
    )
    mean: float | None = Field(
        default=None, description="Of standardize: the mean; without it the image's own."
    )
    deviation: float | None = Field(
        default=None, description="Of standardize: the deviation; without it the image's own."
    )
    nonzero: bool | None = Field(
        default=None, description="Of standardize: leave out values that are 0."
    )


class InputSettings(_Settings):
    """What the network expects at its input; with `kind` it says all of it."""

    kind: ReaderKind | None = Field(
        default=None,
        description="radiograph (an image at a time), ct_slices (a slice at a time) or ct_volume. "
        "With it the preprocessing of the bundle is not looked at; without it the keys below "
        "change what the bundle says.",
    )
    size: int | tuple[int, int, int] | None = Field(
        default=None,
        description="radiograph, ct_slices: rows and columns of the square input. ct_volume: "
        "voxels along each axis, after the spacing.",
    )
    windows: tuple[WindowSettings, ...] = Field(
        default=(), description="ct_slices: a channel for each window."
    )
    polarity: Polarity | None = Field(
        default=None, description="radiograph: tag or chest (a negative is turned round)."
    )
    crop: Crop | None = Field(
        default=None, description="radiograph: none or lungs; ct_slices: none or head."
    )
    voi: bool | None = Field(
        default=None, description="radiograph: apply the VOI LUT or window of the header."
    )
    orientation: str | None = Field(
        default=None, description="ct_volume: where each axis grows to, as MONAI means it: RAS."
    )
    spacing: float | Three | None = Field(
        default=None, description="ct_volume: size of a voxel in mm; the source's if not set."
    )
    fit: Fit | None = Field(
        default=None, description="ct_volume: stretch to size, or center (cut, pad with zeros)."
    )
    resize: Resize | None = Field(
        default=None, description="ct_volume: stretch linear, or by area (the mean)."
    )
    intensity: tuple[IntensitySettings, ...] = Field(
        default=(), description="ct_volume: steps from HU to what the network sees."
    )
    intensity_at: IntensityPlace | None = Field(
        default=None,
        description="ct_volume: scale intensity first, once spaced, or last, after the size.",
    )
    antialias: bool | None = Field(
        default=None,
        description="ct_volume: smooth what is finer than the spacing; true if kind is set, false "
        "as MONAI has it if the bundle's Spacingd is taken over.",
    )
    crop_foreground: bool | None = Field(
        default=None, description="ct_volume: show only the box around values above 0."
    )
    channels: int | None = Field(
        default=None,
        description="radiograph, ct_volume: how often it is given, 3 for a network of colours.",
    )
    roi: int | tuple[int, int, int] | None = Field(
        default=None, description="ct_volume: side of the window that slides, in voxels."
    )
    overlap: float | None = Field(
        default=None, description="ct_volume: share by which windows overlap; 0.25 if not set."
    )
    blend: Blend | None = Field(
        default=None, description="ct_volume: weight of windows: constant or gaussian."
    )
    blend_sigma: float | Three | None = Field(
        default=None,
        description="ct_volume: standard deviation of gaussian as a share of the window's side; "
        "0.125 if not set.",
    )
    padding: Padding | None = Field(
        default=None,
        description="ct_volume: what surrounds a volume smaller than a window: constant (zeros), "
        "replicate or reflect.",
    )


class LabelThresholds(_Settings):
    """Thresholds of a label."""

    low: float = Field(ge=0, le=1, description="Below this probability the finding is absent.")
    high: float = Field(
        ge=0,
        le=1,
        description="From this probability on the finding is present, and a voxel in its mask.",
    )


class LabelSettings(_Settings):
    """One output of the network."""

    name: str = Field(
        min_length=1,
        max_length=64,
        description="Name of the finding; stored in small letters, as in SQL.",
    )
    output: int | None = Field(
        default=None,
        ge=0,
        description="Number of the output; without it that of this name in metadata.json.",
    )
    code: CodeSettings | None = Field(
        default=None, description="Code of the finding; without it the one known for its name."
    )
    site: CodeSettings | None = Field(default=None, description="Code of where it is found.")
    thresholds: LabelThresholds | None = Field(
        default=None, description="low and high; 0.5 and 0.5 if not set."
    )
    min_volume_ml: float | None = Field(
        default=None,
        ge=0,
        le=10_000,
        description="Of masks of volumes: its probability is the one that so much of it reaches; "
        "0 is the highest of all voxels.",
    )
    anatomy: bool | None = Field(
        default=None, description="A part of the body, and no abnormality; known for known codes."
    )

    @property
    def said(self) -> dict[str, Any]:
        """What is set, with its codes whole."""
        codes = {name: getattr(self, name) for name in ("code", "site")}
        stated = {name: code.said for name, code in codes.items() if code is not None}
        return {**self.model_dump(exclude_unset=True, exclude_none=True), **stated}


class PoolingSettings(_Settings):
    """How slices make a series."""

    reach_mm: float | None = Field(
        default=None, ge=0, le=100, description="ct_slices: how far neighbours count, in mm."
    )
    key_slices: int | None = Field(
        default=None, ge=1, le=20, description="How many slices at most are shown for a finding."
    )


class SectionSettings(_Settings):
    """Which bundle it is, and what it does not say or the site says instead."""

    name: str = Field(
        min_length=1,
        description="Name of the model, as its bundle states it; one without configs/preread.json, "
        "as those of MONAI's Model Zoo, goes by this name.",
    )
    path: Path | None = Field(
        default=None,
        description="Folder of its MONAI Bundle; without one, the shipped bundle of that name.",
    )
    enabled: bool = Field(default=True, description="Offer the model.")
    input: InputSettings = Field(default_factory=InputSettings)
    label: tuple[LabelSettings, ...] = Field(
        default=(), description="Outputs that are served, instead of all that the bundle names."
    )
    activation: Literal["sigmoid", "softmax"] | None = Field(
        default=None, description="What makes probabilities of the network's outputs."
    )
    primary: str | None = Field(
        default=None, description="The label that stands for the others; the first if not set."
    )
    masks: bool | tuple[str, ...] | None = Field(
        default=None,
        description="The network gives a map for each label: a segmentation. Names of labels: it "
        "gives numbers, and beside them maps of these (not of a volume).",
    )
    exclusive: bool | None = Field(
        default=None,
        description="Of masks: a pixel or voxel belongs to its most probable output alone, "
        "whatever the thresholds.",
    )
    engine: EngineName | None = Field(
        default=None,
        description="What runs it, in float32, instead of what the bundle says: auto, onnx (ONNX "
        "Runtime on the CPU), torch, openvino (on the CPU) or tensorrt (on a GPU). Not of a "
        "volume.",
    )
    explanation: ExplanationName | None = Field(
        default=None,
        description="What pictures show of where the model looked: class-activation (if not set; "
        "gradients where the network has none), gradients, occlusion, integrated-gradients or "
        "none. A label's own mask is shown in its place.",
    )
    pooling: PoolingSettings = Field(default_factory=PoolingSettings)
    ignore: tuple[str, ...] = Field(
        default=(),
        description="Transforms of the bundle that are left out knowingly, by their names.",
    )
    manufacturer: str | None = Field(
        default=None,
        max_length=64,
        description="Who made the model, for the report; what metadata.json says if not set.",
    )

    @property
    def section(self) -> dict[str, Any]:
        """What is set, by the keys of ``configs/preread.json``."""
        masks = list(self.masks) if isinstance(self.masks, tuple) else self.masks
        parts = {
            **{name: getattr(self, name) for name in _PLAIN},
            "masks": masks,
            "input": self.input.said,
            "pooling": self.pooling.said,
            "labels": [one.said for one in self.label],
        }
        return {name: part for name, part in parts.items() if part not in (None, (), {}, [])}


_PLAIN = (
    "activation",
    "primary",
    "exclusive",
    "engine",
    "explanation",
    "ignore",
    "manufacturer",
)
