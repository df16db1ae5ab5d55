"""A report on the terminal."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from inference.objects import build_report, render


def test_a_positive_report_reads_from_top_to_bottom(chest: Dataset, pneumothorax: Any) -> None:
    text = render(build_report(pneumothorax(chest)))
    lines = text.splitlines()
    assert lines[0] == ("Imaging Measurement Report (COMPLETE, PRELIMINARY, UNVERIFIED, RESEARCH)")
    assert "  Images read: 1" in lines
    assert "      Finding: Pneumothorax" in lines
    assert "      Probability: 93 %" in lines
    assert "      Pneumothorax: Present" in lines
    assert any(line.startswith("    Conclusion: Pneumothorax: Present") for line in lines)


def test_geometry_is_left_out(series: list[Dataset], hemorrhage: Any) -> None:
    text = render(build_report(hemorrhage(series)))
    assert "Image Position" not in text
    assert text.count("Conclusion: ") == 6
    assert "Images read: 28" in text


def test_a_reason_is_shown(ct: Dataset, not_analysed: Any) -> None:
    text = render(build_report(not_analysed(ct, "wrong_view", "lateral view")))
    assert "Reason not analyzed: Wrong view" in text
    assert "Probability" not in text


def test_any_data_set_can_be_shown() -> None:
    assert render(Dataset())
