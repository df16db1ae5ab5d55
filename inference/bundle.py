"""A reader on disk: a MONAI Bundle with a Preread section.

Layout (https://docs.monai.io/en/stable/mb_specification.html)::

    configs/metadata.json     name, version, and what MONAI's specification asks for
    configs/inference.json    ``network_def``: class and arguments of the network
    configs/preread.json      what it reads, what its outputs mean, thresholds, series pooling
    models/model.safetensors  weights (or ``model.pt``, loaded with ``weights_only=True``)
    docs/README.md            the model card

With ``"masks": true`` in ``preread.json`` the network gives each label a map of logits (h, w) over
its input, in place of one logit. A label's probability in an image is then the highest of its map
over the picture, and where the map reaches the label's upper threshold is its mask. With a list of
labels, ``"masks": ["any", "subdural"]``, it gives both: logits, and as a second output a map for
each label of the list in that order; a place belongs to a mask from a probability of 0.5 on.

With a ``sequence`` section (`sequence_spec`) a head in ``models/sequence.safetensors`` says what
the slices of a series mean together; pooling then only chooses the slices that show it.
With ``"engine": "torch"``, or ``onnx``, it is run with that engine alone (`engine_spec`).
A bundle without ``preread.json``, as those of MONAI's Model Zoo, is read by `zoo`; what it does not
say comes from the settings.

Light: no torch, so that the process that receives images can name the models it routes to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from safetensors.numpy import save_file

from .bundle_files import WEIGHTS_FILES, Stated, find_weights, stated
from .bundle_swap import made_anew
from .calibration import Calibration
from .criteria import Criteria
from .engine_spec import EngineSpec
from .errors import BundleError
from .input_spec import InputSpec
from .outputs import Output, parse_outputs
from .pooling import SeriesPooling
from .reading import Label, ModelIdentity, Thresholds
from .sequence_spec import SEQUENCE_WEIGHTS, SequenceSpec

Activation = Literal["sigmoid", "softmax"]

SCHEMA = 1
_KEYS = {
    "schema", "input", "labels", "activation", "primary", "pooling", "suitability", "masks",
    "calibration", "sequence", "exclusive", "engine",
}  # fmt: skip
_CONFIGS = ("configs/metadata.json", "configs/inference.json", "configs/preread.json")
_CARD = "docs/README.md"
METADATA_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle; the weights are on disk still.

    Attributes
    ----------
    activation : {"sigmoid", "softmax"}
        What turns the network's outputs into probabilities.
    primary : str
        Name of the label that stands for the others: findings of each slice name it alone.
    network_def : mapping
        MONAI configuration of the network, with ``_target_``.
    configuration_digest : str
        SHA-256 of everything in the configuration that can change a result.
    masks : bool
        Whether the network gives a map for each label in place of a number.
    mapped : tuple of str
        Labels for which it gives a map beside the numbers, in the order of the maps.
    calibration : Calibration or None
        What is done to the probabilities before anyone sees them; maps beside them stay.
    sequence : SequenceSpec or None
        A head over the slices of a series.
    exclusive : bool
        Whether a voxel of its maps belongs to its most probable channel alone.
    engine : EngineSpec
        What it is to be run with.
    """

    path: Path
    name: str
    version: str
    identity: ModelIdentity
    spec: InputSpec
    outputs: tuple[Output, ...]
    suitability: Criteria
    pooling: SeriesPooling
    activation: Activation
    primary: str
    network_def: Mapping[str, Any] = field(repr=False)
    configuration_digest: str
    masks: bool = False
    mapped: tuple[str, ...] = ()
    calibration: Calibration | None = None
    sequence: SequenceSpec | None = None
    exclusive: bool = False
    engine: EngineSpec = field(default_factory=EngineSpec)

    @property
    def labels(self) -> tuple[Label, ...]:
        """What the outputs mean, in the order of the Preread section."""
        return tuple(output.label for output in self.outputs)

    @property
    def weights_path(self) -> Path:
        """The weights file."""
        return find_weights(self.path)

    @property
    def card(self) -> str:
        """The model card, Markdown; empty if there is none."""
        path = self.path / "docs" / "README.md"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def with_thresholds(self, thresholds: Mapping[str, Thresholds]) -> Bundle:
        """Return the bundle with other thresholds for some labels, by name.

        Raises
        ------
        BundleError
            If a name is not a label of this bundle.
        """
        unknown = thresholds.keys() - {label.name for label in self.labels}
        if unknown:
            known = ", ".join(label.name for label in self.labels)
            raise BundleError(
                f"model {self.name} has no label {', '.join(sorted(unknown))}; its labels: {known}"
            )
        outputs = tuple(
            replace(
                output,
                label=replace(
                    output.label,
                    thresholds=thresholds.get(output.label.name, output.label.thresholds),
                ),
            )
            for output in self.outputs
        )
        changed = replace(self, outputs=outputs)
        return replace(changed, configuration_digest=_configuration_digest(changed))

    def with_suitability(self, changes: Mapping[str, object]) -> Bundle:
        """Return the bundle with some of its criteria changed, by name.

        Raises
        ------
        BundleError
            If a criterion is unknown or its value impossible.
        """
        try:
            criteria = Criteria.from_dict({**self.suitability.to_dict(), **changes})
        except ValueError as error:
            raise BundleError(f"model {self.name}: {error}") from error
        changed = replace(self, suitability=criteria)
        return replace(changed, configuration_digest=_configuration_digest(changed))


