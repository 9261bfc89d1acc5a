"""Tables as HTML, every text in them escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from sepo_kit.widgets.common import escaped

# Blue is the reader's or the better side, orange the other's or the worse, as in the figures (dark enough for text).
STYLE = """
.sepo-page { max-width: 960px }
.sepo-page table { border-collapse: collapse; line-height: 1.4 }
.sepo-page th, .sepo-page td { padding: 3px 10px; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--jp-border-color2, #ddd) }
.sepo-page .sepo-number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.sepo-page caption { text-align: left; font-weight: 600; padding: 6px 0 }
.sepo-page .sepo-you { color: #0173b2 } .sepo-page .sepo-other { color: #b85600 }
.sepo-page .sepo-said { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5 }
.sepo-page button:focus-visible { outline: 2px solid #0173b2; outline-offset: 1px }
"""


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
    """``value`` in ``form``; "" where there is none.

    >>> number(2.0), number(float("nan")), number(0.5, "+.2f")
    ('2', '', '+0.50')
    """
    return "" if pd.isna(value) else f"{value:{form}}"
