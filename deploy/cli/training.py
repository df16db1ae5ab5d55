"""``preread train``: from labelled images, or from phantoms, to a bundle."""

from __future__ import annotations

from typing import Any

import typer

from scp import rules_in_force

from ..errors import DeployError
from . import training_options as option
from .reading_options import Device
from .serving import require_own_images, sections


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    reader: option.What,
    out: option.Out,
    data: option.Data = None,
    labels: option.Labels = None,
    name: option.Name = None,
    version: option.Version = None,
    authors: option.Authors = None,
    manufacturer: option.Manufacturer = None,
    run_folder: option.RunFolder = None,
    resume: option.Resume = None,
    find_lr: option.FindRate = False,
    learning_rate: option.LearningRate = None,
    epochs: option.Epochs = None,
    head_epochs: option.HeadEpochs = None,
    epoch_share: option.EpochShare = None,
    balanced: option.Balanced = None,
    patience: option.Patience = None,
    batch: option.BatchSize = None,
    size: option.Size = None,
    network: option.Network = None,
    start: option.Start = None,
    sequence: option.Sequence = None,
    split: option.Split = None,
    split_by: option.SplitWhom = None,
    validation_share: option.ValidationShare = None,
    test_share: option.TestShare = None,
    phantoms: option.Phantoms = None,
    seed: option.Seed = None,
    workers: option.Workers = None,
    cache_gb: option.CacheSize = None,
    checkpoint_seconds: option.CheckpointSeconds = None,
    amp: option.Amp = None,
    device: Device = "auto",
) -> None:
    """Train a reader and write it as a MONAI Bundle that the node serves.

    In brackets stands what holds with --data if an option is left out; where they differ, first
    for pneumothorax, then for hemorrhage.
    """
    if (data is None) != (labels is None):
        raise DeployError("--data and --labels go together: images without labels teach nothing")
    if name is not None:
        require_own_images(name, reader.value)
    given: dict[str, Any] = {
        "learning_rate": _rate(learning_rate),
        "epochs": epochs,
        "head_epochs": head_epochs,
        "epoch_share": epoch_share,
        "balanced": balanced,
        "patience": patience,
        "batch": batch,
        "size": size,
        "network": network,
        "start": start,
        "sequence": sequence,
        "split": split.value if split else None,
        "split_by": split_by.value if split_by else None,
        "validation_share": validation_share,
        "test_share": test_share,
        "phantoms": phantoms,
        "seed": seed,
        "workers": workers,
        "cache_gb": cache_gb,
        "checkpoint_seconds": checkpoint_seconds,
        "amp": amp,
    }
    # torch takes seconds to import; only this command needs it.
    from inference.device import choose_device, configure_torch
    from inference.training.train import Job, Naming, default_run, find
    from inference.training.train import train as run

    from .training_report import reporting

    naming = Naming.of(reader.value, name, version, authors or (), manufacturer)
    configure_torch()
    given |= {"device": choose_device(device), "naming": naming}
    with reporting() as report:
        if find_lr:
            folder = run_folder or default_run(out)
            report.found_rate(find(Job.of(reader.value, folder, data, labels, **given), report))
            print(f"plot: {folder / 'learning_rate.png'}")
            return
        run(
            reader.value,
            out,
            data=data,
            labels=labels,
            run=run_folder,
            listener=report,
            resume=resume,
            **given,
        )
    print(f"bundle written to {out}; its card with all figures is {out / 'docs' / 'README.md'}")
    print("To serve it, add to the settings and start the node again:\n")
    for section in sections(naming.name, out, reader.value):
        print(section)
    if naming.name not in {rule.model for rule in rules_in_force(())}:
        print(f"\nNo built-in rule gives images to {naming.name}: add a [[rule]] for it.")


def _rate(text: str | None) -> float | None:
    """Return a learning rate; 0 lets the finder choose."""
    if text is None:
        return None
    if text == "auto":
        return 0.0
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.0 < rate < 100.0:
        raise DeployError(f"--learning-rate {text!r} is neither a number above 0 nor auto")
    return rate
