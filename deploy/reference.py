"""The reference in ``deploy/docs/reference.md``, made from the code so that it cannot lag behind.

``python -m deploy.reference`` writes it; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from db.views import VIEWS
from inference.reading import NotAnalysed
from scp.status import StoreStatus

from .cli import app
from .metrics import METRICS
from .settings import PREFIX, describe
from .worker_metrics import WORKER_METRICS

PATH = Path(__file__).with_name("docs") / "reference.md"

_NOT_ANALYSED = {
    NotAnalysed.WRONG_VIEW: "a lateral or other view that the model does not read",
    NotAnalysed.WRONG_BODY_PART: "another body part",
    NotAnalysed.WRONG_MODALITY: "another modality or SOP class",
    NotAnalysed.TOO_FEW_SLICES: "a localizer or a fragment of a volume",
    NotAnalysed.MISSING_SLICES: "gaps in the volume",
    NotAnalysed.DUPLICATE_SLICES: "too many slices at a position that another one has",
    NotAnalysed.UNEVEN_SPACING: "distances of slices that differ from those next to them",
    NotAnalysed.NO_GEOMETRY: "slices whose headers do not say where they lie in space",
    NotAnalysed.CONTRAST: "with a contrast agent, or without one, against the model's rule",
    NotAnalysed.KERNEL: "a reconstruction kernel that the model does not read",
    NotAnalysed.NOT_AN_IMAGE: "an object without pixels",
    NotAnalysed.NOT_A_PATIENT: "declared to be a phantom, or named as the site names its phantoms",
    NotAnalysed.UNDECODABLE: "pixels that cannot be decoded, or fewer than the header says",
    NotAnalysed.UNSUPPORTED_PIXELS: "a pixel format that the model does not read",
}

_CONDITIONS = {
    '"HEAD"': "a value is this one; case does not count, nor which of several values it is",
    '"*TRAUMA*"': "a value matches the pattern, with *, ? and [...]",
    '""': "the attribute is absent or empty",
    '["HEAD", "BRAIN"]': "one of these holds",
    "{ min = 512, max = 1024 }": "a number is within bounds, both included; one may be left out",
    "{ absent = true }": "the attribute is absent or empty; with false: it is not",
    '{ words = ["head", "brain"] }': "one of the words stands in the text as a whole word",
    '{ not = "*lateral*" }': "no value matches, or the attribute is absent; also with a list",
}


def reference() -> str:
    """Return the reference as Markdown."""
    return "\n".join(
        [
            "# Reference",
            "",
            "Made from the code by `python -m deploy.reference`; do not edit.",
            "",
            *_settings(),
            *_conditions(),
            *_commands(),
            *_views(),
            *_statuses(),
            *_metrics(),
        ]
    )


def _settings() -> Iterator[str]:
    yield from (
        "## Settings",
        "",
        "In the TOML file as `[table]` and `key`, in the environment as "
        f"`{PREFIX}TABLE__KEY` (`scp.port` is `{PREFIX}SCP__PORT`). `[[name]]` may be repeated.",
        "",
        "| setting | default | meaning |",
        "| --- | --- | --- |",
    )
    for name, default, description in describe():
        yield f"| `{name}` | `{_cell(default)}` | {_cell(description)} |"
    yield ""


def _conditions() -> Iterator[str]:
    yield from (
        "## Conditions of rules",
        "",
        "What stands in `when` of a `[[rule]]`; all of it must hold. A key is a DICOM keyword, a "
        "path into sequences (`ViewCodeSequence.CodeMeaning`), or several of these with `|`, of "
        "which one must hold.",
        "",
        "| condition | holds when |",
        "| --- | --- |",
    )
    for condition, meaning in _CONDITIONS.items():
        yield f"| `{condition}` | {_cell(meaning)} |"
    yield from (
        "",
        "`when` sees the data sets of images alone, not the head of a file. `calling_ae` and "
        "`called_ae` hold if one association that brought an image of the series, for the first "
        "time or again, was asked for by such AE titles; of images whose rows were rebuilt nobody "
        "knows who sent them. For an image the first rule of a model holds. Where images of a "
        "series have a model by different rules, it is as urgent as the most urgent of them says, "
        "and its results are delivered unless all of them are `shadow`. A rule "
        "without `priority` takes that of the first rule without `model` that holds; without such "
        "a one it makes stat of a series whose Requested Procedure Priority (0040,1003), in the "
        "image or its Request Attributes Sequence, or Study Priority ID (0032,000C) is STAT or "
        "HIGH. An analysis that waits as a routine one becomes stat if its series is routed so "
        "later. `preread rules test FILE... --calling TITLE` answers for files.",
        "",
    )


def _commands() -> Iterator[str]:
    yield from (
        "## Commands",
        "",
        "Commands that need settings take `--config FILE`; without it the file is that of "
        "`PREREAD_CONFIG`, else `./preread.toml` if there.",
        "",
        "| command | what it does |",
        "| --- | --- |",
    )
    for name, command in _walk("preread", get_command(app)):
        summary = " ".join((command.help or "").split("\n\n")[0].split())
        yield f"| `{name}` | {_cell(summary)} |"
        for parameter in command.params:
            if parameter.name not in ("help", "config") and not parameter.hidden:
                meaning = _cell(getattr(parameter, "help", ""))
                yield f"| &nbsp;&nbsp;`{_spelling(parameter)}` | {meaning} |"
    yield from (
        "",
        "Exit status: 0 done; 1 done in part (a file not stored, work still in progress, a check "
        "that is bad); 2 refused, with one line that names the file, tag or setting; 75 the "
        "database or the disk is away for now, try again later.",
        "",
    )


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child in children:
        yield from _walk(f"{name} {child}", children[child])


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name).upper()
    return str(max(parameter.opts, key=len))


def _views() -> Iterator[str]:
    yield from ("## SQL views", "")
    for name, columns in VIEWS.items():
        yield from (f"### {name}", "", "| column | meaning |", "| --- | --- |")
        for column, meaning in columns.items():
            yield f"| `{column}` | {_cell(meaning)} |"
        yield ""


def _statuses() -> Iterator[str]:
    yield from (
        "## DIMSE statuses",
        "",
        "What a C-STORE is answered (PS3.4 Annex B.2.3, PS3.7 Annex C).",
        "",
        "| status | when |",
        "| --- | --- |",
    )
    for status in StoreStatus:
        yield f"| 0x{status:04X} | {status.name.lower().replace('_', ' ')} |"
    yield from (
        "",
        "## Why images are not analysed",
        "",
        "`reason_code` in `v_turnaround`, and in the report.",
        "",
        "| code | when |",
        "| --- | --- |",
    )
    for code in NotAnalysed:
        yield f"| `{code}` | {_NOT_ANALYSED[code]} |"
    yield from (
        "",
        "Which pixels are read, and what is noted where something was assumed or repaired, stands "
        "in [pixels](pixels.md).",
        "",
    )


def _metrics() -> Iterator[str]:
    yield from (
        "## Metrics",
        "",
        "With `metrics.port` set, `preread up` (or `preread scp`) answers `/metrics` in the text "
        "format of Prometheus, for all acceptors together.",
        "",
        "| metric | kind | label | meaning |",
        "| --- | --- | --- | --- |",
    )
    for metric in (*METRICS, *WORKER_METRICS):
        label = f"`{metric.label}`" if metric.label else ""
        yield f"| `{metric.name}` | {metric.kind} | {label} | {_cell(metric.meaning)} |"
    yield ""


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(reference(), encoding="utf-8")
