"""A report as one self-contained HTML page, for people without an SR viewer."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from pydicom.dataset import Dataset

from .. import codes
from ..reading import Code, Presence
from .template import concept_name, concept_value
from .text import text_value
from .validate_report import inputs_of

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; background: #fff }
h1 { font-size: 1.5rem; margin: 0 0 .25rem } h2 { font-size: 1.1rem; margin: 1.75rem 0 .5rem }
.flag { background: #fff3cd; border: 1px solid #d9b94a; padding: .5rem .75rem; margin: 1rem 0 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid #d5dae0;
         vertical-align: top }
th { font-weight: 600; color: #4a5560 } td.number { text-align: right; white-space: nowrap }
.Present { font-weight: 700; color: #8a1c0c } .Absent { color: #1d5e2f }
.Undetermined { font-weight: 600; color: #6b4e00 }
code { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .5rem 0 }
dt { color: #4a5560 } dd { margin: 0; overflow-wrap: anywhere }
"""


def render_html(ds: Dataset) -> str:
    """Return a structured report of ours as an HTML page without any reference to elsewhere.

    Parameters
    ----------
    ds : Dataset
        A report, built or read from its file.
    """
    items = list(ds.get("ContentSequence") or ())
    title = str(ds.get("SeriesDescription") or "Report")
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>',
        f"<style>{_STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        *_patient(ds),
        f'<p class="flag">{escape(_flags(ds))}</p>',
        *_outcome(items),
        *_findings(items),
        *_device(items),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _patient(ds: Dataset) -> Iterator[str]:
    rows = (
        ("Patient", _name(ds)),
        ("Patient ID", ds.get("PatientID")),
        ("Birth date, sex", f"{ds.get('PatientBirthDate') or ''} {ds.get('PatientSex') or ''}"),
        ("Accession number", ds.get("AccessionNumber")),
        ("Study date", _date(ds.get("StudyDate"))),
        ("Study", ds.get("StudyInstanceUID")),
        ("Read", f"{_date(ds.get('ContentDate'))} {_time(ds.get('ContentTime'))}"),
        ("Images read", str(len(inputs_of(ds)))),
    )
    yield from _list((name, str(value or "").strip()) for name, value in rows)


def _name(ds: Dataset) -> str:
    groups = [
        group.replace("^", " ").strip() for group in str(ds.get("PatientName") or "").split("=")
    ]
    return " / ".join(filter(None, groups))


def _date(value: object) -> str:
    """Return YYYYMMDD with hyphens, anything else as it is."""
    text = str(value or "")
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def _time(value: object) -> str:
    text = str(value or "")
    return f"{text[:2]}:{text[2:4]}" if len(text) >= 4 and text[:4].isdigit() else text


def _flags(ds: Dataset) -> str:
    words = ("CompletionFlag", "PreliminaryFlag", "VerificationFlag", "ContentQualification")
    said = ", ".join(str(ds[word].value) for word in words if word in ds)
    comment = next(_texts(list(ds.get("ContentSequence") or ()), codes.COMMENT), "")
    return f"{said}. {comment}"


def _outcome(items: list[Dataset]) -> Iterator[str]:
    yield "<h2>Conclusion</h2>"
    for sentence in _texts(items, codes.CONCLUSION):
        yield f"<p>{escape(sentence)}</p>"


def _findings(items: list[Dataset]) -> Iterator[str]:
    groups = [
        group
        for container in _named(items, codes.IMAGING_MEASUREMENTS)
        for group in _named(list(container.ContentSequence), codes.MEASUREMENT_GROUP)
    ]
    if not groups:
        return
    yield "<h2>Findings</h2><table>"
    yield "<tr><th>Finding</th><th>Site</th><th>Result</th><th>Probability</th><th>Key images</th>"
    for group in groups:
        yield _row(list(group.ContentSequence))
    yield "</table>"


def _row(items: list[Dataset]) -> str:
    label, presence = "", ""
    known = {code: name for name, code in codes.PRESENCE.items()}
    for item in items:
        value = concept_value(item)
        if value in known:
            label, presence = _meaning(concept_name(item)), str(known[value])
    site = next((_meaning(concept_value(i)) for i in _named(items, codes.FINDING_SITE)), "")
    probability = next((text_value(i) for i in _named(items, codes.PROBABILITY)), "")
    numbers = [probability, *(text_value(i) for i in _named(items, codes.VOLUME))]
    images = "<br>".join(
        f"<code>{escape(text_value(item))}</code>"
        for item in _named(items, codes.SOURCE_OF_MEASUREMENT)
    )
    style = presence if presence in set(Presence) else ""
    return (
        f"<tr><td>{escape(label)}</td><td>{escape(site)}</td>"
        f'<td class="{style}">{escape(presence)}</td>'
        f'<td class="number">{"<br>".join(map(escape, numbers))}</td><td>{images}</td>'
    )


def _device(items: list[Dataset]) -> Iterator[str]:
    yield "<h2>Device and algorithm</h2>"
    rows = [
        (name.meaning, text_value(item))
        for name in (
            codes.DEVICE_NAME, codes.DEVICE_MANUFACTURER, codes.DEVICE_MODEL, codes.DEVICE_SERIAL,
            codes.DEVICE_UID,
        )
        for item in _named(items, name)
    ]  # fmt: skip
    groups = [g for c in _named(items, codes.IMAGING_MEASUREMENTS) for g in c.ContentSequence]
    inner = list(groups[0].ContentSequence) if groups else []
    for name in (codes.ALGORITHM_NAME, codes.ALGORITHM_VERSION, codes.ALGORITHM_MANUFACTURER):
        rows += [(name.meaning, text_value(item)) for item in _named(inner, name)]
    yield from _list(rows)


def _list(rows: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> Iterator[str]:
    yield "<dl>"
    for name, value in rows:
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield "</dl>"


def _texts(items: list[Dataset], name: Code) -> Iterator[str]:
    for container in _named(items, codes.QUALITATIVE_EVALUATIONS):
        for item in _named(list(container.ContentSequence), name):
            yield text_value(item)


def _named(items: list[Dataset], name: Code) -> list[Dataset]:
    return [item for item in items if concept_name(item) == name]


def _meaning(code: Code | None) -> str:
    return "" if code is None else code.meaning
