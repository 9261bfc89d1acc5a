"""Options that several commands have."""

from __future__ import annotations

import argparse


def may_keep(command: argparse.ArgumentParser) -> None:
    """Add ``--keep``."""
    command.add_argument(
        "--keep", action="store_true",
        help="take runs as they are that other code made (default: put them aside and make them anew)",
    )  # fmt: skip
