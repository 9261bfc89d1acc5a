"""``sepo-kit`` on the command line, also ``python -m sepo_kit``: a file for each group of its commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from sepo_kit.cli import batch, judging, project, publishing, runs, training
from sepo_kit.runs import KEEP, first_line, is_out_of_memory, memory_said

EXPECTED = (ValueError, OSError, FloatingPointError, MemoryError)
GROUPS = (batch, judging, training, publishing, runs, project)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. Expected errors become one line on standard error and status 2."""
    options = parser().parse_args(arguments)
    if getattr(options, "keep", False):
        os.environ[KEEP] = "1"  # the processes that are started see it too
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on", file=sys.stderr)
        return 130
    except EXPECTED as error:
        print(f"sepo-kit: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if is_out_of_memory(error):
            print(f"sepo-kit: memory ran out ({memory_said(error)}): {first_line(error)}", file=sys.stderr)
            return 2
        if type(error).__name__ != "NotebookFailed":
            raise
        print(f"sepo-kit: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Of all commands."""
    made = argparse.ArgumentParser(
        prog="sepo-kit",
        description="Safe Equilibrium Policy Optimization (arXiv 2605.30854): a research kit.",
    )
    made.add_argument("--version", action="version", version=f"sepo-kit {version('sepo_kit')}")
    commands = made.add_subparsers(required=True, metavar="command")
    for group in GROUPS:
        group.add_commands(commands)
    return made
