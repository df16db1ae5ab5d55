"""A report as one self-contained HTML page, for people without an SR viewer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from pydicom.dataset import Dataset

from .. import codes
from .listed import Listed, children, headline, listed, named, positions, texts, title_of
from .page_pictures import STYLE, PagePicture, looked
from .text import text_value
from .validate_report import inputs_of

_UNKNOWN: Final = "not stated"
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


def render_html(ds: Dataset, pictures: Sequence[PagePicture] = ()) -> str:
    """Return a structured report of ours as an HTML page without any reference to elsewhere.

    Parameters
    ----------
    ds : Dataset
        A report, built or read from its file.
    pictures : sequence of PagePicture
        Key images with maps of where the model looked.
    """
    title = headline(ds)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>',
        f"<style>{_STYLE}{STYLE if pictures else ''}</style>",
        f"<h1>{escape(title)}</h1>",
        *_patient(ds),
        f'<p class="flag">{escape(_flags(ds))}</p>',
        *_outcome(ds),
        *_findings(ds),
        *looked(pictures, positions(ds)),
        *_device(ds),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _patient(ds: Dataset) -> Iterator[str]:
    sex = ds.get("PatientSex") or _UNKNOWN
    rows = (
        ("Patient", _name(ds)),
        ("Patient ID", ds.get("PatientID")),
        ("Birth date, sex", f"{_date(ds.get('PatientBirthDate')) or _UNKNOWN}, {sex}"),
        ("Accession number", ds.get("AccessionNumber")),
        ("Study date", _date(ds.get("StudyDate"))),
        ("Study", ds.get("StudyInstanceUID")),
        ("Read", f"{_date(ds.get('ContentDate'))} {_time(ds.get('ContentTime'))}"),
        ("Images read", str(len(inputs_of(ds)))),
    )
    yield from _list((name, str(value or "").strip() or _UNKNOWN) for name, value in rows)


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
    comment = next(texts(ds, codes.COMMENT), "")
    return f"{said}. {comment}"


def _outcome(ds: Dataset) -> Iterator[str]:
    yield "<h2>Conclusion</h2>"
    for sentence in texts(ds, codes.CONCLUSION):
        yield f"<p>{escape(sentence)}</p>"


def _findings(ds: Dataset) -> Iterator[str]:
    found, at = listed(ds), positions(ds)
    if not found:
        return
    yield "<h2>Findings</h2><table>"
    yield "<tr><th>Finding</th><th>Site</th><th>Result</th><th>Probability</th><th>Key images</th>"
    for one in found:
        yield _row(one, title_of(one, found), at)
    yield "</table>"


def _row(one: Listed, title: str, at: dict[str, float]) -> str:
    images = "<br>".join(
        f"<code>{escape(uid)}</code>" + (f" at {at[uid]:.1f} mm" if uid in at else "")
        for uid in one.images
    )
    presence = "" if one.presence is None else str(one.presence)
    return (
        f"<tr><td>{escape(title)}</td><td>{escape(one.site)}</td>"
        f'<td class="{presence}">{presence}</td>'
        f'<td class="number">{"<br>".join(map(escape, one.numbers))}</td><td>{images}</td>'
    )


def _device(ds: Dataset) -> Iterator[str]:
    items = children(ds)
    yield "<h2>Device and algorithm</h2>"
    rows = [
        (name.meaning, text_value(item))
        for name in (
            codes.DEVICE_NAME, codes.DEVICE_MANUFACTURER, codes.DEVICE_MODEL, codes.DEVICE_SERIAL,
            codes.DEVICE_UID,
        )
        for item in named(items, name)
    ]  # fmt: skip
    groups = [g for c in named(items, codes.IMAGING_MEASUREMENTS) for g in c.ContentSequence]
    inner = list(groups[0].ContentSequence) if groups else []
    for name in (codes.ALGORITHM_NAME, codes.ALGORITHM_VERSION, codes.ALGORITHM_MANUFACTURER):
        rows += [(name.meaning, text_value(item)) for item in named(inner, name)]
    yield from _list(rows)


def _list(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield "<dl>"
    for name, value in rows:
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield "</dl>"
