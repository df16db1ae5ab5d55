"""A bundle in the layout of MONAI's Model Zoo: what its configuration says, as a Preread section.

``configs/metadata.json`` names its inputs and outputs, ``configs/inference.json`` (or ``.yaml``)
its network, its preprocessing, its inferer and its postprocessing. What these say is translated
into the keys of ``configs/preread.json``; what the settings say comes before. Light: no torch.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .known_labels import is_anatomy, known_code, label_name
from .reading import Code
from .zoo_config import Configuration
from .zoo_formats import Formats
from .zoo_loading import told_loading
from .zoo_planes import kind_of, plane_keys, require_whole
from .zoo_postprocessing import activation_of, require_nothing_else, takes_highest
from .zoo_transforms import changes_nothing, input_keys, is_disabled, transform_name

# A network answers which it is; a threshold between has to be chosen by whoever serves it.
_THRESHOLDS = {"low": 0.5, "high": 0.5}
# A distance of slices this many times those beside it: slices are missing, no volume is true.
_MAX_GAP = 1.9
# Our names for what an inferer says of its windows.
_INFERER = {
    "roi": "roi_size",
    "overlap": "overlap",
    "blend": "mode",
    "blend_sigma": "sigma_scale",
    "padding": "padding_mode",
}
# Keys of a section that are the section's alone, none of `configs/preread.json`.
_OWN = ("ignore", "manufacturer")


def network_def(config: Configuration) -> Mapping[str, Any]:
    """Return the definition of the network as plain values, its classes by their full names.

    Raises
    ------
    ValueError
        If there is none, or it cannot be told without running code.
    """
    definition = config.get("network_def")
    if not isinstance(definition, Mapping) or "_target_" not in definition:
        raise ValueError("network_def with a _target_ is missing")
    named = _named(definition)
    assert isinstance(named, dict), "of a mapping"
    return named


def preread_section(
    config: Configuration, metadata: Mapping[str, Any], said: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what ``configs/preread.json`` of the bundle would say.

    Parameters
    ----------
    config : Configuration
        Of inference.
    metadata : mapping
        Of ``configs/metadata.json``.
    said : mapping
        What the settings say, by the same keys, and ``ignore``: names of transforms that are left
        out on purpose.

    Raises
    ------
    ValueError
        If something is neither said nor can be told; the message names it and the key to say it.
    """
    ignored = tuple(said.get("ignore", ()))
    stated = {key: value for key, value in said.items() if key not in _OWN}
    formats = Formats.of(metadata)
    after = _transforms(config, "postprocessing")
    require_nothing_else(after, ignored)
    section: dict[str, Any] = {}
    given = stated.get("input", {})
    section["input"] = given if "kind" in given else {**_input(config, formats, ignored), **given}
    is_volume = section["input"].get("kind") == "ct_volume"
    section["masks"] = stated.get("masks", formats.has_masks)
    if is_volume and "kind" in given and section["masks"]:
        section["input"] = {**_windows(config, ignored), **given}
    if (activation := activation_of(after)) is not None:
        section["activation"] = activation
    if takes_highest(after) and section["masks"] is True:
        section["exclusive"] = True
    if "plane" in section["input"] and (reads := kind_of(formats.modality)) is not None:
        section["suitability"] = {"modalities": list(reads[1])}
    if is_volume:
        section["suitability"] = {"modalities": ["CT"], "min_slices": 2, "max_gap": _MAX_GAP}
    section["labels"] = labels(stated.get("labels", ()), formats.channels)
    rest = {key: value for key, value in stated.items() if key not in ("input", "labels")}
    return {**section, **rest}


def manufacturer(metadata: Mapping[str, Any]) -> str:
    """Return who made a model, as far as a report can write it: printable ASCII, 64 characters."""
    told = metadata.get("manufacturer") or metadata.get("authors") or "unknown"
    plain = unicodedata.normalize("NFKD", str(told)).encode("ascii", "ignore").decode()
    return " ".join(plain.replace("\\", "/").split())[:64].strip() or "unknown"


def _input(config: Configuration, formats: Formats, ignored: Collection[str]) -> dict[str, Any]:
    """Return the keys of ``[model.input]`` of a volume, of a slice or of a radiograph."""
    dimensions = formats.dimensions or (config.get("network_def") or {}).get("spatial_dims", 0)
    reads = kind_of(formats.modality)
    if dimensions == 2 and reads is not None:
        return {"kind": reads[0], **_plane(config, formats, ignored)}
    if dimensions != 3 or not formats.modality.startswith("CT"):
        what = f"{dimensions}-D" if dimensions else "of unknown dimensions"
        raise ValueError(
            f"the network is {what} and reads {formats.modality or 'no named modality'}: say by "
            '[model.input] kind = "radiograph" or "ct_slices", with size and, of CT, windows, or '
            'kind = "ct_volume" what it is to be shown'
        )
    transforms = _transforms(config, "preprocessing")
    return {
        "kind": "ct_volume",
        **input_keys(transforms, formats.image, ignored),
        **_windows(config, ignored),
    }


def _plane(config: Configuration, formats: Formats, ignored: Collection[str]) -> dict[str, Any]:
    """Return the keys of a network that sees one picture or slice."""
    transforms = _transforms(config, "preprocessing")
    keys = plane_keys(transforms, formats.image, ignored)
    if "channels" not in keys:
        keys["channels"] = formats.copies
    windows = _windows(config, ignored)
    if "roi" in windows:
        require_whole(windows["roi"], "SlidingWindowInferer", keys["size"])
    return keys


