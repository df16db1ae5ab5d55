"""What of a configuration can change a result, as one number. Light: no torch."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from .bundle_section import SCHEMA

if TYPE_CHECKING:
    from .bundle import Bundle


def configuration_digest(bundle: Bundle) -> str:
    """Return the SHA-256 of everything in a bundle's configuration that can change a result."""
    facts = {
        "schema": SCHEMA,
        "input": bundle.spec.to_dict(),
        "outputs": [
            [o.index, o.label.name, o.label.thresholds.low, o.label.thresholds.high]
            + [[c.value, c.scheme, c.meaning] if c else None for c in (o.label.code, o.label.site)]
            for o in bundle.outputs
        ],
        "activation": bundle.activation,
        "primary": bundle.primary,
        "pooling": bundle.pooling.to_dict(),
        "suitability": bundle.suitability.to_dict(),
        "network_def": bundle.network_def,
    }
    # Left out where there are none: what was done under the configuration of before stays done.
    if bundle.masks or bundle.mapped:
        facts["masks"] = bundle.masks or list(bundle.mapped)
    if bundle.calibration is not None:
        facts["calibration"] = bundle.calibration.to_dict()
    if bundle.sequence:
        facts["sequence"] = bundle.sequence.facts()
    if bundle.exclusive:
        facts["exclusive"] = True
    # The engine alone changes nothing that is seen: all must give what torch gives.
    if bundle.engine.precision != "float32":
        facts["precision"] = bundle.engine.precision
    extras = {
        o.label.name: [o.min_volume_ml, o.label.anatomy]
        for o in bundle.outputs
        if o.min_volume_ml or o.label.anatomy
    }
    if extras:
        facts["labels"] = extras
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
