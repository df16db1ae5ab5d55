"""The picture of `deploy/docs/explanations.md`: one phantom, explained in four ways.

``python -m deploy.explained_picture OUT.jpg``; it needs the extra ``explain``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

_GAP = 8
# The words of the pictures can be read still.
_WIDTH = 1000
_QUALITY = 82


def draw(out: Path) -> None:
    """Draw the chest phantom of the demonstration with what each method shows of it."""
    from inference.bundle import open_bundle
    from inference.explain_image import drawn, explain_image
    from inference.explaining import Wanted
    from inference.explanation import Method
    from inference.model import Reader, load_reader
    from inference.settings import shipped_bundles
    from inference.training.phantoms.files import write_chest

    bundle = next(open_bundle(path) for path in shipped_bundles() if path.name == "pneumothorax")
    reader = load_reader(bundle, "cpu")
    assert isinstance(reader, Reader), "it reads radiographs"
    ways = [way for way in Method if way is not Method.OWN_MAP]
    with tempfile.TemporaryDirectory(prefix="preread-") as folder:
        path = write_chest(Path(folder), seed=13, pneumothorax=True)
        pictures = [
            Image.fromarray(drawn(explain_image(reader, path, 0, None, Wanted(way)), bundle))
            for way in ways
        ]
    wide, high = (max(size) for size in zip(*(one.size for one in pictures), strict=True))
    sheet = Image.new("RGB", (2 * wide + _GAP, 2 * high + _GAP), (255, 255, 255))
    for number, one in enumerate(pictures):
        sheet.paste(one, (number % 2 * (wide + _GAP), number // 2 * (high + _GAP)))
    height = round(sheet.height * _WIDTH / sheet.width)
    sheet = sheet.resize((_WIDTH, height), Image.Resampling.LANCZOS)
    sheet.save(out, quality=_QUALITY)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
