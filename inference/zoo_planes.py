"""MONAI's transforms of a picture or slice as an input of Preread. Light: no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .zoo_loading import columns_first
from .zoo_transforms import KNOWN, Draft, Known, translated

_RADIOGRAPH = ("radiograph", ("CR", "DX"))
_MAMMOGRAM = ("radiograph", ("MG",))
# By what metadata.json calls a modality: the reader, and Modality (0008,0060) of its images.
_KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "CT": ("ct_slices", ("CT",)),
    **dict.fromkeys(("CR", "DX", "DR", "XR", "CXR", "X-RAY", "XRAY", "RADIOGRAPH"), _RADIOGRAPH),
    **dict.fromkeys(("MG", "MAMMOGRAM", "MAMMOGRAPHY"), _MAMMOGRAM),
}
# Transforms of volumes that do to one picture what no key says.
_NOT_OF_PLANES = ("Orientation", "Spacing", "CropForeground")
_SAYABLE = ("kind", "size", "windows", "channels")


def kind_of(modality: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the reader of images of a modality, and their Modality (0008,0060); None of others."""
    first = modality.replace("_", "-").split()[0] if modality.split() else ""
    return _KINDS.get(first.rstrip(",;"))


def plane_keys(
    transforms: Sequence[Mapping[str, Any]], image: str, ignored: Collection[str]
) -> dict[str, Any]:
    """Return the keys of ``[model.input]``, but for the kind, that say what transforms do.

    Parameters
    ----------
    transforms, image, ignored
        As of `input_keys` of volumes.

    Raises
    ------
    ValueError
        If a transform does what no step says, or they end in no square; the message names it.
    """
    draft = Draft()
    # An image that is not loaded by a reader of MONAI is as it is stored.
    draft.keys["transposed"] = False
    translated(draft, transforms, image, ignored, KNOWN_OF_PLANES, _SAYABLE)
    keys = draft.keys
    if "size" not in keys:
        raise ValueError(
            "preprocessing gives images of any size; say by [model.input] kind and size "
            "what the network is to be shown"
        )
    fitting = "center" if keys.get("fit") == "center" else keys.get("resize", "linear")
    steps_of_intensity = iter(keys.get("intensity", ()))
    steps = [
        {"kind": fitting} if name == "size" else next(steps_of_intensity) for name in draft.order
    ]
    return {
        "size": _square(keys["size"]),
        "plane": {"steps": steps, "transposed": keys["transposed"]},
        **{key: value for key, value in keys.items() if key == "channels"},
    }


def require_whole(roi: Any, name: str, size: int) -> None:
    """Refuse an inferer whose window is not the image.

    Raises
    ------
    ValueError
        The message names the inferer.
    """
    sides = [roi] * 2 if isinstance(roi, int) else list(roi)
    if sides != [size, size]:
        raise ValueError(
            f"inferer {name} slides a window of {sides} over images of {size} x {size}, and this "
            "node shows a picture as a whole; say by [model.input] kind and size"
        )


def _square(size: Any) -> int:
    sides = [size] * 2 if isinstance(size, int) else list(size)
    if len(sides) != 2 or sides[0] != sides[1] or not isinstance(sides[0], int):
        raise ValueError(f"preprocessing makes images of {sides}, and this node squares alone")
    return sides[0]


def _load(draft: Draft, given: dict[str, Any]) -> None:
    draft.keys["transposed"] = columns_first(given)
    given.clear()  # the reader, and what it is told of metadata


def _transpose(draft: Draft, given: dict[str, Any]) -> None:
    indices = given.pop("indices", None)
    if indices == [0, 2, 1]:
        draft.keys["transposed"] = not draft.keys["transposed"]
    elif indices != [0, 1, 2]:
        raise ValueError(f"its indices are {indices!r}, not [0, 2, 1]")


def _squeeze(draft: Draft, given: dict[str, Any]) -> None:
    """Take away the one slice that a DICOM file of one image has in MONAI."""
    if (dim := given.pop("dim", 0)) not in (-1, 3):
        raise ValueError(f"its dim is {dim!r}, not -1")
    given.pop("update_meta", None)


KNOWN_OF_PLANES: Known = {
    **{name: done for name, done in KNOWN.items() if name not in _NOT_OF_PLANES},
    "LoadImage": _load,
    "Transpose": _transpose,
    "SqueezeDim": _squeeze,
}
