"""``preread models``: which models the node offers, their cards, and published ones to add."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from inference.bundle import Bundle
from inference.number_words import number_of

from .. import settings
from ..errors import DeployError
from .check_precision import check
from .options import Config
from .output import Format, print_csv, print_json, wide_console
from .serving import sections

_COLUMNS = ("name", "version", "kind", "labels", "thresholds", "weights_sha256", "source")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Which models there are.")
    group.command("list")(list_models)
    group.command("card")(card)
    group.command("add")(add)
    group.command("check")(check)
    app.add_typer(group, name="models")


def list_models(
    config: Config = None,
    fmt: Annotated[Format, typer.Option("--format", help="table, json or csv.")] = Format.TABLE,
) -> None:
    """List the models that the node offers; the table also names those that can be added."""
    rows = _offered(config)
    if fmt is Format.JSON:
        print_json(rows)
    elif fmt is Format.CSV:
        print_csv(_COLUMNS, [{**row, **_in_words(row)} for row in rows])
    else:
        _print_table(rows)


def card(
    name: Annotated[str, typer.Argument(help="Name of a model that the node offers.")],
    config: Config = None,
) -> None:
    """Print the card of a model, Markdown."""
    bundles = _bundles(config)
    if name not in bundles:
        known = ", ".join(bundles) or "none"
        raise DeployError(f"no model is named {name!a}; there are: {known}")
    print(bundles[name].card or f"the bundle in {bundles[name].path} has no card", end="")


def add(
    name: Annotated[
        str,
        typer.Argument(
            metavar="PUBLISHED", help="Published reader: torchxrayvision:densenet121-res224-all."
        ),
    ],
    config: Config = None,
    file: Annotated[
        Path | None,
        typer.Option(help="The published file, brought here; without one it is downloaded."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the bundle; default DATA_DIR/models/NAME.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 that the file must have, in hexadecimal.")
    ] = None,
    model: Annotated[
        str, typer.Option("--name", help="Name of the model; rules route to it.")
    ] = "chest-findings",
) -> None:
    """Make a MONAI Bundle of a published reader; nothing in its file is run."""
    from inference.public import add_model, find_offer
    from inference.public.download import cache_dir

    offer = find_offer(name)
    _require_digest(sha256)
    if file is None:
        print(f"fetching {offer.url}", flush=True)
    folder = out or settings.load(config).data_dir / "models" / model
    added = add_model(offer, folder, cache=cache_dir(), name=model, file=file, sha256=sha256)
    print(added.origin)
    print(f"SHA-256 of the file: {added.sha256}")
    print(f"bundle written to {added.path}; its card: {added.path / 'docs' / 'README.md'}")
    print("To serve it, add to the settings and start the node again:\n")
    demonstration = "pneumothorax" if "pneumothorax" in offer.labels else None
    for section in sections(added.name, added.path, demonstration):
        print(section)


def _bundles(config: Path | None) -> dict[str, Bundle]:
    from inference.catalogue import open_catalogue

    found = settings.load(config)
    return open_catalogue(found.inference, found.model)


def _offered(config: Path | None) -> list[dict[str, Any]]:
    from inference.settings import shipped_bundles

    shipped = set(shipped_bundles())
    return [
        {
            "name": bundle.name,
            "version": bundle.version,
            "kind": bundle.spec.kind,
            "labels": [label.name for label in bundle.labels],
            "thresholds": {
                label.name: {"low": label.thresholds.low, "high": label.thresholds.high}
                for label in bundle.labels
            },
            "weights_sha256": bundle.identity.weights_sha256,
            "source": "shipped, for demonstration" if bundle.path in shipped else _source(bundle),
        }
        for bundle in _bundles(config).values()
    ]


def _source(bundle: Bundle) -> str:
    """Return the folder of a bundle and, where it says so, what it was made from."""
    metadata = json.loads((bundle.path / "configs" / "metadata.json").read_text(encoding="utf-8"))
    made_from = metadata.get("source")
    name = made_from.get("name") if isinstance(made_from, dict) else None
    return f"{bundle.path} (from {name})" if name else str(bundle.path)


def _in_words(row: dict[str, Any]) -> dict[str, str]:
    thresholds = row["thresholds"]
    told = {f"{limits['low']:g}/{limits['high']:g}" for limits in thresholds.values()}
    each = (f"{name} {one['low']:g}/{one['high']:g}" for name, one in thresholds.items())
    return {
        "labels": ", ".join(row["labels"]),
        "thresholds": told.pop() if len(told) == 1 else ", ".join(each),
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from inference.public import offers

    console = wide_console()
    if not rows:
        console.print("no models are offered")
    table = Table("model", "version", "kind", "labels", "Absent below/Present from", "weights",
                  "source")  # fmt: skip
    for row in rows:
        words = _in_words(row)
        table.add_row(
            row["name"],
            row["version"],
            row["kind"],
            words["labels"],
            words["thresholds"],
            row["weights_sha256"][:12],
            row["source"],
        )
    if rows:
        console.print(table)
    console.print("To add a published reader: preread models add NAME, with one of")
    for offer in offers():
        console.print(f"  {offer.name}  {number_of(len(offer.labels), 'finding')}; trained on "
                      f"{offer.trained_on}")  # fmt: skip


def _require_digest(sha256: str | None) -> None:
    if sha256 is None:
        return
    if len(sha256) != 64 or not set(sha256.lower()) <= set("0123456789abcdef"):
        raise DeployError(f"--sha256 {sha256!a} is not 64 hexadecimal digits")
