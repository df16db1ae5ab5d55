"""By which Device UIDs results of this node are known when a PACS sends them back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import sqlalchemy as sa

from db.loop_guard import models_asked
from inference.bundle import Bundle
from inference.objects.uids import device_uid
from inference.reading import ModelIdentity


def own_devices(bundles: Mapping[str, Bundle]) -> Callable[[sa.Connection], frozenset[str]]:
    """Return what gives the Device UIDs of all models that this node has, and ever had.

    Those of the database are read once: a model that is new since came with a restart.
    """
    installed = device_uids(bundle.identity for bundle in bundles.values())
    known: list[frozenset[str]] = []

    def given(connection: sa.Connection) -> frozenset[str]:
        if not known:
            earlier = (ModelIdentity(*model) for model in models_asked(connection))
            known.append(installed | device_uids(earlier))
        return known[0]

    return given


def device_uids(models: Iterable[ModelIdentity]) -> frozenset[str]:
    """Return the Device UIDs of models."""
    return frozenset(str(device_uid(model)) for model in models)
