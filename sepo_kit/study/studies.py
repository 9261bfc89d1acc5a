"""The studies of rivals, by name."""

from __future__ import annotations

from pathlib import Path

from sepo_kit.study.ablations import ABLATIONS
from sepo_kit.study.exploiters import EXPLOITERS
from sepo_kit.study.late import LATE

STUDIES = {study.name: study for study in (EXPLOITERS, ABLATIONS, LATE)}


def missing_studies(folder: Path | str) -> dict[str, str]:
    """Which studies have nothing in ``folder``, the mechanism study (``credit``) among them, by the command that makes
    each there."""
    commands = {"credit": "sepo-kit study tabular", **{s: f"sepo-kit study pico --{s}" for s in STUDIES}}
    return {study: command for study, command in commands.items() if not any(Path(folder).glob(f"{study}-*"))}