def open_bundle(
    path: Path, said: Mapping[str, Any] | None = None, *, name: str | None = None
) -> Bundle:
    """Read the configuration of a bundle and hash its weights.

    Parameters
    ----------
    path : Path
        Folder of the bundle.
    said : mapping, optional
        What the settings say, by the keys of ``configs/preread.json``; comes before what the
        bundle says.
    name : str, optional
        Name of a bundle without ``configs/preread.json``; that of its folder otherwise.

    Returns
    -------
    Bundle
        Complete and consistent.

    Raises
    ------
    BundleError
        If a file is missing or says something impossible; the message names it.
    """
    where, told = stated(path, said or {}, name)
    try:
        bundle = _bundle(path, told)
        # Values of YAML that JSON has not, such as dates, end here.
        bundle = replace(bundle, configuration_digest=_configuration_digest(bundle))
    except KeyError as error:
        raise BundleError(f"{where}: {error.args[0]} is missing") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{where}: {error}") from error
    if bundle.engine != EngineSpec() and bundle.spec.volume is not None:
        raise BundleError(
            f"{where}: a reader of volumes runs on torch in float32 and has no engine"
        )
    if bundle.mapped and bundle.spec.volume is not None:
        raise BundleError(f"{where}: masks of a volume are true or false, not a list of labels")
    return bundle


def write_bundle(
    path: Path,
    *,
    name: str,
    version: str,
    network_def: Mapping[str, Any],
    state_dict: Mapping[str, Any],
    preread: Mapping[str, Any],
    metadata: Mapping[str, Any],
    card: str,
    half: bool = False,
    sequence: Mapping[str, Any] | None = None,
) -> None:
    """Write a bundle that `open_bundle` accepts; files that stand there are replaced, all at once.

    It is written beside `path` and takes its place when it is whole: what is served is never half
    of one bundle and half of another. After an error the bundle of before stands there unchanged.

    Parameters
    ----------
    path : Path
        Folder of the bundle; made if need be.
    name, version : str
        Of the model; they go into ``metadata.json``.
    network_def : mapping
        MONAI configuration with ``_target_``, e.g. ``{"_target_":
        "monai.networks.nets.EfficientNetBN", "model_name": "efficientnet-b0", ...}``.
    state_dict : mapping of str to Tensor
        Weights on any device.
    preread : mapping
        The Preread section: ``input``, ``labels`` and, with defaults, ``activation``, ``primary``,
        ``pooling``, ``suitability``, ``masks``, ``calibration``, ``sequence``, ``engine``.
    metadata : mapping
        Further fields of ``metadata.json``.
    card : str
        The model card, Markdown.
    half : bool
        Store floating-point weights in half precision, which halves the file; they are computed
        with in single precision.
    sequence : mapping of str to Tensor, optional
        Weights of the head that the section ``sequence`` speaks of; always in single precision.

    Raises
    ------
    BundleError
        If what was written is not a bundle that can be opened.
    """
    weights_file = f"models/{WEIGHTS_FILES[0]}"
    written = (*_CONFIGS, _CARD, weights_file, SEQUENCE_WEIGHTS)
    stated = {"schema": METADATA_SCHEMA, **metadata, "name": name, "version": version}
    configs = (stated, {"network_def": dict(network_def)}, {"schema": SCHEMA, **preread})
    with made_anew(path, written) as new:
        for folder in ("configs", "models", "docs"):
            (new / folder).mkdir(exist_ok=True)
        for file, content in zip(_CONFIGS, configs, strict=True):
            _write_json(new / file, content)
        (new / _CARD).write_text(card, encoding="utf-8")
        weights = {key: _array(tensor, half) for key, tensor in state_dict.items()}
        save_file(weights, new / weights_file)
        if sequence is not None:
            head = {key: _array(tensor, half=False) for key, tensor in sequence.items()}
            save_file(head, new / SEQUENCE_WEIGHTS)
        try:
            open_bundle(new)
        except BundleError as error:
            raise BundleError(str(error).replace(str(new), str(path))) from error


