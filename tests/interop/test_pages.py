"""The pages of docs/interop: each program runs and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "interop").glob("*.md"))
PACKAGES = {"open_spiel": "pyspiel", "trl": "trl"}


def program_and_output(page: Path) -> tuple[str, str]:
    """The page's one program, and the block after it."""
    text = page.read_text(encoding="utf-8")
    ((program, output),) = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)
    return program, output


def test_there_is_a_page_for_each_interface():
    assert [page.stem for page in PAGES] == ["gymnasium", "open_spiel", "pettingzoo", "trl", "verifiers"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_program_prints_what_it_says(page, capsys):
    package = PACKAGES.get(page.stem, page.stem)
    pytest.importorskip(package, reason=f"the extra {page.stem} is not installed")
    program, output = program_and_output(page)
    exec(compile(program, page.name, "exec"), {"__name__": "page"})
    assert capsys.readouterr().out == output
    assert output.strip()
