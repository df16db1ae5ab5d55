"""Counts in words, and long messages of libraries, as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engines.said import said
from inference.number_words import noun, number_of


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1200, "1200 images")]
)
def test_one_is_told_from_several(count: int, words: str) -> None:
    assert number_of(count, "image") == words


def test_what_is_no_word_with_an_s_is_said() -> None:
    assert [number_of(count, "analysis", "analyses") for count in (1, 3)] == [
        "1 analysis",
        "3 analyses",
    ]
    assert number_of(1, "series", "series") == "1 series"
    assert noun(1, "it waits", "they wait") == "it waits"


def test_of_a_long_message_both_ends_are_kept() -> None:
    where, way_out = "Exception from src/inference/core.cpp:131:", "install the plugin for CPU"
    text = f"{where}\n" + "Exception from src/plugin.cpp:9:\n" * 40 + way_out
    line = said(text, "RuntimeError")
    assert line.startswith(where)
    assert line.endswith(way_out)
    assert len(line) <= 300
    assert " ... " in line
    assert said("two\n lines", "") == "two lines"
    assert said(" \n", "RuntimeError") == "RuntimeError"


@given(st.text(max_size=900))
def test_a_message_is_one_line_of_bounded_length(text: str) -> None:
    line = said(text, "E")
    assert 0 < len(line) <= 300
    assert "\n" not in line
    if len(" ".join(text.split())) <= 300 and text.strip():
        assert line == " ".join(text.split())
