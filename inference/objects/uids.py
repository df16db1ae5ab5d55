"""UIDs that follow from what they name, so that the same work done twice is the same object.

All are ``2.25.`` UIDs (PS3.5 B.2) over a name-based UUID (version 5) of an ordered list of words.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from typing import Final

from pydicom.uid import UID

from ..reading import ModelIdentity

_NAMESPACE: Final = uuid.UUID("16a1bf1d-e9cb-4b12-a0ad-2c503334ba6b")
_SEPARATOR: Final = "\x1f"  # occurs in no UID, name or digest, so lists of words cannot collide


def derive_uid(role: str, *words: str) -> UID:
    """Return the UID of `role` for an ordered list of words."""
    name = _SEPARATOR.join((role, *words))
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")


def input_digest(sop_instance_uids: Iterable[str]) -> str:
    """Return the SHA-256 over a set of SOP Instance UIDs, whatever their order."""
    return hashlib.sha256("\n".join(sorted(set(sop_instance_uids))).encode()).hexdigest()


def device_uid(model: ModelIdentity) -> UID:
    """Return the Device UID: stable per model and version, another one with other weights.

    It stands in the tree (121012, DCM), in Contributing Equipment and in Instance Creator UID;
    own results are recognised by it when a PACS sends them back.
    """
    return derive_uid("device", *_identity(model))


def tracking_uid(model: ModelIdentity, inputs: str, label: str, image: str = "") -> UID:
    """Return the Tracking Unique Identifier that SR, SEG and SC of one observation share.

    Parameters
    ----------
    inputs : str
        `input_digest` of the images read.
    label : str
        Name of the label.
    image : str
        SOP Instance UID where the observation is of one image among several.
    """
    return derive_uid("tracking", *_identity(model), inputs, label, image)


def object_uid(role: str, sop_class_uid: str, device: str, inputs: str, content: str) -> UID:
    """Return the UID of a result object (or of its series, by another role).

    Parameters
    ----------
    device : str
        `device_uid` of the model: it stands in every object, so that the UIDs of an object in
        another SOP class can be told from a stored object alone.
    inputs : str
        `input_digest` of the images read.
    content : str
        Digest of what the object says: with the inputs alone, a positive and a negative result
        would get the same UID.
    """
    return derive_uid(role, sop_class_uid, device, inputs, content)


def _identity(model: ModelIdentity) -> tuple[str, str, str]:
    return model.name, model.version, model.weights_sha256
