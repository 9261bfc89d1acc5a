"""``{command-line}``: every command of ``sepo-kit`` with its options, asked of its parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sepo_kit.cli import parser


class CommandLine(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(lines()), allow_section_headings=True)


def lines() -> Iterator[str]:
    """A section for each command, as Markdown."""
    (commands,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    told = {choice.dest: choice.help for choice in commands._choices_actions}
    for name, command in commands.choices.items():
        command.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=78)
        yield f"## {name}\n\n{told[name][:1].upper()}{told[name][1:]}.\n\n```text\n{command.format_help()}```\n"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
