"""The learning-rate finder: what a curve suggests, and that a trial leaves no trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inference.training.learning_rate import find_learning_rate
from inference.training.plots import plot_epochs, plot_labels, plot_learning_rate
from inference.training.progress import EpochReport, write_metrics
from inference.training.recipes import PNEUMOTHORAX, TrainSettings
from inference.training.samples import Part, Sample, Samples
from inference.training.sweep import suggest


def test_suggestions_by_hand() -> None:
    rates = np.geomspace(1e-5, 1, 101)
    logs = np.log10(rates)
    # Flat, a fall that is steepest at 1e-3, lowest at 1e-2, then away.
    losses = 1 / (1 + np.exp(6 * (logs + 3))) + np.clip(logs + 2, 0, None) ** 2
    found = suggest(rates, losses)
    assert found.steepest == pytest.approx(1e-3, rel=0.15)
    assert found.minimum_over_ten == pytest.approx(rates[losses.argmin()] / 10)


def test_what_is_no_number_does_not_count() -> None:
    rates = np.geomspace(1e-4, 1, 20)
    losses = np.linspace(1, 0.1, 20)
    losses[15:] = np.nan
    assert suggest(rates, losses).minimum_over_ten == pytest.approx(rates[14] / 10)


def test_a_trial_changes_nothing_and_repeats(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 100, (20, 1, 16, 16), np.uint8)
    pictures[::2] += 120
    samples = (Sample(p, (float(i % 2 == 0),), f"{i}") for i, p in enumerate(pictures))
    part = Part.of_samples(Samples.of(samples))
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 1))
    before = [tensor.clone() for tensor in network.state_dict().values()]
    settings = TrainSettings(batch=4)
    first = find_learning_rate(network, part, PNEUMOTHORAX, settings)
    again = find_learning_rate(network, part, PNEUMOTHORAX, settings)
    assert np.array_equal(first.losses, again.losses)
    assert all(map(torch.equal, before, network.state_dict().values()))
    assert 1e-6 < first.minimum_over_ten < 1
    assert 1e-6 < first.steepest < 1
    plot_learning_rate(tmp_path / "rate.png", first)
    with Image.open(tmp_path / "rate.png") as picture:
        assert min(picture.size) > 300


def test_plots_and_metrics_are_written(tmp_path: Path) -> None:
    plot_labels(tmp_path / "labels.png", {"any": (10, 90), "epidural": (1, 99)})
    reports = [EpochReport(n, 2, "all", 0.5, 0.4, {"any": 0.9}, {"any": None}, 1.0) for n in (1, 2)]
    plot_epochs(tmp_path / "losses.png", reports)
    for name in ("labels.png", "losses.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100
    write_metrics(tmp_path, reports[:1])
    write_metrics(tmp_path, reports)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "epoch,epochs,phase,loss,validation_loss,accuracy_any,auc_any,seconds"
    assert lines[1:] == ["1,2,all,0.5,0.4,0.9,,1.0", "2,2,all,0.5,0.4,0.9,,1.0"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
