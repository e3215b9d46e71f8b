"""One HTML page without scripts and without other files: every text is escaped here, every picture is inside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

Cell = str | float | int | None
_NONE = "–"

_STYLE = """
:root { color-scheme: light; --ink: #1f2933; --soft: #5b6875; --line: #dfe4ea; --bar: #cfe0f2; --accent: #2563a8; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.2rem 1.6rem 4rem; max-width: 72rem; color: var(--ink); background: #fff;
       font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .5rem; padding-top: .9rem; border-top: 2px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .3rem 0 .7rem; max-width: 52rem; }
.soft, .missing, figcaption { color: var(--soft); }
.missing { border-left: 3px solid #d9822b; padding-left: .7rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: .6rem 1rem; min-width: 8.5rem; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.2; color: var(--accent); }
.tile span { color: var(--soft); font-size: .82rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .24rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; }
table.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td.bar { background: linear-gradient(to right, var(--bar) var(--part), transparent var(--part)); min-width: 5.5rem; }
tr.lead td { font-weight: 600; }
i.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .5em; border-radius: 2px; border: 1px solid #0002; }
figure { margin: .6rem 0 1.2rem; break-inside: avoid; }
img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .85rem; margin-top: .2rem; }
@media print { body { max-width: none; padding: 0; font-size: 11px; } h2 { break-after: avoid; } table { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


class Page:
    """Grows from top to bottom; `html` is the whole page."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[str] = [f"<h1>{escape(title)}</h1>"]

    def heading(self, text: str, level: int = 2) -> None:
        """Start a section."""
        self._parts.append(f"<h{level}>{escape(text)}</h{level}>")

    def text(self, text: str, kind: str = "") -> None:
        """Add a paragraph; kind "soft" is grey, "missing" marks what is left out."""
        self._parts.append(f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>")

    def tiles(self, figures: Iterable[tuple[str, str]]) -> None:
        """Add (value, caption) pairs in large print."""
        tiles = (f'<div class="tile"><b>{escape(value)}</b><span>{escape(caption)}</span></div>' for value, caption in figures)
        self._parts.append(f'<div class="tiles">{"".join(tiles)}</div>')

    def facts(self, rows: Iterable[tuple[str, str]]) -> None:
        """Add a table of names and texts."""
        body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
        self._parts.append(f'<div class="wide"><table class="facts">{body}</table></div>')

    def table(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        bars: Sequence[int] = (),
        swatches: Sequence[tuple[int, int, int]] = (),
        lead: int = 0,
    ) -> None:
        """Add a table of figures: floats with one decimal, integers with thin spaces, None as a dash.

        Args:
            head: Column headings.
            rows: Cells.
            bars: Columns of percentages that get a bar.
            swatches: A colour in front of each row.
            lead: The first so many rows are bold.
        """
        lines = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"]
        for index, row in enumerate(rows):
            cells = []
            for column, value in enumerate(row):
                swatch = ""
                if column == 0 and index < len(swatches):
                    red, green, blue = map(int, swatches[index])
                    swatch = f'<i class="swatch" style="background:rgb({red},{green},{blue})"></i>'
                style = ""
                if column in bars and isinstance(value, float):
                    style = f' class="bar" style="--part:{min(100.0, max(0.0, value)):.1f}%"'
                cells.append(f"<td{style}>{swatch}{escape(_text(value))}</td>")
            row_class = ' class="lead"' if index < lead else ""
            lines.append(f"<tr{row_class}>{''.join(cells)}</tr>")
        self._parts.append(f'<div class="wide"><table>{"".join(lines)}</table></div>')

    def picture(self, content: bytes, caption: str) -> None:
        """Add a picture, PNG or JPEG, with the text below it."""
        kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
        source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        self._parts.append(f'<figure><img alt="{escape(caption)}" src="{source}"><figcaption>{escape(caption)}</figcaption></figure>')

    @property
    def html(self) -> str:
        """The page."""
        head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(self._title)}</title>'
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n'
            + "\n".join(self._parts)
            + "\n</body></html>\n"
        )


def _text(value: Cell) -> str:
    if value is None:
        return _NONE
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}".replace(",", "\u2009") if isinstance(value, int) else value
