"""One notebook, headless through papermill: its parameters checked, its error in one line.

The order of notebooks is in ``reproduce.py``.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sepo_kit.games.base import Weights
from sepo_kit.pipeline.children import Child, ended_by_sigterm
from sepo_kit.pipeline.node import NO_KERNEL
from sepo_kit.pipeline.parameters import as_yaml, parameter
from sepo_kit.pipeline.record import NOTEBOOKS
from sepo_kit.runs.project import PROJECT, require_project, slug

LONGEST = 120  # of the name of an executed notebook, in characters
START_SECONDS = 300  # that a kernel may take on a busy machine


class NotebookFailed(RuntimeError):
    """A notebook ended with an error."""


def find_notebook(name: str) -> str:
    """The notebook that is called ``name``, or begins with it: ``06``, ``06_evaluation.ipynb``, a path to it.

    Raises
    ------
    ValueError
        None is, or several are.
    """
    require_project()
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    asked = Path(name).name.removesuffix(".ipynb")
    found = [stem for stem in known if stem == asked] or [
        stem for stem in known if asked and stem.startswith(asked)
    ]
    if len(found) != 1:
        raise ValueError(
            f"{'several notebooks begin with' if found else 'unknown notebook'} {name!r}; known: {', '.join(known)}"
        )
    return found[0]


def read_parameters(notebook: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Parameters as texts, read as what the notebook declares them to be; ValueError where one cannot be."""
    declared = check_parameters(notebook, given)
    return {
        name: parameter(name, text, declared[name]["inferred_type_name"], declared[name]["default"])
        for name, text in given.items()
    }


def check_parameters(notebook: str, parameters: Collection[str]) -> dict[str, dict[str, str]]:
    """What the notebook declares, by name; ValueError unless it exists and has every parameter."""
    import papermill

    require_project()
    if not (NOTEBOOKS / f"{notebook}.ipynb").exists():
        known = ", ".join(sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb")))
        raise ValueError(f"unknown notebook {notebook!r}; known: {known}")
    known = papermill.inspect_notebook(str(NOTEBOOKS / f"{notebook}.ipynb"))
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(
            f"notebook {notebook} has no parameter {', '.join(map(repr, unknown))}; it has: {', '.join(known)}"
        )
    return known


def executed_name(notebook: str, given: Mapping[str, str]) -> str:
    """The file name of a notebook that was run with the parameters ``given``, as texts: others have another.

    >>> executed_name("06_evaluation", {"model": "pico", "game": "kuhn"})
    '06_evaluation_game=kuhn_model=pico.ipynb'
    """
    told = "_".join([notebook, *(f"{name}={text}" for name, text in sorted(given.items()))])
    name = slug(told)
    if len(name) > LONGEST or name != told:
        name = f"{name[:LONGEST]}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    return f"{name}.ipynb"


def run_notebook(notebook: str, parameters: dict[str, Any], output: Path) -> None:
    """Run one notebook in the foreground, once more where its kernel never came up; its executed copy goes to
    ``output``, also where it fails.

    Raises
    ------
    ValueError
        Unknown notebook or parameter.
    NotebookFailed
        A cell ended with an error.
    """
    check_parameters(notebook, parameters)
    line, log = command(notebook, parameters, output), output.with_suffix(".log")
    with ended_by_sigterm():
        child = _ended(line, log)
        if child.failed and any(words in child.error() for words in NO_KERNEL):
            child = _ended(line, log)
    if child.failed:
        raise NotebookFailed(f"{notebook} failed: {child.error()}\nits log: {log}")


def _ended(line: list[str], log: Path) -> Child:
    child = Child(line, log, folder=PROJECT)
    try:
        while child.runs(60):
            pass
    finally:
        child.stop()
    return child


def command(notebook: str, parameters: dict[str, Any], output: Path) -> list[str]:
    return [
        sys.executable, "-m", "papermill", str(NOTEBOOKS / f"{notebook}.ipynb"), str(output),
        "--parameters_yaml", as_yaml(parameters), "--no-progress-bar", "--log-output", "--cwd", str(PROJECT),
        "--start-timeout", str(START_SECONDS),
    ]  # fmt: skip


def training_lines(profile: str, model: str, game: str, weights: Weights, folder: Path | str) -> list[str]:
    """Command lines, for the project's folder, that take ``model`` from base to an evaluated SEPO agent under other
    ``weights``, with everything else as ``profile`` has it; all of it goes into the new run ``folder``.

    >>> from sepo_kit.games.base import Weights
    >>> print(training_lines("quick", "pico", "ipd", Weights(2.4, 1, 0), "runs/mine")[1])
    sepo-kit notebook 05_sepo_training --output runs/mine/notebooks/05_sepo_training-pico-ipd.ipynb -p profile quick
    -p model pico -p game ipd -p runs runs/mine -p exploit_weight 2.4 -p collusion_weight 1 -p externality_weight 0
    """
    folder = Path(folder)
    if folder.is_relative_to(PROJECT):
        folder = folder.relative_to(PROJECT)
    common = {"profile": profile, "model": model, "game": game, "runs": str(folder)}
    weighed = {f"{name}_weight": f"{value:.12g}" for name, value in vars(weights).items()}
    lines = []
    for notebook, more in (("04_sft_warm_start", {}), ("05_sepo_training", weighed), ("06_evaluation", {})):
        given = [word for item in {**common, **more}.items() for word in ("-p", *item)]
        output = folder / "notebooks" / slug(f"{notebook}-{model}-{game}.ipynb")
        lines.append(["sepo-kit", "notebook", notebook, "--output", str(output), *given])
    return [shlex.join(line) for line in lines]