def _bundle(path: Path, told: Stated) -> Bundle:
    metadata, preread = told.metadata, told.preread
    if preread.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"schema {preread['schema']} is not known; this version reads {SCHEMA}")
    unknown = preread.keys() - _KEYS
    if unknown:
        raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
    outputs = parse_outputs(preread["labels"])
    name, version = str(metadata["name"]), str(metadata["version"])
    with find_weights(path).open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    manufacturer = str(metadata.get("manufacturer", "Preread"))
    return Bundle(
        path=path,
        name=name,
        version=version,
        identity=ModelIdentity(name, version, weights, manufacturer),
        spec=InputSpec.from_dict(preread["input"]),
        outputs=outputs,
        suitability=Criteria.from_dict(preread.get("suitability", {})),
        pooling=SeriesPooling.from_dict(preread.get("pooling", {})),
        activation=_activation(preread.get("activation", "sigmoid")),
        primary=_primary(preread, outputs),
        network_def=told.network_def,
        configuration_digest="",
        masks=preread.get("masks", False) is True,
        mapped=_mapped(preread.get("masks", False), outputs),
        calibration=_calibration(preread.get("calibration"), len(outputs)),
        sequence=_sequence(preread, path),
        exclusive=_flag("exclusive", preread.get("exclusive", False)),
        engine=EngineSpec.from_raw(preread.get("engine")),
    )


def _activation(raw: object) -> Activation:
    if raw not in get_args(Activation):
        raise ValueError(f"activation {raw!r} is not one of {', '.join(get_args(Activation))}")
    return cast(Activation, raw)


def _mapped(raw: object, outputs: Sequence[Output]) -> tuple[str, ...]:
    if isinstance(raw, bool):
        return ()
    if not isinstance(raw, list) or not raw:
        raise ValueError(f"masks is {raw!r}, not true, false or a list of labels")
    names = tuple(str(name) for name in raw)
    if unknown := set(names) - {output.label.name for output in outputs}:
        raise ValueError(f"masks names {', '.join(sorted(unknown))}, which is no label")
    if len(set(names)) < len(names):
        raise ValueError("masks names a label twice")
    return names


def _calibration(raw: Mapping[str, Any] | None, labels: int) -> Calibration | None:
    return None if raw is None else Calibration.from_dict(raw, labels)


def _sequence(preread: Mapping[str, Any], path: Path) -> SequenceSpec | None:
    if (raw := preread.get("sequence")) is None:
        return None
    if preread["input"]["kind"] != "ct_slices":
        raise ValueError("sequence is for ct_slices: a radiograph has no slices")
    return SequenceSpec.from_dict(raw, path)


def _flag(name: str, raw: object) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(f"{name} is {raw!r}, not true or false")
    return raw


def _primary(preread: Mapping[str, Any], outputs: Sequence[Output]) -> str:
    primary = str(preread.get("primary", outputs[0].label.name))
    if primary not in {output.label.name for output in outputs}:
        raise ValueError(f"primary {primary!r} is not one of the labels")
    return primary


def _configuration_digest(bundle: Bundle) -> str:
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


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _array(tensor: Any, half: bool) -> np.ndarray[Any, Any]:
    values = np.ascontiguousarray(tensor.detach().cpu().numpy())
    return values.astype(np.float16) if half and values.dtype == np.float32 else values
