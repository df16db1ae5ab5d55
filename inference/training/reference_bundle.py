"""The hemorrhage reader that ships, from backgrounds to a bundle with its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import open_bundle
from ..bundle_writing import write_bundle
from ..reading import Presence, Thresholds
from .painted_fit import StepReport
from .phantoms.backgrounds import RealSeries, read_series
from .recipes import HEMORRHAGE
from .reference_card import Measured, RealFigures, card_of
from .reference_figures import aucs, drawn_only, mask_dice, never_seen, share_above, thresholds
from .reference_hemorrhage import (
    LABELS,
    NETWORK_DEF,
    POOLING,
    SPEC,
    ReferenceSettings,
    fit_fold,
    painted_scores,
    real_scores,
    slice_scores,
    validation_pool,
)

VERSION = "0.2.0"
_FORMS = ("hu", "picture")
OnEvent = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sources:
    """Real heads, none of them with hemorrhage.

    Attributes
    ----------
    backgrounds : tuple of Path
        Folders with one CT series each, to paint on.
    negatives : tuple of Path
        Further ones that nothing learns from: they are read as a whole, and the card says how.
    """

    backgrounds: tuple[Path, ...]
    negatives: tuple[Path, ...] = ()


def make_reference(
    out: Path, work: Path, sources: Sources, settings: ReferenceSettings, on_event: OnEvent
) -> None:
    """Train, measure and write the bundle; what stands in `work` already is not done again.

    Parameters
    ----------
    out, work : Path
        Folders of the bundle, and of slices, checkpoints and weights.
    sources : Sources
    settings : ReferenceSettings
    on_event : callable
        Told in words what goes on.

    Raises
    ------
    InferenceError
        If backgrounds cannot be read or the ImageNet weights are not installed.
    """

    def fitted(number: int | None, name: str) -> Any:
        def told(report: StepReport) -> None:
            on_event(
                f"{name}: step {report.step}/{report.steps}, loss of labels "
                f"{report.label_loss:.3f}, of maps {report.map_loss:.4f}"
            )

        return fit_fold(number, work, sources.backgrounds, settings, told)

    judges = [fitted(number, f"judge {number}") for number in (0, 1)]
    final = fitted(None, "final")
    on_event("drawing what is measured on")
    pool = validation_pool(work, sources.backgrounds, settings)
    on_event("measuring")
    said = [painted_scores(final, pool, form) for form in _FORMS]
    judged = [[painted_scores(judge, pool, form) for form in _FORMS] for judge in judges]
    series = [read_series(path, str(i)) for i, path in enumerate(sources.backgrounds)]
    crossed = [real_scores(judges, one) for one in series]
    limits = thresholds(said, crossed)
    dice = mask_dice(final, pool)
    measured = Measured(
        settings=settings,
        thresholds=limits,
        drawn=aucs(said, drawn_only),
        seen=aucs(said, lambda scores: ~drawn_only(scores)),
        unseen=[aucs(of_one, never_seen(number)) for number, of_one in enumerate(judged)],
        by_form={
            form: aucs([one], lambda scores: scores.grounds != "")
            for form, one in zip(_FORMS, said, strict=True)
        },
        at_threshold=share_above(said, limits),
        dice=(float(np.median(dice)), float((dice >= 0.5).mean()), len(dice)),
        crossed=[
            _real(path.name, one.single, one.series, limits)
            for path, one in zip(sources.backgrounds, crossed, strict=True)
        ],
        negatives=[
            _whole(path.name, read_series(path, "n"), final, limits) for path in sources.negatives
        ],
    )
    _write(out, final.state_dict(), measured)


def _whole(
    name: str, series: RealSeries, network: Any, limits: Mapping[str, Thresholds]
) -> RealFigures:
    single = slice_scores(network, series.hu)
    pooled = POOLING.smooth(single, series.positions_mm).max(axis=0)
    return _real(name, single, pooled, limits)


def _real(
    name: str,
    single: NDArray[np.float64],
    series: NDArray[np.float64],
    limits: Mapping[str, Thresholds],
) -> RealFigures:
    column = LABELS.index("any")
    limit = limits["any"]
    presences = [limit.presence(float(score)) for score in single[:, column]]
    return RealFigures(
        name=name,
        slices=len(single),
        present=presences.count(Presence.PRESENT),
        undetermined=presences.count(Presence.UNDETERMINED),
        highest=float(single[:, column].max()),
        series={label: float(score) for label, score in zip(LABELS, series, strict=True)},
    )


def _write(out: Path, state_dict: Mapping[str, Any], measured: Measured) -> None:
    def write(card: str) -> None:
        write_bundle(
            out,
            name=HEMORRHAGE.name,
            version=VERSION,
            network_def=NETWORK_DEF,
            state_dict=state_dict,
            preread=_section(measured.thresholds),
            metadata=_metadata(),
            card=card,
            half=True,
        )

    # The card names the hash of the weights, so the weights come first.
    write("")
    write(card_of(measured, VERSION, open_bundle(out).identity.weights_sha256))


def _section(limits: Mapping[str, Thresholds]) -> dict[str, Any]:
    labels = [
        {
            "name": label.name,
            "code": _code(label.code),
            "site": _code(label.site),
            "thresholds": {"low": limits[label.name].low, "high": limits[label.name].high},
        }
        for label in HEMORRHAGE.labels
    ]
    assert tuple(label["name"] for label in labels) == LABELS
    return {
        "input": SPEC.to_dict(),
        "labels": labels,
        "activation": "sigmoid",
        "primary": "any",
        "pooling": POOLING.to_dict(),
        "suitability": replace(HEMORRHAGE.suitability, anatomy="head", axial=True).to_dict(),
        "masks": list(LABELS),
    }


def _code(code: Any) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def _metadata() -> dict[str, Any]:
    image = {
        "type": "image",
        "format": "hounsfield",
        "num_channels": SPEC.channels,
        "spatial_shape": [SPEC.size, SPEC.size],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {str(i): window.name for i, window in enumerate(SPEC.windows)},
    }
    prediction = {
        "type": "probabilities",
        "format": "classes",
        "num_channels": len(LABELS),
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {str(i): name for i, name in enumerate(LABELS)},
    }
    return {
        "changelog": {
            VERSION: "painted on real heads too, with maps; refuses what is no head",
            "0.1.0": "first version",
        },
        "monai_version": installed("monai"),
        "pytorch_version": installed("torch").split("+")[0],
        "numpy_version": installed("numpy"),
        "required_packages_version": {},
        "task": HEMORRHAGE.title,
        "description": f"{HEMORRHAGE.title}: a demonstration, not for clinical use.",
        "authors": "Preread",
        "copyright": "Preread contributors, Apache-2.0",
        "intended_use": "Demonstration and tests; not for clinical use.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": prediction}},
    }


def default_settings(**changes: Any) -> ReferenceSettings:
    """Return the settings of the bundle that ships, some of them changed."""
    settings = ReferenceSettings()
    painted = {k: changes.pop(k) for k in ("seed", "device", "bfloat16") if k in changes}
    return replace(settings, painted=replace(settings.painted, **painted), **changes)


__all__ = ["Sources", "default_settings", "make_reference"]
