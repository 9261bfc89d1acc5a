"""Options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


class InAll(argparse.Action):
    """One list of all that an option is given, however often it is given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        options: argparse.Namespace,
        values: Sequence[Any],
        name: str | None = None,
    ) -> None:
        before = getattr(options, self.dest)
        setattr(options, self.dest, [*([] if before is self.default else before), *values])


def may_keep(command: argparse.ArgumentParser) -> None:
    """Add ``--keep``."""
    command.add_argument(
        "--keep", action="store_true",
        help="take runs as they are that other code made (default: put them aside and make them anew)",
    )  # fmt: skip
