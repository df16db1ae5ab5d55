"""What the documentation of the pixels says is what the code and the tests say."""

from __future__ import annotations

import re
from pathlib import Path

from inference.pixel_notes import PixelNote

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "docs" / "pixels.md").read_text(encoding="utf-8")


def test_every_note_stands_in_it_and_no_other() -> None:
    table = TEXT.split("## Notes")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(PixelNote)
    # And each is the note of a trap that a test makes.
    for note in PixelNote:
        assert TEXT.count(f"`{note}`") > 1, note


def test_every_test_that_it_names_is_there() -> None:
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    defined = set(re.findall(r"^def (test_\w+)", "\n".join(files), re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert named
    assert named <= defined, sorted(named - defined)


def test_every_row_has_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if re.fullmatch(r"\|(?:[^|]*\|){4}", line)]
    traps = [row for row in rows if not row.startswith(("| trap |", "| --- |"))]
    assert len(traps) > 40
    for row in traps:
        assert re.search(r"`test_\w+`[^|]*\|$", row), row


def test_notes_are_made_by_the_code_and_in_tests() -> None:
    """A word that no code says, or that no test expects, is no vocabulary."""
    code = [path.read_text(encoding="utf-8") for path in (ROOT / "inference").rglob("*.py")]
    tests = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "tests").rglob("test_*.py")
        if path != Path(__file__)
    ]
    for note in PixelNote:
        assert any(f"PixelNote.{note.name}" in text for text in code), note
        assert any(f'"{note}"' in text for text in tests), note
