"""Pixels as GDCM decodes them: a reference that the node itself never uses."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread


def stored(path: Path) -> tuple[np.ndarray[Any, Any], Dataset]:
    """Return the stored values of a file, all frames, and the file; skip without GDCM."""
    if importlib.util.find_spec("gdcm") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("python-gdcm is missing, and CI must have it")
        pytest.skip("python-gdcm, the reference, is not installed")
    dataset = dcmread(path)
    dataset.pixel_array_options(decoding_plugin="gdcm")
    return dataset.pixel_array, dataset
