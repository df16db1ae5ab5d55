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
With ``"engine": "torch"``, or ``onnx``, it is run with that engine alone (`engine_spec`), and
``"explanation"`` says how pictures show where it looked (`explanation`).
A bundle without ``preread.json``, as those of MONAI's Model Zoo, is read by `zoo`; what it does not
say comes from the settings.

Light: no torch, so that the process that receives images can name the models it routes to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .bundle_digest import configuration_digest
from .bundle_files import Stated, find_weights, stated
from .bundle_section import (
    Activation,
    activation_of,
    calibration_of,
    exclusive_of,
    mapped_of,
    primary_of,
    require_known,
    require_long_strings,
    sequence_of,
)
from .calibration import Calibration
from .criteria import Criteria
from .engine_spec import EngineSpec
from .errors import BundleError
from .explanation import DEFAULT, ExplanationName, explanation_named
from .input_spec import InputSpec
from .known_labels import label_meant
from .outputs import Output, parse_outputs
from .pooling import SeriesPooling
from .reading import Label, ModelIdentity, Thresholds
from .sequence_spec import SequenceSpec


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
        Whether a pixel or voxel of its maps belongs to its most probable output alone.
    engine : EngineSpec
        What it is to be run with.
    explanation : str
        How pictures show where it looked; ``none`` for pictures that do not.
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
    explanation: ExplanationName = DEFAULT

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
        """Return the bundle with other thresholds for some labels, by name; case does not count.

        Raises
        ------
        BundleError
            If a name is not a label of this bundle, or two are the same one.
        """
        names = [label.name for label in self.labels]
        meant = [label_meant(told, names) for told in thresholds]
        thresholds = dict(zip(meant, thresholds.values(), strict=True))
        if len(thresholds) < len(meant):
            raise BundleError(f"model {self.name}: thresholds name a label twice")
        if unknown := thresholds.keys() - set(names):
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
        return replace(changed, configuration_digest=configuration_digest(changed))

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
        return replace(changed, configuration_digest=configuration_digest(changed))


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
        bundle = replace(bundle, configuration_digest=configuration_digest(bundle))
    except KeyError as error:
        raise BundleError(f"{where}: {error.args[0]} is missing") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{where}: {error}") from error
    if bundle.engine != EngineSpec() and bundle.spec.volume is not None:
        raise BundleError(
            f"{where}: a reader of volumes runs on torch in float32 and has no engine: leave "
            "engine out, there and under its [[model]]"
        )
    if bundle.explanation not in (DEFAULT, "none") and bundle.spec.volume is not None:
        raise BundleError(
            f"{where}: a reader of volumes shows its own maps; explanation is {DEFAULT} or none"
        )
    if bundle.mapped and bundle.spec.volume is not None:
        raise BundleError(f"{where}: masks of a volume are true or false, not a list of labels")
    return bundle


def _bundle(path: Path, told: Stated) -> Bundle:
    metadata, preread = told.metadata, told.preread
    require_known(preread)
    outputs = parse_outputs(preread["labels"])
    name, version = str(metadata["name"]), str(metadata["version"])
    manufacturer = str(metadata.get("manufacturer", "Preread"))
    require_long_strings(name=name, version=version, manufacturer=manufacturer)
    with find_weights(path).open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    return Bundle(
        path=path,
        name=name,
        version=version,
        identity=ModelIdentity(name, version, weights, manufacturer),
        spec=InputSpec.from_dict(preread["input"]),
        outputs=outputs,
        suitability=Criteria.from_dict(preread.get("suitability", {})),
        pooling=SeriesPooling.from_dict(preread.get("pooling", {})),
        activation=activation_of(preread.get("activation", "sigmoid")),
        primary=primary_of(preread, outputs),
        network_def=told.network_def,
        configuration_digest="",
        masks=preread.get("masks", False) is True,
        mapped=mapped_of(preread.get("masks", False), outputs),
        calibration=calibration_of(preread.get("calibration"), len(outputs)),
        sequence=sequence_of(preread, path),
        exclusive=exclusive_of(preread),
        engine=EngineSpec.from_raw(preread.get("engine")),
        explanation=explanation_named(preread.get("explanation", DEFAULT)),
    )
