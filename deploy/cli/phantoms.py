"""``preread phantoms``: small data sets of phantoms in the layouts of the public ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inference.number_words import number_of

_Folder = Annotated[Path, typer.Argument(help="Folder to write to; made if need be.")]
_Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")]


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="Write images of patients who do not exist, with known answers.", no_args_is_help=True
    )
    group.command("siim")(siim)
    group.command("rsna")(rsna)
    group.command("gallery")(gallery)
    app.add_typer(group, name="phantoms")


def siim(
    folder: _Folder,
    count: Annotated[int, typer.Option(min=2, help="Radiographs, of a patient each.")] = 60,
    seed: _Seed = 1,
    size: Annotated[int, typer.Option(min=64, help="Rows and columns.")] = 512,
) -> None:
    """Write chest radiographs as in SIIM-ACR (small): labels.csv with file,label."""
    from inference.training.phantoms.layouts import write_siim

    table = write_siim(folder, count, seed, size)
    print(f"{count} radiographs in {folder}; labels: {table}")


def rsna(
    folder: _Folder,
    count: Annotated[int, typer.Option(min=2, help="Head CT series, of a patient each.")] = 30,
    seed: _Seed = 1,
    size: Annotated[int, typer.Option(min=64, help="Rows and columns.")] = 256,
    slices: Annotated[int, typer.Option(min=1, help="Slices in a series.")] = 12,
    test: Annotated[int, typer.Option(min=0, help="Further series without labels.")] = 4,
) -> None:
    """Write head CT as in RSNA 2019: stage_1_train.csv with ID,Label, and ID_*.dcm."""
    from inference.training.phantoms.layouts import write_rsna

    table = write_rsna(folder, count, seed, size, slices, test)
    print(f"{count} series of {number_of(slices, 'slice')} in {folder}; labels: {table}")


def gallery(
    out: Annotated[Path, typer.Argument(help="PNG file to write.")],
    count: Annotated[int, typer.Option(min=1, max=500, help="Slices to draw, besides twins.")] = 18,
    seed: _Seed = 1,
    backgrounds: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with a head CT series without hemorrhage, to paint on too."),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Show them as 8-bit pictures, as training sees most.")
    ] = False,
    outlines: Annotated[
        bool, typer.Option("--outlines/--no-outlines", help="Outline the blood.")
    ] = True,
) -> None:
    """Draw a sheet of painted bleeds: what the hemorrhage reader that ships learnt from."""
    from inference.training.gallery import write_gallery
    from inference.training.phantoms.backgrounds import read_backgrounds

    grounds = read_backgrounds(backgrounds) if backgrounds else []
    seeds = range(1000 * seed, 1000 * seed + count)
    shown = write_gallery(out, seeds, grounds, as_pictures=pictures, outlined=outlines)
    print(f"{number_of(shown, 'slice')} in {out}")
