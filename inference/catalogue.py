"""Which models a node offers. Light: no torch."""

from __future__ import annotations

from collections.abc import Sequence

from .bundle import Bundle, open_bundle
from .errors import BundleError
from .settings import InferenceSettings, ModelSettings, shipped_bundles


def open_catalogue(
    settings: InferenceSettings, models: Sequence[ModelSettings] = ()
) -> dict[str, Bundle]:
    """Open every bundle that the settings offer.

    A ``[[model]]`` stands in for a shipped bundle of the same name, or for one of
    ``inference.bundles``.

    Parameters
    ----------
    settings : InferenceSettings
    models : sequence of ModelSettings

    Returns
    -------
    dict of str to Bundle
        By model name, sorted.

    Raises
    ------
    BundleError
        If a bundle is broken, two bundles share a name, or a ``[[model]]`` names none.
    """
    shipped = shipped_bundles() if settings.shipped else ()
    named = {model.name for model in models}
    # What a bundle does not say may stand under its [[model]]: it cannot be opened without.
    said = {model.name: model.section for model in models if model.path is None}
    offered: dict[str, Bundle] = {}
    for path in (*shipped, *settings.bundles):
        if not path.is_dir():
            raise BundleError(f"inference.bundles: {path} is no folder")
        bundle = open_bundle(path, said.get(path.name))
        if bundle.name in offered:
            raise BundleError(
                f"{bundle.path} and {offered[bundle.name].path} are both named {bundle.name}; "
                "to use the one instead of the other give it by its path under [[model]]"
            )
        offered[bundle.name] = bundle
    if len(named) < len(models):
        raise BundleError("two [[model]] sections have the same name")
    for model in models:
        if not model.enabled:
            offered.pop(model.name, None)
        elif model.path is None and model.name in offered:
            bundle = offered[model.name]
            if model.section:
                bundle = open_bundle(bundle.path, model.section, name=model.name)
            offered[model.name] = model.apply_to(bundle)
        else:
            offered[model.name] = model.open()
    return dict(sorted(offered.items()))
