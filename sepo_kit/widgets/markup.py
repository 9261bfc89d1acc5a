"""Tables as HTML, every text in them escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from sepo_kit.figures.look import DARK_PICTURES
from sepo_kit.widgets.common import escaped

# Blue is the reader's or the better side, orange the other's or the worse, as in the figures (dark enough for text).
STYLE = (
    DARK_PICTURES
    + """
.sepo-page { max-width: 960px; --sepo-you: #0173b2; --sepo-other: #b05200 }
[data-jp-theme-light="false"] .sepo-page { --sepo-you: #6fb7e8; --sepo-other: #f0a05a }
.sepo-page table { border-collapse: collapse; line-height: 1.4 }
.sepo-page th, .sepo-page td { padding: 3px 10px; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--jp-border-color2, #ddd) }
.sepo-page .sepo-number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.sepo-page caption { text-align: left; font-weight: 600; padding: 6px 0 }
.sepo-page .sepo-you { color: var(--sepo-you) } .sepo-page .sepo-other { color: var(--sepo-other) }
.sepo-page .sepo-said { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5 }
.sepo-page button:focus-visible { outline: 2px solid var(--sepo-you); outline-offset: 1px }
.sepo-page .jupyter-widgets-disconnected::before { display: none }
.sepo-page.jupyter-widgets-disconnected::before { display: block; padding: 6px 10px; margin: 0; font: inherit;
  color: var(--jp-ui-font-color1, #222); border-left: 4px solid var(--sepo-other);
  content: "This is what was saved. Run the cell to use the controls." }
"""
)


def html_table(name: str, caption: str, heads: Iterable[tuple[str, str]], rows: Sequence[str]) -> str:
    """A table of class ``name``: ``heads`` are pairs (text, kind), ``rows`` lines of ``cell``s in ``<tr>``."""
    head = "".join(f'<th class="sepo-{kind}">{escaped(text)}</th>' for text, kind in heads)
    return (
        f'<table class="{name}"><caption>{escaped(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def cell(text: object, kind: str = "text", **data: object) -> str:
    """A cell of class ``sepo-KIND`` with ``data-*`` attributes; its text is shown as it is written."""
    marks = "".join(f' data-{name}="{escaped(value)}"' for name, value in data.items())
    return f'<td class="sepo-{kind}"{marks}>{escaped(text)}</td>'


def number(value: float | None, form: str = "g") -> str:
    """``value`` in ``form``; "" where there is none, and no minus before a zero.

    >>> number(2.0), number(float("nan")), number(0.5, "+.2f"), number(-0.0001, ".3f")
    ('2', '', '+0.50', '0.000')
    """
    if pd.isna(value):
        return ""
    written = f"{value:{form}}"
    return f"{0.0:{form}}" if float(written) == 0 else written
