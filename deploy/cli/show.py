"""``preread show``: an image, or a result object as text, page, picture; a study in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pydicom
import sqlalchemy as sa
import typer
from pydicom.errors import InvalidDicomError

from db import FileStore, explanations
from db.query import rows_of

from .. import settings
from ..errors import DeployError
from .endings import whole_uid
from .options import Config, opened
from .show_image import Look, describe_image, is_image, write_image
from .study import describe

if TYPE_CHECKING:
    from inference.objects.page_pictures import PagePicture


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show")(show)


def show(
    what: Annotated[
        list[str],
        typer.Argument(
            help="File of an image or a result object, the SOP Instance UID of a result object, or "
            "a Study Instance UID; of a UID its last digits do, 6 or more, as other commands print "
            "them (...201539293187); several files of images with --side-by-side."
        ),
    ],
    config: Config = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .png for a picture, .html for a report, else text."),
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            help="Image: CENTER/WIDTH, brain, subdural, soft, stroke, bone, lung, abdomen, "
            "mediastinum, liver, angio, header, or a name that the header gives. May be repeated."
        ),
    ] = None,
    invert: Annotated[bool, typer.Option("--invert", help="Image: black for white.")] = False,
    frame: Annotated[int, typer.Option(min=1, help="Image: frame, from 1.")] = 1,
    side_by_side: Annotated[
        bool,
        typer.Option(
            "--side-by-side", help="Images: windows or files beside each other, with labels."
        ),
    ] = False,
    histogram: Annotated[
        bool, typer.Option("--histogram", help="Image: how its values are spread.")
    ] = False,
) -> None:
    """Print or draw an image, print or write a result object, or tell of a study."""
    look = Look(tuple(window or ()), frame, invert, side_by_side, histogram)
    path = Path(what[0])
    if len(what) > 1 or len(look.windows) > 1:
        _show_beside([Path(one) for one in what], look, out)
        return
    if not path.is_file():
        with opened(config) as engine, engine.connect() as connection:
            uid = whole_uid(connection, what[0])
            known = describe(connection, uid) if out is None else None
            stored = None if known else _stored(connection, uid)
            if stored is not None and out is not None and out.suffix.lower() == ".html":
                _write_page(connection, stored, FileStore(settings.load(config).data_dir), out)
                return
        if stored is None:
            print(known, end="")
            return
        path = FileStore(settings.load(config).data_dir).absolute(stored)
    ds = _read(path)
    if is_image(ds) or look.is_asked_for:
        _show_image(path, ds, look, out)
        return
    suffix = "" if out is None else out.suffix.lower()
    if out is not None and suffix == ".png":
        _write_picture(ds, out)
        return
    text = _as_html(ds) if suffix == ".html" else _as_text(ds)
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")


def _show_beside(paths: list[Path], look: Look, out: Path | None) -> None:
    if out is None or look.histogram:
        raise DeployError("several files or windows are drawn, beside each other: give --out x.png")
    for path in paths:
        _require_image(path, _read(path))
    write_image(paths, replace(look, side_by_side=True), out)


def _show_image(path: Path, ds: pydicom.Dataset, look: Look, out: Path | None) -> None:
    _require_image(path, ds)
    if out is None:
        if look.invert or look.side_by_side:
            raise DeployError("a picture is written to a file: give --out x.png")
        print(describe_image(path, look), end="")
    elif ds.get("PhotometricInterpretation") == "RGB" and not look.is_asked_for:
        _write_picture(ds, out)  # in its colours
    else:
        write_image([path], look, out)


def _require_image(path: Path, ds: pydicom.Dataset) -> None:
    if "Rows" not in ds or ("PixelData" not in ds and "FloatPixelData" not in ds):
        raise DeployError(f"{path} has no pixels to be shown so")


def _read(path: Path) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(path)
    except InvalidDicomError:
        raise DeployError(f"{path} is no DICOM file") from None
    except OSError as error:
        raise DeployError(f"{path} cannot be read: {error.strerror}") from None


def _stored(connection: sa.Connection, uid: str) -> str:
    rows = rows_of(connection, "v_objects", order_by="object_id", equals={"sop_instance_uid": uid})
    if rows:
        return str(rows[0]["path"])
    of_study = {"study_instance_uid": uid, "kind": "sr"}
    found = rows_of(connection, "v_objects", order_by="object_id", equals=of_study)
    reports = [row for row in found if row["is_current"]]
    if not found:
        raise DeployError(f"{uid} is no file, and no result object or study of this node")
    if len(reports) != 1:
        named = (f"{row['sop_instance_uid']} ({row['model_name']})" for row in reports)
        listed = ", ".join(named) or "none is current"
        raise DeployError(f"{uid} is a study with {len(reports)} reports; show one: {listed}")
    return str(reports[0]["path"])


def _as_text(ds: pydicom.Dataset) -> str:
    from inference.objects import render

    return render(ds)


def _as_html(ds: pydicom.Dataset, pictures: Sequence[PagePicture] = ()) -> str:
    from inference.objects.html import render_html

    if ds.get("Modality") != "SR":
        raise DeployError("only a structured report becomes a web page")
    return render_html(ds, pictures)


def _write_page(connection: sa.Connection, stored: str, files: FileStore, out: Path) -> None:
    """Write a report of this node, with the maps of where the model looked that are stored."""
    from inference.explained_page import page_pictures

    ds = _read(files.absolute(stored))
    (row,) = rows_of(connection, "v_objects", order_by="object_id", equals={"path": stored})
    analysis = str(row["analysis_id"])

    def path_of(uid: str) -> Path | None:
        path = explanations.image_path(connection, analysis, uid)
        return None if path is None else files.absolute(path)

    kept = explanations.of_analysis(connection, analysis)
    pictures = page_pictures(kept, path_of, explanations.meanings(connection, analysis))
    out.write_text(_as_html(ds, pictures), encoding="utf-8")


def _write_picture(ds: pydicom.Dataset, out: Path) -> None:
    from PIL import Image

    if ds.get("PhotometricInterpretation") != "RGB" or "PixelData" not in ds:
        raise DeployError("only a picture (sc) becomes a PNG; preread show prints other objects")
    Image.fromarray(ds.pixel_array).save(out)
