"""Docstrings as the kit writes them: examples stand last, under no heading of their own, so they are given one here.

Without it Napoleon takes them for more entries of the section before, such as Raises.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx

FIRST = 400  # before Napoleon, which listens at 500


def head_examples(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Put the heading before the first example that follows a section."""
    first = next((i for i, line in enumerate(lines) if line.startswith(">>>")), None)
    if first is not None and any(re.fullmatch("-{3,}", line) for line in lines[:first]):
        lines[first:first] = ["Examples", "--------"]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", head_examples, priority=FIRST)
    return {"parallel_read_safe": True}
