"""``preread explain``: where a model looked, by another method or for another label."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
import typer

from db import FileStore, explanations

from .. import settings
from ..errors import DeployError
from .explain_options import (
    Baseline,
    Cell,
    Frame,
    How,
    Inputs,
    Label,
    Model,
    Out,
    Patch,
    Steps,
    Stride,
    What,
    refuse_idle,
)
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


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the options say.

    Attributes
    ----------
    model, label : str or None
    frame : int or None
        From 0.
    wanted : Wanted
    device, window : str
    out : Path or None
    """

    model: str | None
    label: str | None
    frame: int | None
    wanted: Wanted
    device: str
    window: str
    out: Path | None


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    what: What,
    config: Config = None,
    model: Model = None,
    method: How = None,
    label: Label = None,
    frame: Frame = None,
    patch: Patch = None,
    stride: Stride = None,
    steps: Steps = None,
    cell: Cell = None,
    baseline: Baseline = None,
    out: Out = None,
    window: Window = "brain",
    device: Device = "auto",
    batch: Inputs = 8,
) -> None:
    """Show where a model looked in one image; of an analysis the map is stored with it.

    The web page of the report (preread show UID --out report.html) has all maps that are stored.
    Nothing is sent: to have another method in the pictures that go to a PACS, set explanation
    in the section of the model in the settings. A map is no segmentation.
    """
    if out is not None and out.suffix.lower() != ".png":
        raise DeployError("the picture is a PNG: give --out x.png")
    fine = {"patch": patch, "stride": stride, "steps": steps, "cell": cell, "baseline": baseline}
    refuse_idle(method, fine)
    # torch takes seconds to import; only what runs a network needs it.
    from inference.explaining import DEFAULT_STEPS, Wanted
    from inference.explanation import Method as Known

    known = None if method is None else Known(method)
    wanted = Wanted(known, patch, stride, steps or DEFAULT_STEPS, cell, baseline, batch)
    place = None if frame is None else frame - 1
    asked = _Asked(model, label, place, wanted, device, window, out)
    if (path := Path(what)).is_file():
        _explain_file(path, config, asked)
    else:
        _explain_analysis(what, config, asked)


def _explain_file(path: Path, config: Path | None, asked: _Asked) -> None:
    """Show where a model looks in a file, which no analysis has to know."""
    if asked.model is None or asked.out is None:
        raise DeployError("for a file say which model, and where to write: --model, --out")
    bundle = named_bundle(asked.model, config)
    found = _explained(bundle, path, asked.frame or 0, asked.label, asked)
    _say(found, str(path))
    _write(found, bundle, asked.out)


def _explain_analysis(what: str, config: Path | None, asked: _Asked) -> None:
    """Show where the model of an analysis looked, and store that with it."""
    with opened(config) as engine:
        with engine.connect() as connection:
            target = find_target(connection, what, asked.model, asked.label, asked.frame)
        bundle = _bundle_of(target, config)
        data = settings.load(config).data_dir
        path = FileStore(data).absolute(target.path)
        found = _explained(bundle, path, target.frame, target.label, asked, data / "engines")
        _say(found, f"...{target.sop_instance_uid[-12:]}, frame {target.frame + 1}")
        if asked.out is not None:
            _write(found, bundle, asked.out)
        _keep(engine, target, found)


def _bundle_of(target: Target, config: Path | None) -> Bundle:
    """Open the model that read it: a map of another one would explain nothing."""
    from inference.catalogue import open_catalogue
    from inference.requests import is_same_model

    asked, loaded = target.analysis, settings.load(config)
    bundle = open_catalogue(loaded.inference, loaded.model).get(asked.model_name)
    # Other weights look elsewhere, and so do the same ones where they are shown something else.
    if bundle is None or not is_same_model(asked, bundle):
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
    asked: _Asked,
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
    greys = window_from(asked.window)
    # What the node exported is used again; nothing is exported for a command.
    cache = engines if engines is not None and engines.is_dir() else None
    reader = load_reader(bundle, asked.device, asked.wanted.batch, EngineSettings(cache))
    assert isinstance(reader, Reader), "volumes were refused"
    return explain_image(reader, path, frame, label, asked.wanted, greys)


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
