"""``preread show``: a result object as text, as a page, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pydicom
import typer
from pydicom.errors import InvalidDicomError

from db import FileStore, create_engine
from db.migrate import check
from db.query import rows_of

from .. import settings
from ..errors import DeployError
from .options import Config


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show")(show)


def show(
    what: Annotated[
        str, typer.Argument(help="File of a result object, or its SOP Instance UID in the node.")
    ],
    config: Config = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .html for a report, .png for a picture, else text."),
    ] = None,
) -> None:
    """Print a result object, or write it as a web page or a picture."""
    ds = _read(what, config)
    suffix = "" if out is None else out.suffix.lower()
    if out is not None and suffix == ".png":
        _write_picture(ds, out)
        return
    text = _as_html(ds) if suffix == ".html" else _as_text(ds)
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")


def _read(what: str, config: Path | None) -> pydicom.Dataset:
    path = Path(what)
    if not path.is_file():
        path = _stored(what, config)
    try:
        return pydicom.dcmread(path)
    except InvalidDicomError:
        raise DeployError(f"{path} is no DICOM file") from None
    except OSError as error:
        raise DeployError(f"{path} cannot be read: {error.strerror}") from None


def _stored(uid: str, config: Path | None) -> Path:
    loaded = settings.load(config)
    engine = create_engine(loaded.db_url)
    check(engine)
    with engine.connect() as connection:
        rows = rows_of(
            connection, "v_objects", order_by="object_id", equals={"sop_instance_uid": uid}
        )
    engine.dispose()
    if not rows:
        raise DeployError(f"{uid} is neither a file nor a result object of this node")
    return FileStore(loaded.data_dir).absolute(rows[0]["path"])


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
