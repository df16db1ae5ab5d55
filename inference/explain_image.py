"""One image explained when a person asks: decoded, prepared and asked as in an analysis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .decoded import Batch, Picture
from .errors import InferenceError
from .evaluation.images import opened_picture
from .explaining import Wanted
from .explanation import Explanation
from .image_file import frame_count, open_image
from .objects.picture import Caption, draw
from .pictures import is_picture
from .pixel_spacing import pixel_spacing_mm
from .reader import Reader
from .reading import Illustration
from .windows import BRAIN, Window


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """What came of it.

    Attributes
    ----------
    explanation : Explanation
    picture : Picture
        The frame as a person sees it.
    probability : float
        Of the label in this frame.
    """

    explanation: Explanation
    picture: Picture
    probability: float


def column_of(bundle: Bundle, label: str | None) -> int:
    """Return which of a bundle's labels is meant; the primary one if none is named.

    Raises
    ------
    InferenceError
        If there is no such label.
    """
    names = [one.name for one in bundle.labels]
    wanted = bundle.primary if label is None else label
    for number, name in enumerate(names):
        if name.lower() == wanted.lower():
            return number
    raise InferenceError(
        f"model {bundle.name} has no label {label}; its labels: {', '.join(names)}"
    )


def explain_image(
    reader: Reader,
    path: Path,
    frame: int,
    label: str | None,
    wanted: Wanted,
    window: Window = BRAIN,
) -> Explained:
    """Return where a model looks in one frame of a file.

    Parameters
    ----------
    reader : Reader
        Loaded.
    path : Path
        DICOM, PNG or JPEG.
    frame : int
        From 0.
    label : str or None
        Name of the label; the primary one if None.
    wanted : Wanted
    window : Window
        What greys of CT pictures are taken to spread over.

    Raises
    ------
    InferenceError
        If the file cannot be read, has no such frame, or cannot be explained so.
    """
    bundle = reader.bundle
    column = column_of(bundle, label)
    if is_picture(path):
        dataset, _ = opened_picture(path, bundle.spec.kind, window, bundle.suitability.modalities)
    else:
        dataset = open_image(path)
    if not 0 <= frame < (count := frame_count(dataset)):
        raise InferenceError(f"there is no frame {frame + 1}; the image has {count}")
    picture = reader.picture(dataset, frame, [column])
    batch = Batch(picture.tensor, ((),), (picture.placement,))
    probability = float(reader.scores(batch)[0, column])
    found = reader.explained(picture, column, wanted, pixel_spacing_mm(dataset, frame))
    if found is None:
        raise InferenceError(
            f"model {bundle.name} has no feature maps to ask; take occlusion or "
            "integrated-gradients"
        )
    return Explained(found, picture, probability)


def drawn(found: Explained, bundle: Bundle) -> NDArray[np.uint8]:
    """Return the picture with the explanation, as `objects.picture.draw` gives it."""
    label = next(one for one in bundle.labels if one.name == found.explanation.label)
    illustration = Illustration(
        sop_instance_uid="",
        frame=0,
        pixels=found.picture.pixels,
        window=found.picture.window,
        pixel_aspect=found.picture.pixel_aspect,
        saliency=found.explanation.over_source(),
        labels=(label.name,),
        explanation=found.explanation,
    )
    statement = f"{label.code.meaning}: AI probability {100 * found.probability:.1f} %"
    footer = f"window {found.picture.window}" if found.picture.window else ""
    return draw(illustration, Caption(f"{bundle.name} {bundle.version}", (statement,), footer))