def _windows(config: Configuration, ignored: Collection[str]) -> dict[str, Any]:
    """Return what the inferer says of windows that slide."""
    inferer = config.content.get("inferer")
    if not isinstance(inferer, Mapping):
        return {}
    name = str(config.plain(inferer.get("_target_", ""), "inferer#_target_")).rpartition(".")[2]
    if name == "SimpleInferer":
        return {}
    if name not in ("SlidingWindowInferer", "SlidingWindowInfererAdapt"):
        raise ValueError(
            f"inferer {name} is none that this node knows (SlidingWindowInferer, SimpleInferer); "
            "say kind and roi by [model.input]"
        )
    beyond = config.plain(inferer.get("cval", 0), "inferer#cval")
    if beyond != 0 and "cval" not in ignored:
        raise ValueError(
            f"inferer {name} fills what is beyond the image with its cval {beyond!r}, this node "
            'with 0; leave it out knowingly with ignore = ["cval"] under its [[model]]'
        )
    if config.plain(inferer.get("with_coord", False), "inferer#with_coord"):
        raise ValueError(f"inferer {name} shows its network coordinates, which this node does not")
    # Its device, such as $torch.device('cuda:0'), is this node's own.
    return {
        ours: config.plain(inferer[theirs], f"inferer#{theirs}")
        for ours, theirs in _INFERER.items()
        if theirs in inferer
    }


def _transforms(config: Configuration, name: str) -> list[Mapping[str, Any]]:
    """Return the transforms of a stage as plain values; those that cannot be told as they are.

    Postprocessing names files to write by expressions: of it only what is used here is told.
    """
    holder = config.content.get(name)
    if isinstance(holder, str):
        holder = config.get(name)
    listed = holder.get("transforms", ()) if isinstance(holder, Mapping) else holder or ()
    if isinstance(listed, str):
        listed = config.plain(listed, f"{name}#transforms")
    found: list[Mapping[str, Any]] = []
    for number, one in enumerate(listed):
        where = f"{name}#transforms#{number}"
        if not isinstance(one, Mapping):
            found.append(config.plain(one, where))
            continue
        named = _told_of(config, one, where, "_target_", "_disabled_")
        if is_disabled(named):
            continue
        if name == "preprocessing":
            found.append(_told(config, {**one, **named}, where))
            continue
        if transform_name(named) in ("Activations", "AsDiscrete"):
            named |= _told_of(config, one, where, "softmax", "sigmoid", "argmax", "threshold")
        found.append({**one, **named})
    return [one for one in found if not is_disabled(one)]


def _told_of(
    config: Configuration, one: Mapping[str, Any], where: str, *keys: str
) -> dict[str, Any]:
    return {key: config.plain(one[key], f"{where}#{key}") for key in keys if key in one}


def _told(config: Configuration, one: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    if transform_name(one) == "LoadImage":
        return told_loading(config, one, where)
    if changes_nothing(one):
        kept = {key: value for key, value in one.items() if key in ("_target_", "keys")}
    else:
        # A type such as $torch.float32 says nothing here: all is done in single precision.
        kept = {key: value for key, value in one.items() if key not in ("dtype", "device")}
    told: Mapping[str, Any] = config.plain(kept, where)
    return told


def labels(said: Sequence[Mapping[str, Any]], channels: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return each label with its output, its code and its thresholds.

    Parameters
    ----------
    said : sequence of mapping
        Labels of the settings; without any it is all outputs.
    channels : mapping of int to str
        Name of each output that means something.

    Raises
    ------
    ValueError
        If there are none, or a label has no code that is given or known.
    """
    if not said and not channels:
        raise ValueError(
            "neither network_data_format of metadata.json nor [[model.label]] names an output"
        )
    wanted = said or [{"name": name, "output": n} for n, name in channels.items()]
    return [_label(position, one, channels) for position, one in enumerate(wanted)]


def _label(position: int, said: Mapping[str, Any], channels: Mapping[int, str]) -> dict[str, Any]:
    name = label_name(str(said["name"]))
    output = said.get("output")
    if output is None:
        named = [n for n, channel in channels.items() if label_name(channel) == name]
        output = named[0] if named else position
    code = said.get("code")
    if code is None:
        known = known_code(name)
        if known is None:
            raise ValueError(
                f"label {name} (output {output}) has no code that this node knows: give it by "
                f'[[model.label]] name = "{name}", output = {output}, code = {{value = "...", '
                'scheme = "SCT", meaning = "..."}'
            )
        code = {"value": known.value, "scheme": known.scheme, "meaning": known.meaning}
    made = {"thresholds": _THRESHOLDS, **said, "name": name, "output": output, "code": code}
    if "anatomy" not in made:
        parts = (str(code[key]) for key in ("value", "scheme", "meaning"))
        if is_anatomy(Code(*parts)):
            made["anatomy"] = True
    return made


def _named(node: Any) -> Any:
    """Give classes their full names, and keep weights from being fetched from elsewhere."""
    if isinstance(node, list):
        return [_named(one) for one in node]
    if not isinstance(node, Mapping):
        return node
    made = {key: _named(value) for key, value in node.items() if key != "_desc_"}
    target = made.get("_target_")
    if isinstance(target, str) and "." not in target:
        made["_target_"] = f"monai.networks.nets.{target}"
    if made.get("pretrained"):
        made["pretrained"] = False
    return made
