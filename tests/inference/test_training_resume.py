"""A training that was interrupted ends with the very weights of one that was not."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.bundle import Bundle, open_bundle
from inference.errors import InferenceError
from inference.training.checkpoint import RunFolder
from inference.training.fit import Watch, fit
from inference.training.phantoms.layouts import write_siim
from inference.training.progress import ending
from inference.training.recipes import PNEUMOTHORAX, TrainSettings
from inference.training.samples import Part, Sample, Samples
from inference.training.train import Job, find, train

SETTINGS = TrainSettings(
    epochs=4, head_epochs=1, batch=2, patience=2, epoch_share=0.9, checkpoint_seconds=0
)


class KilledError(Exception):
    """Stands for the end of the process."""


def network() -> torch.nn.Module:
    torch.manual_seed(5)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, stride=2),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 1),
    )


def part(seed: int, count: int = 10) -> Part:
    rng = np.random.default_rng(seed)
    return Part.of_samples(
        Samples.of(
            Sample(rng.integers(0, 255, (1, 16, 16), np.uint8), (float(i % 2),), f"{i}")
            for i in range(count)
        )
    )


def weights(trained: torch.nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in trained.state_dict().values()]


def interrupted(folder: RunFolder, steps: int, settings: TrainSettings) -> None:
    """Train until so many states were saved, then stop as if killed."""
    left = steps

    def save(state: Mapping[str, Any]) -> None:
        nonlocal left
        folder.save(state)
        left -= 1
        if not left:
            raise KilledError

    watch = Watch(save=save, state=folder.load())
    fit(network(), part(1), part(2), PNEUMOTHORAX, settings, watch, head_first=True)


@pytest.mark.parametrize("kept", ["last", "best"])
def test_stopped_after_any_step_it_ends_the_same(tmp_path: Path, kept: str) -> None:
    settings = dataclasses.replace(SETTINGS, patience=2 if kept == "best" else 0)
    whole = network()
    reports = fit(whole, part(1), part(2), PNEUMOTHORAX, settings, head_first=True)
    assert reports[0].phase == "head"
    for steps in (1, 3, 5, 6, 11, 17):
        folder = RunFolder(tmp_path / f"{kept}{steps}")
        with pytest.raises(KilledError):
            interrupted(folder, steps, settings)
        resumed = network()
        watch = Watch(save=folder.save, state=folder.load())
        again = fit(resumed, part(1), part(2), PNEUMOTHORAX, settings, watch, head_first=True)
        assert weights(resumed) == weights(whole), steps
        assert [r.validation_loss for r in again] == [r.validation_loss for r in reports]


def test_stopped_again_and_again_it_ends_the_same(tmp_path: Path) -> None:
    whole, folder = network(), RunFolder(tmp_path)
    fit(whole, part(1), part(2), PNEUMOTHORAX, SETTINGS, head_first=True)
    for _ in range(40):
        try:
            interrupted(folder, 3, SETTINGS)
        except KilledError:
            continue
        break
    state = folder.load()
    assert state is not None and state["at"]["done"]
    resumed = network()
    resumed.load_state_dict(state["network"])
    assert weights(resumed) == weights(whole)


def test_patience_ends_a_phase_and_keeps_the_best_epoch() -> None:
    settings = dataclasses.replace(SETTINGS, epochs=30, patience=2, learning_rate=0.5)
    trained = network()
    reports = fit(trained, part(1), part(2), PNEUMOTHORAX, settings)
    assert len(reports) < 30
    losses = [report.validation_loss for report in reports]
    assert min(losses) == losses[-3]
    best = reports[-3].epoch
    told = ending(reports, settings.patience)
    assert told.startswith(f"training stopped early, after {len(reports)} of 30 epochs")
    assert f"the weights of epoch {best} are kept" in told
    # Epochs of the first phase that were left out have numbers too.
    skipped = [dataclasses.replace(one, epoch=one.epoch + 3) for one in reports]
    assert f"the weights of epoch {best + 3} are kept" in ending(skipped, 2)
    assert ending(reports, 0).endswith("the weights of the last are kept")


def test_a_loss_that_is_no_number_ends_it_with_a_way_out() -> None:
    trained = network()
    with torch.no_grad():
        trained[-1].bias.fill_(float("nan"))
    with pytest.raises(InferenceError, match="step 1 of epoch 1: begin anew with a lower"):
        fit(trained, part(1), part(2), PNEUMOTHORAX, SETTINGS)


def test_a_run_folder_is_of_one_training_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.claim({"epochs": 4, "data": "a"}, fresh=False)
    folder.claim({"epochs": 4, "data": "a"}, fresh=False)
    with pytest.raises(InferenceError, match=r"epochs 4, now 5.*--fresh"):
        folder.claim({"epochs": 5, "data": "a"}, fresh=False)
    folder.save({"at": 1})
    folder.claim({"epochs": 5, "data": "a"}, fresh=True)
    assert not folder.has_checkpoint


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InferenceError, match=r"checkpoint\.pt cannot be read"):
        RunFolder(tmp_path).load()


def test_a_checkpoint_is_replaced_at_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save({"at": 1})
    (tmp_path / "checkpoint.pt.tmp").write_bytes(b"half of the next")
    assert folder.load() == {"at": 1}


def test_a_finished_training_is_not_done_again_and_other_data_are_noticed(
    chest_bundle: Bundle, tmp_path: Path
) -> None:
    labels = write_siim(tmp_path / "data", 8, seed=1, size=64)
    settings = TrainSettings(
        epochs=1, batch=2, workers=1, size=64, start=str(chest_bundle.path), patience=1
    )
    out = tmp_path / "bundle"

    def run(resume: bool | None = None) -> str:
        train("pneumothorax", out, data=tmp_path / "data", labels=labels, settings=settings,
              resume=resume)  # fmt: skip
        return open_bundle(out).identity.weights_sha256

    with pytest.raises(InferenceError, match="no checkpoint to go on from"):
        run(resume=True)
    first = run()
    changed = (tmp_path / "bundle.run" / "metrics.csv").stat().st_mtime_ns
    assert run() == first
    assert run(resume=True) == first
    assert changed  # the file is written again with the same rows
    text = (tmp_path / "bundle.run" / "metrics.csv").read_text()
    assert len(text.splitlines()) == 2
    labels.write_text(labels.read_text().replace(",Pneumothorax", ",No Pneumothorax", 1))
    with pytest.raises(InferenceError, match="holds another training"):
        run()


def test_what_is_refused_leaves_the_split_and_the_inputs_of_the_training_before(
    chest_bundle: Bundle, tmp_path: Path
) -> None:
    data, run = tmp_path / "data", tmp_path / "bundle.run"
    labels = write_siim(data, 8, seed=1, size=64)
    settings = TrainSettings(
        epochs=1, batch=2, workers=1, size=64, start=str(chest_bundle.path), patience=1
    )

    def kept() -> dict[str, bytes]:
        left_out = "headers.npz"  # only says what the files say
        return {one.name: one.read_bytes() for one in run.iterdir() if one.name != left_out}

    def asked(settings: TrainSettings) -> None:
        train("pneumothorax", tmp_path / "bundle", data=data, labels=labels, settings=settings)

    asked(settings)
    before = kept()
    other = dataclasses.replace(settings, seed=2)
    with pytest.raises(InferenceError, match="holds another training"):
        asked(other)
    assert kept() == before
    sought = dataclasses.replace(settings, size=32, test_share=0.4)
    with pytest.raises(InferenceError, match=r"holds another training .*another --run"):
        find(Job.of("pneumothorax", run, data, labels, sought))
    assert kept() == before
    with pytest.raises(InferenceError, match="cannot be split"):
        train("pneumothorax", tmp_path / "bundle", data=data, labels=_first_rows(labels, 2),
              settings=other, resume=False)  # fmt: skip
    assert kept() == before


def _first_rows(table: Path, count: int) -> Path:
    shorter = table.with_name("shorter.csv")
    shorter.write_text("\n".join(table.read_text().splitlines()[: count + 1]))
    return shorter


@pytest.mark.slow
@pytest.mark.timeout(900)  # four processes that import torch, beside whatever else runs
def test_killed_in_the_middle_of_an_epoch_it_ends_the_same(
    chest_bundle: Bundle, tmp_path: Path
) -> None:
    labels = write_siim(tmp_path / "data", 24, seed=1, size=64)

    begun: list[subprocess.Popen[str]] = []

    def start(name: str, *more: str) -> subprocess.Popen[str]:
        arguments = ["--data", str(tmp_path / "data"), "--labels", str(labels)]
        arguments += ["--out", str(tmp_path / name), "--start", str(chest_bundle.path)]
        arguments += ["--size", "64", "--epochs", "6", "--head-epochs", "2", "--batch", "2"]
        arguments += ["--checkpoint-seconds", "0", *more]
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy", "train", "pneumothorax", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        begun.append(process)
        return process

    def finished(process: subprocess.Popen[str]) -> str:
        told = process.communicate(timeout=800)[0]
        assert process.returncode == 0, told
        return told

    try:
        finished(start("whole", "--workers", "1"))
        places = [_kill_within_an_epoch(start("killed", "--workers", "2"), tmp_path / "killed.run")]
        second = start("killed", "--resume")
        places.append(_kill_within_an_epoch(second, tmp_path / "killed.run", after=places[0]))
        assert places[0] < places[1]
        assert "goes on from the checkpoint: step" in finished(start("killed"))
    finally:
        for process in begun:
            process.kill()
            process.wait()
    # It learnt something, or equality would say nothing.
    assert open_bundle(tmp_path / "whole").identity.weights_sha256 != (
        chest_bundle.identity.weights_sha256
    )
    first, second_bundle = (open_bundle(tmp_path / name) for name in ("whole", "killed"))
    assert first.identity.weights_sha256 == second_bundle.identity.weights_sha256
    assert first.configuration_digest == second_bundle.configuration_digest


def _kill_within_an_epoch(
    process: subprocess.Popen[str], run: Path, after: tuple[int, int] = (0, 0)
) -> tuple[int, int]:
    """Kill a training a few steps into a later epoch than `after`; return epochs done and step."""
    checkpoint = run / "checkpoint.pt"
    while process.poll() is None:
        if checkpoint.is_file():
            at = torch.load(checkpoint, weights_only=True)["at"]
            place = len(at["history"]), at["step"]
            if place[0] > after[0] and place[1] > 3:
                workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
                process.send_signal(signal.SIGKILL)
                process.wait()
                _wait_for_the_end_of(workers.split())
                return place
        time.sleep(0.005)
    raise AssertionError(f"it ended before it could be killed: {process.communicate()[0]}")


def _wait_for_the_end_of(workers: list[str]) -> None:
    """Wait until processes that decoded are gone with the one that they worked for."""
    until = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < until, f"{workers} go on without their parent"
        time.sleep(0.05)
