"""Settings of this room: ``[inference]`` and ``[[model]]`` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .bundle import Bundle, open_bundle
from .bundle_settings import SectionSettings
from .criteria import Anatomy, Contrast
from .decode_settings import PoolSettings, processes_for, usable_cores
from .errors import BundleError
from .extras import installed_by
from .heartbeat import BEAT_SECONDS, LEAST_SILENCE_SECONDS
from .reading import Thresholds


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InferenceSettings(_Settings):
    """How the node analyses."""

    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Where networks run: auto (a GPU where there is one), cpu, cuda or cuda:N.",
    )
    bundles: tuple[Path, ...] = Field(
        default=(),
        description="Folders of MONAI Bundles to offer beside those that ship with Preread.",
    )
    shipped: bool = Field(
        default=True, description="Offer the bundles that ship with Preread, for demonstration."
    )
    workers: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Worker processes of this node; 0 is one for each GPU, or on CPUs one for each "
        "socket (memory node), which keeps to its cores.",
    )
    concurrency: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Routine analyses that one worker process carries out at once: one decodes "
        "while the network reads for another.",
    )
    stat_slots: int = Field(
        default=2,
        ge=1,
        le=64,
        description="STAT analyses that one worker process carries out at once, beside routine "
        "ones.",
    )
    batch_wait_ms: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="How long routine rows wait for rows of other analyses to fill a batch, "
        "milliseconds; only while such rows may come. 0 takes what is there.",
    )
    model_memory_mb: int = Field(
        default=0,
        ge=0,
        description="What all models of a worker may take, MiB of memory or of its GPU; the least "
        "recently used goes for one that is asked for. 0: no limit.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=512,
        description="Threads that a network may use on a CPU, 512 at most; 0 is one for each core.",
    )
    gpu_decoding: bool = Field(
        default=False,
        description="A GPU decodes JPEG, JPEG 2000 and HTJ2K too, with nvImageCodec "
        f"({installed_by('nvimagecodec')}); nothing on a CPU.",
    )
    batch_size: int = Field(
        default=8,
        ge=1,
        le=1024,
        description="Slices in memory, and on their way through the network, at once.",
    )
    decode_processes: Literal["auto"] | Annotated[int, Field(ge=0, le=64)] = Field(
        default="auto",
        description="Processes that decode compressed pixels for a worker; auto is half its cores, "
        "1 to 8. A decoder that crashes or hangs then costs one image; with 0 it costs the worker, "
        "and the analysis after a few attempts.",
    )
    decode_memory_mb: int = Field(
        default=256,
        ge=1,
        description="Memory in which decoded images of all analyses of a worker wait to be used; "
        "besides, each analysis may always have one.",
    )
    decode_timeout_seconds: float = Field(
        default=60.0, gt=0, description="An image that takes longer to decode is refused."
    )
    timeout_seconds: float = Field(
        default=600.0,
        gt=0,
        description="An analysis that takes longer ends its worker and is tried again elsewhere.",
    )
    memory_mb: int = Field(
        default=0,
        ge=0,
        description="A worker whose memory is above so many MiB after an analysis takes no new "
        "ones and is started anew when those under way have ended; 0: 60 % of what its control "
        "group or machine allows. Set it where several workers share a machine.",
    )
    silence_seconds: float = Field(
        default=120.0,
        description="Jobs of a worker silent for so long go to another one; of one whose process "
        f"is gone from the same host within seconds. At least {LEAST_SILENCE_SECONDS:g}: each says "
        f"every {BEAT_SECONDS:g} that it lives.",
    )
    grace_seconds: int = Field(
        default=20, ge=0, description="How long running analyses may go on after SIGTERM."
    )
    max_analyses_per_study_per_day: int = Field(
        default=50,
        ge=0,
        description="Analyses of one study in 24 hours, all models together; what is beyond is "
        "not asked for and its series says so: it stops a PACS that sends results back under "
        "ever new names. 0: no limit.",
    )
    report_not_analysed: bool = Field(
        default=True,
        description="Deliver a report that says why images were not analysed.",
    )

    @field_validator("silence_seconds")
    @classmethod
    def _hears_some_beats(cls, seconds: float) -> float:
        if not seconds >= LEAST_SILENCE_SECONDS:  # NaN, too
            raise ValueError(
                f"{seconds:g} is too short: a worker says every {BEAT_SECONDS:g} s that it lives, "
                "and one whose word comes late must not be taken for dead; set "
                f"{LEAST_SILENCE_SECONDS:g} or more"
            )
        return seconds

    @property
    def decoding(self) -> PoolSettings:
        """What the decode pool of a worker may use."""
        asked = self.decode_processes
        return PoolSettings(
            processes=processes_for(usable_cores()) if asked == "auto" else asked,
            waiting_bytes=self.decode_memory_mb << 20,
            timeout_seconds=self.decode_timeout_seconds,
        )


class ThresholdSettings(_Settings):
    """Thresholds of one label: absent below low, present from high on, undetermined between."""

    low: float = Field(ge=0, le=1, description="Below this probability the finding is absent.")
    high: float = Field(ge=0, le=1, description="From this probability on the finding is present.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, above high {self.high}")
        return self

    @property
    def thresholds(self) -> Thresholds:
        """The same as a value of this room."""
        return Thresholds(self.low, self.high)


class SuitabilitySettings(_Settings):
    """Criteria that take the place of those that the bundle states; what is not set stays."""

    modalities: tuple[str, ...] | None = Field(
        default=None, description="Accepted values of Modality (0008,0060); [] accepts all."
    )
    body_parts: tuple[str, ...] | None = Field(
        default=None,
        description="Accepted values of Body Part Examined (0018,0015); [] accepts all.",
    )
    refused_views: tuple[str, ...] | None = Field(
        default=None,
        description="Refused values of View Position (0018,5101), and words of a view's code.",
    )
    min_rows: int | None = Field(
        default=None, ge=1, description="Smallest accepted side of an image in pixels."
    )
    min_slices: int | None = Field(
        default=None, ge=1, description="CT: fewest slices of one geometry."
    )
    min_coverage_mm: float | None = Field(
        default=None, ge=0, description="CT: shortest accepted extent of the series."
    )
    max_gap: float | None = Field(
        default=None,
        ge=0,
        description="CT: largest accepted distance of two slices, as a multiple of the distances "
        "on either side; 0 accepts all.",
    )
    axial: bool | None = Field(default=None, description="CT: refuse coronal and sagittal stacks.")
    max_duplicates: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="CT: largest accepted share of slices that lie where another one lies; 1 "
        "accepts all.",
    )
    max_spacing_deviation: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="CT: share by which the distance of two slices may differ from the distances "
        "next to it; a change from one spacing to another is accepted; 0 accepts all.",
    )
    contrast: Contrast | None = Field(
        default=None, description="Which images are read: any, without or with a contrast agent."
    )
    kernels: tuple[str, ...] | None = Field(
        default=None,
        description="Accepted patterns of Convolution Kernel (0018,1210); [] accepts all.",
    )
    refused_kernels: tuple[str, ...] | None = Field(
        default=None, description="Refused patterns of Convolution Kernel (0018,1210)."
    )
    phantom_words: tuple[str, ...] | None = Field(
        default=None,
        description="Patterns of words in Patient's Name or Patient ID by which the site names "
        "its phantoms.",
    )

    anatomy: Anatomy | None = Field(
        default=None,
        description="CT: head refuses a series in which no brain inside a skull is seen.",
    )

    @property
    def changes(self) -> dict[str, object]:
        """What is set, as `Bundle.with_suitability` takes it."""
        set_here = self.model_dump(exclude_unset=True)
        return {name: value for name, value in set_here.items() if value is not None}


class ModelSettings(SectionSettings):
    """One model of this node: a bundle to add, or what to change about one that is there."""

    thresholds: dict[str, ThresholdSettings] = Field(
        default_factory=dict,
        description="Thresholds by label, instead of the bundle's: any = {low = 0.2, high = 0.6}.",
    )

    suitability: SuitabilitySettings = Field(
        default_factory=SuitabilitySettings,
        description="Criteria instead of the bundle's: "
        '{contrast = "without", refused_kernels = ["*70*"]}.',
    )

    def apply_to(self, bundle: Bundle) -> Bundle:
        """Return the bundle with the thresholds and criteria of the settings.

        Raises
        ------
        BundleError
            If it has no such label.
        """
        thresholds = {label: settings.thresholds for label, settings in self.thresholds.items()}
        return bundle.with_thresholds(thresholds).with_suitability(self.suitability.changes)

    def open(self) -> Bundle:
        """Open the bundle with the thresholds and criteria of the settings.

        Raises
        ------
        BundleError
            If it is broken, has another name, or is neither shipped nor given a path.
        """
        path = self.path or next((p for p in shipped_bundles() if p.name == self.name), None)
        if path is None:
            known = ", ".join(p.name for p in shipped_bundles()) or "none"
            raise BundleError(f"[[model]] {self.name}: no such model ships ({known}); say its path")
        if not path.is_dir():
            raise BundleError(f"[[model]] {self.name}: its path {path} is no folder")
        bundle = open_bundle(path, self.section, name=self.name)
        if bundle.name != self.name:
            raise BundleError(
                f"[[model]] {self.name}: the bundle in {path} is named {bundle.name}: "
                f'write name = "{bundle.name}"'
            )
        return self.apply_to(bundle)


def shipped_bundles() -> tuple[Path, ...]:
    """Return the folders of the bundles that ship with Preread; a folder has its model's name."""
    folder = Path(__file__).parent / "bundles"
    return tuple(sorted(path.parent.parent for path in folder.glob("*/configs/preread.json")))
