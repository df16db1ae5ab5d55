"""MONAI's transforms as the keys of ``[model.input]`` that say the same. Light: no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# What changes no value, or is done to every image anyway.
_NOTHING = {
    "LoadImage", "EnsureChannelFirst", "AsChannelFirst", "AddChannel", "EnsureType", "ToTensor",
    "CastToType", "Identity", "DataStats",
}  # fmt: skip
# Arguments that say where a transform works and in which type, not what it does.
_ANYWHERE = {
    "_target_", "_desc_", "_disabled_", "_requires_", "keys", "allow_missing_keys", "dtype", "lazy",
    "meta_keys", "meta_key_postfix", "source_key", "start_coord_key", "end_coord_key",
    "recompute_affine", "device", "track_meta", "data_type",
}  # fmt: skip
# Arguments that may have a value for each key.
_FOR_EACH_KEY = ("mode", "padding_mode", "align_corners", "anti_aliasing")
# Letters of the axes that MONAI has unless others are given.
_ORIENTED = [["L", "R"], ["P", "A"], ["I", "S"]]


@dataclass(slots=True)
class Draft:
    """Keys of ``[model.input]`` as they are found.

    Attributes
    ----------
    order : list of str
        What was met: ``spacing``, ``intensity``, ``size``, ``crop_foreground``.
    """

    keys: dict[str, Any] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def step(self, kind: str, **values: Any) -> None:
        """Add a step of intensity."""
        self.keys.setdefault("intensity", []).append({"kind": kind, **values})
        self.order.append("intensity")

    def once(self, name: str) -> None:
        """Note a stage that there is once at most."""
        if name in self.order:
            raise ValueError(f"{name} is set by two transforms")
        self.order.append(name)


Known = Mapping[str, Callable[[Draft, dict[str, Any]], None]]


def input_keys(
    transforms: Sequence[Mapping[str, Any]], image: str, ignored: Collection[str]
) -> dict[str, Any]:
    """Return the keys of ``[model.input]`` that say what transforms do to an image.

    Parameters
    ----------
    transforms : sequence of mapping
        Definitions as plain values, each with ``_target_``.
    image : str
        Key of the image among what they work on.
    ignored : collection of str
        Names of transforms that are left out on purpose.

    Raises
    ------
    ValueError
        If a transform does what no key says; the message names it and the keys.
    """
    draft = Draft()
    translated(draft, transforms, image, ignored, KNOWN, _SAYABLE)
    if "orientation" not in draft.keys and not {"Orientation", "Orientationd"} & set(ignored):
        # To MONAI the axes are then those of each file: of a DICOM series and of the NIfTI that a
        # network learned from they seldom grow to the same sides.
        raise ValueError(
            "preprocessing has no Orientationd, so nobody knows to which sides its axes grow; "
            f"say by [model.input] what the network expects ({', '.join(_SAYABLE)}), or "
            'leave it out knowingly with ignore = ["Orientationd"]: RAS is taken then'
        )
    return {**draft.keys, **_place(draft.order)}


def translated(
    draft: Draft,
    transforms: Sequence[Mapping[str, Any]],
    image: str,
    ignored: Collection[str],
    known: Known,
    sayable: Sequence[str],
) -> None:
    """Put what transforms do to an image into a draft, one after the other.

    Parameters
    ----------
    draft : Draft
        Changed.
    transforms, image, ignored
        As of `input_keys`.
    known : mapping of str to callable
        What is done for a transform, by its name; it takes the arguments that it understands out
        of those that it is given.
    sayable : sequence of str
        Keys of ``[model.input]`` that a message names.

    Raises
    ------
    ValueError
        As of `input_keys`.
    """
    for one in transforms:
        name = transform_name(one)
        keys = one.get("keys", image)
        mine = image in ([keys] if isinstance(keys, str) else keys)
        done_anyway = name in _NOTHING and name not in known
        if is_disabled(one) or not mine or done_anyway or _is(name, one, ignored):
            continue
        if name not in known:
            raise ValueError(
                f"preprocessing {_written(one)} is none that this node knows; say by "
                f"[model.input] what the network expects ({', '.join(sayable)}), or leave it out "
                f'knowingly with ignore = ["{_written(one)}"]'
            )
        arguments = {key: value for key, value in one.items() if key not in _ANYWHERE}
        if isinstance(keys, list):
            arguments |= _own(arguments, keys, image)
        try:
            if name == "CropForeground" and (source := one.get("source_key", image)) != image:
                raise ValueError(f"its source_key is {source!r}, not {image!r}")
            known[name](draft, arguments)
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(
                f"preprocessing {_written(one)} cannot be taken over: {error}; say by "
                f"[model.input] what the network expects ({', '.join(sayable)})"
            ) from None
        if arguments:
            raise ValueError(
                f"preprocessing {_written(one)} has {', '.join(sorted(arguments))}, which no key "
                f"of [model.input] says; give kind and all other keys there"
            )


def _own(arguments: Mapping[str, Any], keys: Sequence[str], image: str) -> dict[str, Any]:
    """Return the arguments that have a value for each key, with that of the image alone."""
    return {
        name: arguments[name][keys.index(image)]
        for name in _FOR_EACH_KEY
        if isinstance(arguments.get(name), list) and len(arguments[name]) == len(keys)
    }


def transform_name(definition: Mapping[str, Any]) -> str:
    """Return the name of a transform without its module and the ending for dictionaries."""
    name = _written(definition)
    for ending in ("Dict", "d", "D"):
        if name.endswith(ending) and len(name) > len(ending) + 2:
            return name[: -len(ending)]
    return name


def is_disabled(definition: Mapping[str, Any]) -> bool:
    """Tell whether MONAI leaves a transform out; it takes texts by what they say."""
    said = definition.get("_disabled_", False)
    return said.strip().lower() == "true" if isinstance(said, str) else bool(said)


def changes_nothing(definition: Mapping[str, Any]) -> bool:
    """Tell whether a transform only brings an image into a form that it has here anyway."""
    return transform_name(definition) in _NOTHING


def _written(definition: Mapping[str, Any]) -> str:
    return str(definition.get("_target_", "")).rpartition(".")[2]


def _is(name: str, definition: Mapping[str, Any], ignored: Collection[str]) -> bool:
    return name in ignored or _written(definition) in ignored


def _place(order: Sequence[str]) -> dict[str, str]:
    """Return when intensity is scaled, as ``intensity_at`` says it."""
    shortened = [
        name for n, name in enumerate(order) if n == 0 or (name, order[n - 1]) != ("intensity",) * 2
    ]
    stages = [name for name in shortened if name != "crop_foreground"]
    if "crop_foreground" in shortened and shortened[-1] != "crop_foreground":
        raise ValueError("preprocessing crops the foreground before its other steps, not after")
    known = {
        ("intensity",): "spaced",
        ("spacing", "intensity"): "spaced",
        ("intensity", "size"): "spaced",
        ("spacing", "intensity", "size"): "spaced",
        ("intensity", "spacing"): "first",
        ("intensity", "spacing", "size"): "first",
        ("size", "intensity"): "last",
        ("spacing", "size", "intensity"): "last",
    }
    if "intensity" not in stages:
        return {}
    if tuple(stages) not in known:
        raise ValueError(
            f"preprocessing goes {', '.join(stages)}; say by [model.input] in which order it is to "
            "be done (spacing, intensity, size and intensity_at)"
        )
    place = known[tuple(stages)]
    return {} if place == "spaced" else {"intensity_at": place}


def _orientation(draft: Draft, given: dict[str, Any]) -> None:
    labels = given.pop("labels", None)
    if labels is not None and [list(pair) for pair in labels] != _ORIENTED:
        raise ValueError(f"its labels are {labels!r}, not those of the axes: L R, P A, I S")
    draft.keys["orientation"] = given.pop("axcodes")
    # Sides that were said before it are of the axes as they were then.
    for name in ("spacing", "size"):
        said = draft.keys.get(name, 0)
        if isinstance(said, list) and len(set(said)) > 1:
            raise ValueError(f"it comes after {name} {said}, which is of other axes")


def _spacing(draft: Draft, given: dict[str, Any]) -> None:
    draft.once("spacing")
    _require(given, "mode", "bilinear", 1)
    _require(given, "diagonal", False)
    _require(given, "scale_extent", False)
    for name in ("padding_mode", "align_corners", "ensure_same_shape"):
        given.pop(name, None)
    draft.keys["spacing"] = given.pop("pixdim")
    # A network sees at work what it saw in training, and Spacingd smooths nothing.
    draft.keys["antialias"] = False


def _range(draft: Draft, given: dict[str, Any]) -> None:
    target = _target(given, "b_min", "b_max")
    source = [given.pop("a_min"), given.pop("a_max")]
    draft.step("range", source=source, target=target, clip=given.pop("clip", False))


def _percentiles(draft: Draft, given: dict[str, Any]) -> None:
    target = _target(given, "b_min", "b_max")
    source = [given.pop("lower"), given.pop("upper")]
    _require(given, "relative", False)
    given.pop("channel_wise", None)  # there is one channel
    draft.step("percentiles", source=source, target=target, clip=given.pop("clip", False))


def _minmax(draft: Draft, given: dict[str, Any]) -> None:
    _require(given, "factor", None)
    given.pop("channel_wise", None)
    draft.step("minmax", target=_target(given, "minv", "maxv"))


def _standardize(draft: Draft, given: dict[str, Any]) -> None:
    given.pop("channel_wise", None)
    values = [_only(given.pop(name, None)) for name in ("subtrahend", "divisor")]
    named = zip(("mean", "deviation"), values, strict=True)
    stated = {name: value for name, value in named if value is not None}
    draft.step("standardize", nonzero=bool(given.pop("nonzero", False)), **stated)


def _crop(draft: Draft, given: dict[str, Any]) -> None:
    draft.once("crop_foreground")
    _require(given, "margin", 0)
    _require(given, "k_divisible", 1)
    _require(given, "allow_smaller", True, False)
    draft.keys["crop_foreground"] = True


def _resize(draft: Draft, given: dict[str, Any]) -> None:
    draft.once("size")
    mode = _only(given.pop("mode", "area"))
    if mode not in ("area", "trilinear", "bilinear"):
        raise ValueError(f"its mode is {mode!r}, not 'area' or 'trilinear'")
    if mode == "area":
        draft.keys["resize"] = "area"
    _require(given, "anti_aliasing", False)
    _require(given, "size_mode", "all")
    _require(given, "align_corners", None, False)
    draft.keys["size"] = given.pop("spatial_size")


def _pad_or_crop(draft: Draft, given: dict[str, Any]) -> None:
    draft.once("size")
    _require(given, "mode", "constant")
    _require(given, "method", "symmetric")
    draft.keys |= {"size": given.pop("spatial_size"), "fit": "center"}


def _repeat(draft: Draft, given: dict[str, Any]) -> None:
    draft.keys["channels"] = given.pop("repeats")


def _target(given: dict[str, Any], low: str, high: str) -> list[Any]:
    if low in given and high not in given:
        raise ValueError(f"it has {low} and no {high}")
    return [given.pop(low, 0.0), given.pop(high, 1.0)]


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _require(given: dict[str, Any], name: str, *accepted: Any) -> None:
    """Refuse an argument, or the first of several, that is not one of those accepted."""
    if name not in given:
        return
    value = given.pop(name)
    first = value[0] if isinstance(value, list) and value else value
    if first not in accepted:
        raise ValueError(f"its {name} is {value!r}, not {accepted[0]!r}")


KNOWN: Known = {
    "Orientation": _orientation,
    "Spacing": _spacing,
    "ScaleIntensityRange": _range,
    "ScaleIntensityRangePercentiles": _percentiles,
    "ScaleIntensity": _minmax,
    "NormalizeIntensity": _standardize,
    "CropForeground": _crop,
    "Resize": _resize,
    "ResizeWithPadOrCrop": _pad_or_crop,
    "RepeatChannel": _repeat,
}
_SAYABLE = ("kind", "orientation", "spacing", "intensity", "size", "crop_foreground", "roi")
