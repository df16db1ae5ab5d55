"""``preread show``: a result object as text, as a page, as a picture; a study in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pydicom
import sqlalchemy as sa
import typer
from pydicom.errors import InvalidDicomError

from db import FileStore
from db.query import rows_of

from .. import settings
from ..errors import DeployError
from .options import Config, opened
from .study import describe


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show")(show)


def show(
    what: Annotated[
        str,
        typer.Argument(
            help="File of a result object, its SOP Instance UID, or a Study Instance UID."
        ),
    ],
    config: Config = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .html for a report, .png for a picture, else text."),
    ] = None,
) -> None:
    """Print a result object, or write it as a web page or a picture; or tell of a study."""
    path = Path(what)
    if not path.is_file():
        with opened(config) as engine, engine.connect() as connection:
            known = describe(connection, what) if out is None else None
            stored = None if known else _stored(connection, what)
        if stored is None:
            print(known, end="")
            return
        path = FileStore(settings.load(config).data_dir).absolute(stored)
    ds = _read(path)
    suffix = "" if out is None else out.suffix.lower()
    if out is not None and suffix == ".png":
        _write_picture(ds, out)
        return
    text = _as_html(ds) if suffix == ".html" else _as_text(ds)
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")


def _read(path: Path) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(path)
    except InvalidDicomError:
        raise DeployError(f"{path} is no DICOM file") from None
    except OSError as error:
        raise DeployError(f"{path} cannot be read: {error.strerror}") from None


def _stored(connection: sa.Connection, uid: str) -> str:
    rows = rows_of(connection, "v_objects", order_by="object_id", equals={"sop_instance_uid": uid})
    if not rows:
        raise DeployError(f"{uid} is no file, and no result object or study of this node")
    return str(rows[0]["path"])


def _as_text(ds: pydicom.Dataset) -> str:
    from inference.objects import render

    return render(ds)


def _as_html(ds: pydicom.Dataset) -> str:
    from inference.objects.html import render_html

    if ds.get("Modality") != "SR":
        raise DeployError("only a structured report becomes a web page")
    return render_html(ds)


def _write_picture(ds: pydicom.Dataset, out: Path) -> None:
    from PIL import Image

    if ds.get("PhotometricInterpretation") != "RGB" or "PixelData" not in ds:
        raise DeployError("only a picture (sc) becomes a PNG; preread show prints other objects")
    Image.fromarray(ds.pixel_array).save(out)
