"""What ``preread doctor`` says of the models that the node offers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from inference.bundle import Bundle
from inference.engines.optional import missing_package
from inference.engines.unavailable import unavailable
from inference.settings import shipped_bundles

from .check import Check, Verdict

# What to use in place of a demonstration, by its name.
_RECOMMENDED = {
    "pneumothorax": "preread models add torchxrayvision:densenet121-res224-all, or preread train "
    "pneumothorax on films of your own",
    "hemorrhage": "preread train hemorrhage on scans of your own",
}
_OWN = "a model of your own under [[model]]"


def examine_model(bundle: Bundle) -> Check:
    """Return whether a model has the package that its engine needs; without it none reads."""
    known = f"{bundle.name} {bundle.version}"
    if (lacking := missing_package(bundle.engine.name)) is None:
        return Check("model", Verdict.GOOD, known)
    return Check(
        "model",
        Verdict.BAD,
        f"{unavailable(bundle, lacking)}. Until then its analyses fail",
    )


def examine_routed(bundles: Mapping[str, Bundle], routed: Collection[str]) -> Iterator[Check]:
    """Yield a warning for each model of the settings that is in no rule: it is given nothing.

    Parameters
    ----------
    bundles : mapping of str to Bundle
        The models that the node offers.
    routed : collection of str
        Names of the models to which rules in force give images.
    """
    shipped = set(shipped_bundles())
    for bundle in bundles.values():
        if bundle.path not in shipped and bundle.name not in routed:
            yield Check(
                "model",
                Verdict.WARNING,
                f"{bundle.name} reads nothing, for no rule names it: add a [[rule]] with model = "
                f'"{bundle.name}" and when',
            )


def examine_demonstrations(bundles: Mapping[str, Bundle]) -> Iterator[Check]:
    """Yield a warning for each shipped model that is offered: it is no reader of patients.

    Nothing is said of one that a ``[[model]]`` replaces or switches off, and with
    ``inference.shipped = false``.
    """
    shipped = set(shipped_bundles())
    for bundle in bundles.values():
        if bundle.path in shipped:
            yield Check(
                "demonstration",
                Verdict.WARNING,
                f"{bundle.name} is a demonstration and finds nothing in patients that can be "
                f"relied on (preread models card {bundle.name}); recommended: "
                f"{_RECOMMENDED.get(bundle.name, _OWN)}",
            )
