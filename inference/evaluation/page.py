"""Pieces of a page that stands alone: no script, nothing fetched, readable on a phone."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:66rem;color:#1d2733;background:#fff;
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:.2rem 0 .6rem}
h2{font-size:1.2rem;margin:2.2rem 0 .6rem;padding-top:.8rem;border-top:2px solid #1d2733}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
p{margin:.4rem 0}
a{color:#1f6feb}
.banner{background:#fff4e0;border-left:4px solid #c2410c;padding:.5rem .8rem;margin:.8rem 0}
.note{color:#556270;font-size:.88rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.28rem .6rem;text-align:left;border-bottom:1px solid #d8dee6;vertical-align:top}
th{font-weight:600}
thead th{border-bottom:2px solid #8a97a6;white-space:nowrap}
td.n,th.n{text-align:right;white-space:nowrap}
tr.named td{background:#eef4ff}
.facts th{font-weight:400;color:#556270;padding-left:0;white-space:nowrap}
.facts td{overflow-wrap:anywhere}
.tiles{display:flex;flex-wrap:wrap;gap:.6rem;margin:.6rem 0}
.tile{flex:1 1 9.5rem;border:1px solid #d8dee6;border-radius:.4rem;padding:.45rem .7rem}
.tile b{display:block;font-size:1.35rem;line-height:1.3}
.tile span{color:#556270;font-size:.85rem}
.plots{display:grid;grid-template-columns:1fr;gap:.4rem}
@media(min-width:34rem){.plots{grid-template-columns:1fr 1fr}}
@media(min-width:58rem){.plots{grid-template-columns:repeat(4,1fr)}}
.plots img{width:100%;height:auto;display:block}
.plots .none{border:1px dashed #8a97a6;border-radius:.4rem;padding:1rem;color:#556270}
.pair{display:flex;flex-wrap:wrap;gap:1rem 3rem}
.matrix td{text-align:center;min-width:6.2rem}
.matrix td.right{background:#e3f1e6}
.matrix td.wrong{background:#fbe6de}
.matrix td b{display:block;font-size:1.15rem}
.losses{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.9rem}
.losses figure{margin:0;border:1px solid #d8dee6;border-radius:.4rem;overflow:hidden}
.losses .frame{background:#000;display:flex;justify-content:center}
.losses img{max-width:100%;height:auto;display:block}
.losses figcaption{padding:.35rem .6rem;font-size:.86rem}
nav{margin:.6rem 0}nav a{margin-right:.9rem;white-space:nowrap}
@media print{.losses figure,.plots img{break-inside:avoid}}
"""


def document(title: str, body: Iterable[str]) -> str:
    """Return a whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numeric: int = 1,
    marked: Sequence[bool] = (),
) -> str:
    """Return a table that scrolls by itself where the screen is narrow.

    Parameters
    ----------
    head : sequence of str
        Plain text.
    rows : iterable of sequence of str
        Plain text.
    numeric : int
        From this column on cells are numbers.
    marked : sequence of bool
        Which rows stand out.
    """

    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = ("" if at < numeric else ' class="n"' for at in range(len(values)))
        return "".join(
            f"<{tag}{kind}>{escape(value)}</{tag}>"
            for kind, value in zip(kinds, values, strict=True)
        )

    lines = []
    for at, row in enumerate(rows):
        kind = ' class="named"' if at < len(marked) and marked[at] else ""
        lines.append(f"<tr{kind}>{cells('td', row)}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", head)}</tr></thead>\n'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return names and values as a table of two columns."""
    lines = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="scroll"><table class="facts">{"".join(lines)}</table></div>'


def tiles(values: Iterable[tuple[str, str, str]]) -> str:
    """Return the figures that are read first: name, number, and what stands below it."""
    parts = (
        f'<div class="tile"><span>{escape(name)}</span><b>{escape(number)}</b>'
        f"<span>{escape(below)}</span></div>"
        for name, number, below in values
    )
    return f'<div class="tiles">{"".join(parts)}</div>'


def svg_image(svg: str, alt: str, missing: str) -> str:
    """Return a drawing as an image of its own, so that names inside two never clash."""
    if not svg:
        return f'<div class="none">{escape(alt)}: {escape(missing)}</div>'
    return f'<img alt="{escape(alt)}" src="{_data("image/svg+xml", svg.encode())}">'


def picture(jpeg: bytes | None, alt: str, caption: str) -> str:
    """Return a picture with its caption; words alone where it could not be made."""
    shown = (
        "<p>cannot be shown</p>"
        if jpeg is None
        else f'<img alt="{escape(alt)}" src="{_data("image/jpeg", jpeg)}">'
    )
    return (
        f'<figure><div class="frame">{shown}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
