"""One object of every kind as text, for people to review: a change of it is a change of meaning.

To write them anew, set PREREAD_REWRITE_GOLDEN=1 and run this file with pytest; read the difference
before it is committed.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from inference.objects import build_report, object_bytes, render

GOLDEN = Path(__file__).with_name("golden")


@pytest.fixture
def objects(
    ct: Dataset,
    chest: Dataset,
    stacked: Any,
    pneumothorax: Any,
    hemorrhage: Any,
    not_analysed: Any,
    masked: Any,
    all_kinds: Any,
) -> dict[str, Dataset]:
    series = all_kinds(masked(hemorrhage(stacked(ct, 12)), (6, 7)), captures=2)
    radiograph = all_kinds(masked(pneumothorax(chest)))
    refused = all_kinds(not_analysed(ct, "missing_slices", "3 of 28 slices are missing"))
    return {
        "pneumothorax-present": build_report(pneumothorax(chest, 0.93)),
        "pneumothorax-absent": build_report(pneumothorax(chest, 0.02)),
        "pneumothorax-companions": radiograph["sr"],
        "pneumothorax-capture": radiograph["sc1"],
        "pneumothorax-segmentation": radiograph["seg"],
        "hemorrhage": build_report(hemorrhage(stacked(ct, 12))),
        "hemorrhage-companions": series["sr"],
        "hemorrhage-capture": series["sc2"],
        "hemorrhage-segmentation": series["seg"],
        "hemorrhage-key-objects": series["kos"],
        "not-analysed": refused["sr"],
        "not-analysed-card": refused["sc1"],
    }


def test_objects_read_as_they_were_reviewed(objects: dict[str, Dataset]) -> None:
    found = {
        name: render(dcmread(BytesIO(object_bytes(ds)), stop_before_pixels=True))
        for name, ds in objects.items()
    }
    if os.environ.get("PREREAD_REWRITE_GOLDEN") == "1":
        GOLDEN.mkdir(exist_ok=True)
        for name, text in found.items():
            (GOLDEN / f"{name}.txt").write_text(text, encoding="utf-8")
    reviewed = {path.stem: path.read_text(encoding="utf-8") for path in GOLDEN.glob("*.txt")}
    assert sorted(found) == sorted(reviewed)
    for name, text in found.items():
        assert text == reviewed[name], name
