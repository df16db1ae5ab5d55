"""Objects are encoded as pydicom encodes them, byte for byte."""

from __future__ import annotations

import copy
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from inference.objects import object_bytes
from inference.objects.encoding import encoded


def by_pydicom(ds: Dataset) -> bytes:
    file = BytesIO()
    with config.disable_value_validation():
        dcmwrite(file, ds, implicit_vr=False, little_endian=True, force_encoding=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("terms", "name"),
    [
        (None, "DOE^JANE"),
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 144", "Дмитриев^Иван"),
        ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("ISO_IR 192", "김희중"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_every_kind_of_object_is_encoded_as_pydicom_does(
    terms: Any,
    name: str,
    series: list[Dataset],
    hemorrhage: Callable[..., Any],
    masked: Callable[..., Any],
    all_kinds: Callable[..., dict[str, Dataset]],
) -> None:
    request = Dataset()
    request.RequestedProcedureDescription = "plain ~ text"
    for source in series:
        source.SpecificCharacterSet = terms
        source.PatientName = name
        source.RequestAttributesSequence = [request]
    for ds in all_kinds(masked(hemorrhage(series))).values():
        file = BytesIO()
        with config.disable_value_validation():
            dcmwrite(file, copy.deepcopy(ds), enforce_file_format=True)
        stored = object_bytes(ds)
        assert stored == file.getvalue()
        assert object_bytes(dcmread(BytesIO(stored))) == stored


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=9)


@given(
    text=_TEXT,
    several=st.lists(_TEXT, min_size=2, max_size=3),
    ascii_text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=9),
    number=st.floats(allow_nan=False, allow_infinity=False, width=32),
    count=st.integers(0, 65535),
    undefined=st.booleans(),
    depth=st.integers(0, 3),
)
def test_any_values_at_any_depth_are_encoded_as_pydicom_does(
    text: str,
    several: list[str],
    ascii_text: str,
    number: float,
    count: int,
    undefined: bool,
    depth: int,
) -> None:
    with config.disable_value_validation():
        ds = Dataset()
        ds.SpecificCharacterSet = "ISO_IR 192"
        for _ in range(depth + 1):
            outer = Dataset()
            outer.SpecificCharacterSet = "ISO_IR 192"
            ds.PatientName, ds.TextValue, ds.CodeMeaning = text, text, ascii_text
            ds.SoftwareVersions, ds.StudyID, ds.SeriesNumber = several, None, count
            ds.NumericValue, ds.FloatingPointValue, ds.Rows = f"{number:.6g}", number, count
            ds.ImagePositionPatient, ds.UID = [1.5, -2, 0], "1.2.3"
            ds.DimensionIndexValues, ds.SmallestImagePixelValue = [count, 1], count
            ds.PixelRepresentation, ds.ConceptCodeSequence = 0, []
            del ds.SpecificCharacterSet
            ds.is_undefined_length_sequence_item = undefined
            outer.ContentSequence = [ds]
            ds = outer
        assert encoded(copy.deepcopy(ds)) == by_pydicom(ds)
