"""A head over the slices of a series: the reader obeys it, and only the series does."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from inference.bundle import Bundle, open_bundle
from inference.errors import BundleError, NotAnalysableError
from inference.model import load_reader
from inference.reading import Presence, Scope
from inference.sequence import GruHead, Sequencer, series_probabilities, steps_of
from inference.sequence_spec import SequenceSpec
from inference.training.phantoms.files import write_head_series
from inference.training.scores import Scores
from inference.training.sequence_fit import fit_sequence, sequence_scores
from inference.training.sequence_head import SequenceHead

Sources = Callable[[list[Path]], list[object]]


def with_head(bundle: Bundle, path: Path, head: SequenceHead, **section: object) -> Bundle:
    shutil.copytree(bundle.path, path, dirs_exist_ok=True)
    save_file(head.state_dict(), path / "models" / "sequence.safetensors")
    config = path / "configs" / "preread.json"
    told = json.loads(config.read_text())
    told["sequence"] = {"hidden": 3, "step_mm": 5.0, **section}
    config.write_text(json.dumps(told))
    return open_bundle(path)


def saying(bias: float) -> SequenceHead:
    head = SequenceHead(6, 3)
    with torch.no_grad():
        head.out.bias.fill_(bias)
    return head


def drawn(seed: int, labels: int = 6) -> SequenceHead:
    torch.manual_seed(seed)
    head = SequenceHead(labels, 3)
    torch.nn.init.normal_(head.out.weight)
    return head.eval()


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_head_series(tmp_path_factory.mktemp("series"), 1, "epidural", slices=6, size=64)


@pytest.mark.parametrize(("bias", "said"), [(100.0, Presence.PRESENT), (-100.0, Presence.ABSENT)])
def test_a_head_that_flips_the_answer_is_obeyed(
    ct_bundle: Bundle, series: list[Path], sources: Sources, tmp_path: Path, bias: float, said: str
) -> None:
    plain = load_reader(ct_bundle, "cpu").read(sources(series))  # type: ignore[arg-type]
    flipped = with_head(ct_bundle, tmp_path, saying(bias))
    found = load_reader(flipped, "cpu").read(sources(series))  # type: ignore[arg-type]
    whole = [f for f in found.findings if f.scope is Scope.SERIES]
    assert len(whole) == 6
    assert {f.presence for f in whole} == {said}
    # The slices keep what they say themselves.
    alone = {(f.label.name, f.sop_instance_uid): f.probability for f in plain.findings}
    slices = [f for f in found.findings if f.scope is Scope.IMAGE]
    assert {f.sop_instance_uid for f in slices} == {s.sop_instance_uid for s in sources(series)}  # type: ignore[attr-defined]
    for finding in slices:
        before = alone.get((finding.label.name, finding.sop_instance_uid))
        assert before is None or finding.probability == before
    if said is Presence.PRESENT:
        assert all(f.key_sop_instance_uids for f in whole)
        assert found.illustrations[0].labels
    else:
        assert not any(f.key_sop_instance_uids for f in whole)


def test_the_order_of_sending_does_not_matter(
    ct_bundle: Bundle, series: list[Path], sources: Sources, tmp_path: Path
) -> None:
    reader = load_reader(with_head(ct_bundle, tmp_path, drawn(2)), "cpu")
    first = reader.read(sources(series))  # type: ignore[arg-type]
    shuffled = sources(series)
    random.Random(3).shuffle(shuffled)
    assert reader.read(shuffled).findings == first.findings  # type: ignore[arg-type]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(0, 1000))
def test_a_series_is_a_set_of_slices(slices: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.random((slices, 2))
    positions = rng.integers(0, 30, slices) * 2.5  # some at one position
    order = rng.permutation(slices)
    first = steps_of(probabilities, positions, 5.0)
    other = steps_of(probabilities[order], positions[order] + 100.0, 5.0)
    assert np.allclose(first, other, atol=1e-5)


def test_thin_and_thick_reconstructions_of_one_head_look_alike() -> None:
    def at(positions: np.ndarray) -> np.ndarray:
        hill = np.exp(-(((positions - 60) / 25) ** 2))
        return np.stack([0.05 + 0.9 * hill, 0.3 * hill + 0.1], axis=1)

    head, spec = drawn(4, labels=2), SequenceSpec(hidden=3)
    found = [
        series_probabilities(head, spec, at(positions), positions)
        for positions in (np.arange(0, 121, s) for s in (0.625, 1.0, 2.5, 5.0))
    ]
    for one in found[:-1]:
        assert one == pytest.approx(found[-1], abs=0.03)
    assert len(steps_of(at(np.arange(0, 121, 0.625)), np.arange(0, 121, 0.625), 5.0)) == 25
    thick = np.arange(0, 121, 10.0)
    assert len(steps_of(at(thick), thick, 5.0)) == 25


def test_distances_are_seen() -> None:
    probabilities = np.linspace(0.1, 0.9, 8)[:, None]
    head, spec = drawn(5, labels=1), SequenceSpec(hidden=3)
    near, far = (
        series_probabilities(head, spec, probabilities, np.arange(8) * mm) for mm in (5.0, 15.0)
    )
    assert near != pytest.approx(far, abs=1e-6)


def test_untrained_it_is_the_highest_slice() -> None:
    probabilities = np.array([[0.2, 0.9], [0.7, 0.1], [0.4, 0.5]])
    found = series_probabilities(
        SequenceHead(2, 3), SequenceSpec(hidden=3), probabilities, np.array([0.0, 5.0, 10.0])
    )
    assert found == pytest.approx([0.7, 0.9], abs=1e-6)


def test_one_slice_is_a_series_too() -> None:
    found = series_probabilities(
        drawn(1, labels=1), SequenceSpec(hidden=3), np.array([[1.0]]), np.array([7.0])
    )
    assert found.shape == (1,)


def test_it_is_part_of_the_configuration_digest(ct_bundle: Bundle, tmp_path: Path) -> None:
    one = with_head(ct_bundle, tmp_path / "one", drawn(1))
    other = with_head(ct_bundle, tmp_path / "other", drawn(2))
    wider = with_head(ct_bundle, tmp_path / "wider", drawn(1), step_mm=2.5)
    again = with_head(ct_bundle, tmp_path / "again", drawn(1))
    digests = [b.configuration_digest for b in (ct_bundle, one, other, wider)]
    assert len(set(digests)) == 4
    assert again.configuration_digest == one.configuration_digest


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"hidden": 0}, "hidden of sequence is 0"),
        ({"step_mm": 0.0}, "step_mm of sequence"),
        ({"layers": 2}, "unknown keys in sequence: layers"),
    ],
)
def test_an_impossible_section_is_named(
    ct_bundle: Bundle, tmp_path: Path, section: dict[str, object], said: str
) -> None:
    with pytest.raises(BundleError, match=said):
        with_head(ct_bundle, tmp_path, drawn(1), **section)


def test_weights_that_are_missing_or_of_another_head_are_named(
    ct_bundle: Bundle, chest_bundle: Bundle, tmp_path: Path
) -> None:
    wide = with_head(ct_bundle, tmp_path / "wide", drawn(1), hidden=5)
    with pytest.raises(BundleError, match="does not fit the sequence head"):
        Sequencer(wide)
    (tmp_path / "wide" / "models" / "sequence.safetensors").unlink()
    with pytest.raises(BundleError, match=r"no models/sequence\.safetensors"):
        open_bundle(tmp_path / "wide")
    with pytest.raises(BundleError, match="a radiograph has no slices"):
        with_head(chest_bundle, tmp_path / "chest", drawn(1))


def _made(seed: int, count: int) -> Scores:
    """Series in which two neighbours that score high are a finding, and one alone is none."""
    rng = np.random.default_rng(seed)
    probabilities = np.full((count, 12, 1), 0.1) + rng.uniform(0, 0.05, (count, 12, 1))
    truth = np.zeros((count, 12, 1), bool)
    for one in range(count):
        place = int(rng.integers(1, 10))
        probabilities[one, place] = 0.9
        if one % 2:
            probabilities[one, place + 1] = 0.9
            truth[one, place] = True
    series = np.repeat(np.arange(count), 12)
    positions = np.tile(np.arange(12) * 5.0, count)
    return Scores(probabilities.reshape(-1, 1), truth.reshape(-1, 1), series, series, positions)


def test_a_head_that_was_changed_after_the_bundle_was_opened_is_not_obeyed(
    ct_bundle: Bundle, tmp_path: Path
) -> None:
    bundle = with_head(ct_bundle, tmp_path / "headed", saying(1.0))
    save_file(saying(-1.0).state_dict(), bundle.path / "models" / "sequence.safetensors")
    with pytest.raises(BundleError, match="was changed after the bundle was opened"):
        Sequencer(bundle)


def test_training_learns_what_a_maximum_cannot_tell() -> None:
    trained = fit_sequence(_made(1, 30), (1.0,), seed=1, epochs=8)
    found = sequence_scores(trained, _made(2, 40))[:, 0]
    alone, together = found[::2], found[1::2]
    assert (together[:, None] > alone[None, :]).mean() > 0.95
    one_outcome = replace(_made(3, 6), truth=np.ones((72, 1), bool))
    untrained = fit_sequence(one_outcome, (1.0,), seed=1, epochs=1)
    assert not untrained.head.out.weight.any()
    unweighted = fit_sequence(_made(1, 6), (0.0,), seed=1, epochs=1)
    assert not unweighted.head.out.weight.any()
    again = fit_sequence(_made(1, 4), (1.0,), seed=1, epochs=1)
    same = fit_sequence(_made(1, 4), (1.0,), seed=1, epochs=1)
    pairs = zip(again.head.state_dict().values(), same.head.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("far", [3_001.0, 1e12, np.inf, np.nan])
def test_positions_that_no_body_has_are_refused(far: float) -> None:
    with pytest.raises(NotAnalysableError) as refusal:
        steps_of(np.full((3, 6), 0.5), np.array([0.0, 5.0, far]), 5.0)
    assert refusal.value.code == "no_geometry"
    assert len(steps_of(np.full((3, 6), 0.5), np.array([0.0, 5.0, 3_000.0]), 5.0)) == 601


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 80), st.integers(1, 6), st.integers(0, 1000))
def test_what_torch_learns_is_carried_out_without_it(steps: int, labels: int, seed: int) -> None:
    torch.manual_seed(seed)
    head = SequenceHead(labels, 5).eval()
    torch.nn.init.normal_(head.out.weight)
    weights = {name: weight.detach().numpy() for name, weight in head.state_dict().items()}
    seen = np.random.default_rng(seed).normal(0, 3, (steps, labels + 2)).astype(np.float32)
    here = GruHead(weights, labels, 5).logits(seen)
    np.testing.assert_allclose(here, head.logits(seen), rtol=0, atol=1e-5)
