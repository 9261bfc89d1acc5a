"""The agents behind results, ready to play again as they were evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from sepo_kit.adversaries.opponents import resolve_agent
from sepo_kit.engine.policy import Policy
from sepo_kit.evaluation.results import KEYS, read_result


def agents_of(files: Iterable[Path | str]) -> Iterator[tuple[dict, Policy]]:
    """The label of each result file with its agent; a trained one is loaded from the run folder beside the results.

    Raises
    ------
    RunError, OSError
        A result or a run is missing or broken.
    """
    for file in files:
        result = read_result(file)
        label, settings = {key: result["label"][key] for key in KEYS}, result["settings"]
        folder = Path(file).parents[1] / f"{label['stage']}-seed-{label['seed']}"
        source = label["model"] if label["seed"] is None else f"run:{folder}"
        how = {key: settings[key] for key in ("temperature", "style", "max_new_tokens")}
        yield label, resolve_agent(label["game"], source, **how)


def games_of(files: Iterable[Path | str]) -> dict[Path, str]:
    """The game of each result file."""
    return {Path(file): read_result(file)["label"]["game"] for file in files}
