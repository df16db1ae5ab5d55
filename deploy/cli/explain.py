"""``preread explain``: where a model looked, by another method or for another label."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import sqlalchemy as sa
import typer

from db import FileStore, explanations

from .. import settings
from ..errors import DeployError
from .explain_target import Target, find_target
from .files import window_from
from .options import Config, opened
from .reading_options import Device, Window, named_bundle

if TYPE_CHECKING:
    from inference.bundle import Bundle
    from inference.explain_image import Explained
    from inference.explaining import Wanted

# Share of the difference by which the sum of integrated gradients may miss it unsaid.
_MUCH = 0.05


class Method(StrEnum):
    """How it is found out; without one the way of the analysis is taken."""

    CLASS_ACTIVATION = "class-activation"
    GRADIENTS = "gradients"
    OCCLUSION = "occlusion"
    INTEGRATED_GRADIENTS = "integrated-gradients"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    what: Annotated[
        str,
        typer.Argument(
            help="Id of an analysis, UID of a study, series, result object or image that was read "
            "(of each its last digits do, 6 or more; of an id its first), or an image file."
        ),
    ],
    config: Config = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Of several analyses that of this model. For a file: folder of a bundle, or name "
            "of a model."
        ),
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(
            help="How; the way of the analysis if not given. Integrated gradients need captum: "
            "pip install 'preread[explain]'.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Name of the finding; the surest, of a file the model's primary one, if not given."
        ),
    ] = None,
    frame: Annotated[
        int | None,
        typer.Option(min=1, help="Frame, from 1; the one that was pictured, or the first."),
    ] = None,
    patch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="occlusion: side of what covers, in pixels of the network's input; twice the "
            "stride if not given.",
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="occlusion: how far it is moved, and the side of a cell; a 16th of the input.",
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, help="integrated-gradients: points on the way from black.")
    ] = 50,
    cell: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="integrated-gradients: side of the cells that are summed up, in pixels of the "
            "input; a 32nd of it.",
        ),
    ] = None,
    baseline: Annotated[
        float | None,
        typer.Option(
            help="Value of the input that covers, or where the way begins; its black if not given."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="PNG file to write; needed for an image file.")
    ] = None,
    window: Window = "brain",
    device: Device = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Inputs at the network at once.")] = 8,
) -> None:
    """Show where a model looked in one image; of an analysis the map is stored with it.

    The web page of the report (preread show UID --out report.html) has all maps that are stored.
    Nothing is sent: to have another method in the pictures that go to a PACS, set explanation
    under [[model]]. A map is no segmentation.
    """
    if out is not None and out.suffix.lower() != ".png":
        raise DeployError("the picture is a PNG: give --out x.png")
    # torch takes seconds to import; only what runs a network needs it.
    from inference.explaining import Wanted
    from inference.explanation import Method as How

    wanted = Wanted(
        None if method is None else How(method), patch, stride, steps, cell, baseline, batch
    )
    path = Path(what)
    if path.is_file():
        if model is None or out is None:
            raise DeployError("for a file say which model, and where to write: --model, --out")
        bundle = named_bundle(model, config)
        found = _explained(bundle, path, (frame or 1) - 1, label, wanted, device, window)
        _say(found, str(path))
        _write(found, bundle, out)
        return
    with opened(config) as engine:
        with engine.connect() as connection:
            target = find_target(
                connection, what, model, label, None if frame is None else frame - 1
            )
        bundle = _bundle_of(target, config)
        data = settings.load(config).data_dir
        there = FileStore(data).absolute(target.path)
        found = _explained(
            bundle, there, target.frame, target.label, wanted, device, window, data / "engines"
        )
        _say(found, f"...{target.sop_instance_uid[-12:]}, frame {target.frame + 1}")
        if out is not None:
            _write(found, bundle, out)
        _keep(engine, target, found)


def _bundle_of(target: Target, config: Path | None) -> Bundle:
    """Open the model that read it: a map of another one would explain nothing."""
    from inference.catalogue import open_catalogue

    asked, loaded = target.analysis, settings.load(config)
    bundle = open_catalogue(loaded.inference, loaded.model).get(asked.model_name)
    known = (asked.model_version, asked.weights_sha256)
    if bundle is None or (bundle.version, bundle.identity.weights_sha256) != known:
        raise DeployError(
            f"analysis {asked.id[:12]} was made by {asked.model_name} {asked.model_version}, which "
            "is no longer installed as it was: another model would look elsewhere"
        )
    return bundle


def _explained(
    bundle: Bundle,
    path: Path,
    frame: int,
    label: str | None,
    wanted: Wanted,
    device: str,
    window: str,
    engines: Path | None = None,
) -> Explained:
    if bundle.spec.volume is not None:
        raise DeployError(
            f"model {bundle.name} reads whole volumes: its pictures show its own maps, and other "
            "explanations are for models of images and slices"
        )
    from inference.device import configure_torch
    from inference.engines.choose import EngineSettings
    from inference.explain_image import explain_image
    from inference.model import Reader, load_reader

    configure_torch()
    greys = window_from(window)
    # What the node exported is used again; nothing is exported for a command.
    cache = engines if engines is not None and engines.is_dir() else None
    reader = load_reader(bundle, device, wanted.batch, EngineSettings(cache))
    assert isinstance(reader, Reader), "volumes were refused"
    return explain_image(reader, path, frame, label, wanted, greys)


def _say(found: Explained, where: str) -> None:
    made = found.explanation
    print(f"{made.label} in {where}: {100 * found.probability:.1f} %")
    print(made.caption if made.is_shown else f"{made.caption}: no place speaks for it enough")
    if "gap" not in made.parameters:
        return
    difference, gap = float(made.parameters["difference"]), float(made.parameters["gap"])
    print(
        f"from black to the image {difference:+.3f} log-odds; the sum of all places misses that by "
        f"{gap:+.3f}"
    )
    if abs(gap) > _MUCH * abs(difference):
        print("that is much: take more --steps, or no gradient passes a part of the network")


def _write(found: Explained, bundle: Bundle, out: Path) -> None:
    from PIL import Image

    from inference.explain_image import drawn

    Image.fromarray(drawn(found, bundle)).save(out)
    print(f"written to {out}")


def _keep(engine: sa.Engine, target: Target, found: Explained) -> None:
    from inference.stored_explanations import record_of

    made, window = found.explanation, found.picture.window
    record = record_of(made, target.sop_instance_uid, target.frame, window)
    with engine.begin() as connection:
        explanations.keep(connection, target.analysis.id, [record], datetime.now(UTC))
    print(f"stored with analysis {target.analysis.id[:12]}, {len(record.map)} bytes")
