"""The one way from an image to the values that a network's input is made of.

Training and service both come through here, so that they cannot differ; `preprocess` makes the
tensor of what this returns.
"""

from __future__ import annotations

from dataclasses import replace

from pydicom import Dataset

from .errors import NotAnalysableError
from .input_spec import InputSpec
from .pixel_notes import PixelNote
from .pixels import ModalityImage, hounsfield_values, radiograph_values
from .polarity import looks_negative
from .reading import NotAnalysed


def model_values(dataset: Dataset, frame: int, spec: InputSpec) -> ModalityImage:
    """Return the values of a frame as an input of this specification takes them.

    Parameters
    ----------
    dataset : Dataset
        Of `image_file.open_image`.
    frame : int
        From 0.
    spec : InputSpec
        Its kind says which values; ``voi`` and ``polarity`` what is done to a radiograph's.

    Returns
    -------
    ModalityImage
        Hounsfield units of a CT slice; else the values of a radiograph, whose polarity
        `preprocess` corrects where the notes say so.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE or UNSUPPORTED_PIXELS.
    """
    if spec.kind == "ct_slices":
        return hounsfield_values(dataset, frame)
    image = radiograph_values(dataset, frame, voi=spec.voi)
    if spec.polarity == "chest" and looks_negative(image.values):
        return replace(image, notes=(*image.notes, PixelNote.POLARITY_CORRECTED))
    return image


def check_range(image: ModalityImage, spec: InputSpec) -> None:
    """Refuse an image whose greys cannot be spread as a specification asks.

    Raises
    ------
    NotAnalysableError
        UNSUPPORTED_PIXELS if it asks for the full range, and nobody knows that of the pixels.
    """
    if spec.intensity == "full_range" and image.full_range is None:
        raise NotAnalysableError(
            NotAnalysed.UNSUPPORTED_PIXELS, "the pixels are no whole numbers of known range"
        )
