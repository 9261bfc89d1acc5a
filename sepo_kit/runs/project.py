"""Where the notebooks, configurations and tables lie: a checkout, or a folder that ``sepo-kit init`` has made."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
STARTER = PACKAGE / "starter"  # in an installed wheel: what a checkout has beside the package
# What a project begins with: its folder -> the starter's.
PARTS = {
    "notebooks": "notebooks",
    "configs/accelerate": "accelerate",
    "configs/slurm": "slurm",
    "data/paper": "paper",
}
SIGN = Path("notebooks", "01_games.ipynb")  # what a project is known by
VARIABLE = "SEPO_KIT_PROJECT"


def is_checkout() -> bool:
    """Whether the package is run from a checkout, which is a project itself."""
    return (PACKAGE.parent / "pyproject.toml").is_file() and (PACKAGE.parent / SIGN).is_file()


def find_project() -> Path:
    """The checkout; without one the folder that $SEPO_KIT_PROJECT names, else the nearest project from the current
    folder upwards, else the current folder."""
    if is_checkout():
        return PACKAGE.parent
    if named := os.environ.get(VARIABLE):
        return Path(named).resolve()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / SIGN).is_file()), here)


PROJECT = find_project()


def source_of(part: str) -> Path:
    """Where what a project begins with in its folder ``part`` comes from."""
    return PACKAGE.parent / part if is_checkout() else STARTER / PARTS[part]


def require_project() -> None:
    """ValueError where there are no notebooks."""
    if not (PROJECT / SIGN).is_file():
        raise ValueError(
            f"{PROJECT} is no project, it has no {SIGN}; make one: sepo-kit init FOLDER, and work there"
        )


def init(folder: Path | str) -> list[Path]:
    """Make a project in ``folder``, which may exist: notebooks, configurations, the published tables. The files made.

    Raises
    ------
    ValueError
        One of them is there already, or ``folder`` is no folder.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder, new or without a project")
    todo = {
        folder / part / file.name: file
        for part in PARTS
        for file in sorted(source_of(part).iterdir())
        if file.is_file() and file.suffix != ".py"
    }
    there = [path for path in todo if path.exists()]
    if there:
        raise ValueError(f"{there[0]} is there already; name a folder without a project")
    for path, file in todo.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, path)
    return list(todo)


def slug(name: str) -> str:
    """A name as files, folders and rules have it.

    >>> slug("06_evaluation pico/kuhn")
    '06_evaluation_pico_kuhn'
    """
    return re.sub(r"[^\w.,=-]", "_", name)


def runs_folder(profile: str) -> Path:
    """The project's folder of the runs of a profile, by its name. Other seeds are more runs beside the profile's,
    another way to train has a folder of its own.

    >>> runs_folder("quick,seeds=5").name, runs_folder("quick,exploiters=pool and worst-case").name
    ('quick', 'quick,exploiters=pool_and_worst-case')
    """
    return PROJECT / "runs" / slug(without_seeds(profile))


def without_seeds(profile: str) -> str:
    """The name of a profile without how many seeds it has.

    >>> without_seeds("quick,seeds=5,mode=shared")
    'quick,mode=shared'
    """
    return ",".join(each for each in profile.split(",") if not each.startswith("seeds="))


def profile_of(runs: Path) -> str:
    """The profile whose runs lie in a folder, with its change where that has a folder in the profile's.

    >>> profile_of(Path("runs/quick")), profile_of(Path("runs/quick/mode=shared"))
    ('quick', 'quick,mode=shared')
    """
    return f"{runs.parent.name},{runs.name}" if "=" in runs.name.partition(",")[0] else runs.name
