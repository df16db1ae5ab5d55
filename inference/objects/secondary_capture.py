"""Secondary Capture Image: a key image as a person sees it (PS3.3 A.8)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset

from ..errors import ObjectError
from ..reading import Finding, Illustration
from . import anatomy, stamp, uids
from .content import AnalysisContent
from .header import header, referenced_series, source_reference
from .report import CAPTURE
from .tree import ascii_text
from .validate import validate

SERIES_NUMBER: Final = 9002
ROLE: Final = "sc"
LONGEST_SIDE: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaptureContent(AnalysisContent):
    """Everything that one capture says.

    Attributes
    ----------
    pixels : ndarray of uint8, (rows, columns, 3)
        The picture in RGB, at most 1024 pixels on a side, "AI - unverified" burned in.
    number : int
        Instance Number, from 1: the place among the captures of the analysis, which are one series.
    illustration : Illustration or None
        What is pictured; None for a card of text.
    """

    pixels: NDArray[np.uint8]
    number: int
    illustration: Illustration | None = None

    def __post_init__(self) -> None:
        AnalysisContent.__post_init__(self)  # a class with slots has no super() without arguments
        shape, kind = self.pixels.shape, self.pixels.dtype
        is_rgb = len(shape) == 3 and shape[-1] == 3 and kind == np.uint8
        if not is_rgb or not min(shape) > 0 or max(shape) > LONGEST_SIDE:
            raise ObjectError(
                f"a capture needs uint8 pixels (rows, columns, 3) of at most {LONGEST_SIDE} on a"
                f" side, not {kind} {shape}"
            )
        if self.number < 1:
            raise ObjectError(f"the number of a capture counts from 1, not {self.number}")
        if self.illustration is not None and self.pictured is None:
            raise ObjectError(
                f"the illustration is of {self.illustration.sop_instance_uid}, which is no source"
            )

    @property
    def pictured(self) -> Dataset | None:
        """Header of the image pictured."""
        if self.illustration is None:
            return None
        wanted = self.illustration.sop_instance_uid
        return next((s for s in self.sources if s.SOPInstanceUID == wanted), None)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The reported findings that the picture is shown for."""
        if self.illustration is None:
            return ()
        image, labels = self.illustration.sop_instance_uid, self.illustration.labels
        return tuple(
            f
            for f in self.reported
            if f.label.name in labels
            and not (self.is_one_of_many(f) and f.sop_instance_uid != image)
        )


def build_capture(content: CaptureContent) -> Dataset:
    """Return the complete Secondary Capture Image.

    Parameters
    ----------
    content : CaptureContent
        Its data sets and pixels are not changed.

    Returns
    -------
    Dataset
        With file meta information; equal for equal contents, byte for byte. All captures of one
        analysis are one series.

    Raises
    ------
    ObjectError
        When the capture breaks our promises about it.
    """
    with config.disable_value_validation():  # pydicom's warnings quote a patient's values
        capture = header(
            content,
            CAPTURE,
            modality="OT",
            series_number=SERIES_NUMBER,
            requested_as="RequestAttributesSequence",
        )
        capture.update(anatomy.body_part(content.sources[0]))
        capture.update(anatomy.side(content.sources[0]))
        series = _series_digest(content, capture)
        capture.InstanceNumber = content.number
        _describe(capture, content)
        _put_pixels(capture, content.pixels)
        device = uids.device_uid(content.model)
        stamp.put_uids(
            capture, ROLE, device, content.companion_inputs, stamp.digest(capture), series
        )
        stamp.put_times(capture, content.created_at)
        validate(capture)
    return capture


def _series_digest(content: CaptureContent, shared: Dataset) -> str:
    """Return the digest of what all captures of an analysis say: header and findings."""
    words = [stamp.digest(shared), *(content.not_analysed or ())]
    for finding in content.reported:
        limits = finding.label.thresholds
        image = finding.sop_instance_uid or ""
        words += [finding.label.name, image, f"{finding.probability!r}", f"{limits!r}"]
    return hashlib.sha256("\x1f".join(words).encode()).hexdigest()


def _describe(capture: Dataset, content: CaptureContent) -> None:
    """PS3.3 C.8.6.1 SC Equipment, C.7.6.1 General Image: what is seen, and what it was made of."""
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.ConversionType = "WSD"
    capture.BurnedInAnnotation = "YES"
    capture.ImageComments = _comment(content)
    capture.PatientOrientation = None
    pictured = content.pictured
    if content.illustration is None or pictured is None:
        capture.DerivationDescription = "Card of text, no image data"
        return
    window = f" ({content.illustration.window})" if content.illustration.window else ""
    explained = content.illustration.explanation
    made = "" if explained is None else f"; where the model looked by {explained.caption}"
    capture.DerivationDescription = ascii_text(
        f"Key image{window} with the AI result burned in{made}"
    )
    frame = content.illustration.frame
    capture.SourceImageSequence = [source_reference(pictured, frame)]
    capture.ReferencedSeriesSequence = referenced_series([pictured])
    capture.PatientOrientation = anatomy.orientation(pictured, frame)
    capture.update(anatomy.lossy(pictured))


def _comment(content: CaptureContent) -> str:
    """Text of Image Comments (0020,4000): tracking UIDs stand in it as words of their own.

    No attribute of the IOD could carry them, and SR, segmentation and capture of one observation
    must share them.
    """
    parts = ["AI unverified. Not for primary diagnosis."]
    inputs = content.inputs if content.findings else ""
    for finding in content.findings:
        identifier, uid = content.tracking(finding, inputs)
        parts.append(f"Tracking: {identifier} {uid} ;")
    if content.not_analysed is not None:
        parts.append(f"Not analyzed: {content.not_analysed[1]}")
    return ascii_text(" ".join(parts))


def _put_pixels(capture: Dataset, pixels: NDArray[np.uint8]) -> None:
    """PS3.3 C.7.6.3 Image Pixel."""
    capture.SamplesPerPixel = 3
    capture.PhotometricInterpretation = "RGB"
    capture.PlanarConfiguration = 0
    capture.Rows, capture.Columns = pixels.shape[:2]
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit = 7
    capture.PixelRepresentation = 0
    data = np.ascontiguousarray(pixels).tobytes()
    capture.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
