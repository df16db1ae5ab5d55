"""``preread reference``: make the demonstration readers that ship, from what is at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inference.training.reference_hemorrhage import Round

reference = typer.Typer(
    no_args_is_help=True, help="Make the demonstration readers that ship with Preread."
)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(reference, name="reference")


@reference.command("hemorrhage")
def hemorrhage(
    backgrounds: Annotated[
        list[Path],
        typer.Option(help="Folder with a head CT series without hemorrhage, to paint on."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    work: Annotated[
        Path, typer.Option(help="Folder of slices, checkpoints and weights; goes on from there.")
    ],
    negatives: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with a head CT series without hemorrhage, to measure on only."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=50, help="Slices to draw, twins not counted.")] = 8500,
    validation_seeds: Annotated[
        int, typer.Option(min=20, help="Slices to draw for what is measured.")
    ] = 500,
    steps: Annotated[int, typer.Option(min=1, help="Steps of 16 slices.")] = 1500,
    fold_steps: Annotated[
        int, typer.Option(min=1, help="Steps of each of the two networks that judge.")
    ] = 700,
    more: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SEEDS:STEPS",
            help="A further round: slices to draw beside those there are, and its steps; may be "
            "repeated. 2500:750 unless given; `0:0` for none.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Compute in bfloat16: fast where supported.")
    ] = False,
) -> None:
    """Paint bleeds on real and on drawn heads, train, measure, and write the bundle."""
    # torch takes seconds to import; only this command needs it.
    from inference.device import choose_device
    from inference.training.reference_bundle import Sources, default_settings, make_reference

    settings = default_settings(
        seeds=seeds,
        validation_seeds=validation_seeds,
        steps=steps,
        fold_steps=fold_steps,
        **({} if more is None else {"more": _rounds(more)}),
        workers=workers,
        seed=seed,
        device=choose_device(device),
        bfloat16=bfloat16,
    )
    sources = Sources(tuple(backgrounds), tuple(negatives or ()))
    make_reference(out, work, sources, settings, lambda said: print(said, flush=True))
    print(f"bundle written to {out}; its card with all figures is {out / 'docs' / 'README.md'}")


def _rounds(given: list[str]) -> tuple[Round, ...]:
    """Return the rounds that SEEDS:STEPS stand for; those without steps are none."""
    from inference.training.reference_hemorrhage import Round

    rounds = []
    for text in given:
        parts = text.split(":")
        if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
            raise typer.BadParameter(f"--more {text}: two numbers are asked for, as in 2500:750")
        rounds.append(Round(int(parts[0]), int(parts[1])))
    return tuple(one for one in rounds if one.steps)


@reference.command("pneumothorax")
def pneumothorax(
    backgrounds: Annotated[
        list[Path], typer.Option(help="Folder of chest radiographs without a pneumothorax.")
    ],
    labelled: Annotated[
        Path, typer.Option(help="Folder with labels.csv (file,patient,pneumothorax) and its films.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
    work: Annotated[
        Path | None, typer.Option(help="Folder for weights of each stage, to go on from.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG of the films without a finding that look most like it.")
    ] = None,
) -> None:
    """Paint pneumothoraces into films, learn from them, and measure on films left out."""
    # torch takes seconds to import; only this command needs it.
    import torch

    from inference.device import choose_device
    from inference.training.chest_learning import ReferenceSettings
    from inference.training.error_sheet import write_sheet
    from inference.training.reference_pneumothorax import Sources, make_reference

    measured = make_reference(
        Sources(tuple(backgrounds), labelled),
        out,
        torch.device(choose_device(device)),
        ReferenceSettings(seed=seed),
        work=work,
        say=lambda line: print(line, flush=True),
    )
    if sheet is not None:
        write_sheet(sheet, measured.alarms)
    print(f"bundle written to {out}; its card with all figures is {out / 'docs' / 'README.md'}")
