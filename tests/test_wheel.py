"""What an installed wheel can do where there is no checkout: make a project and work in it, or say what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib

import nbformat
import pytest

from sepo_kit.runs.project import PACKAGE, PARTS, PROJECT, SIGN, init, source_of

BESIDE = ("pyproject.toml", "README.md", "LICENSE", "sepo_kit", "notebooks", "configs", "data/paper")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of processes that find the wheel, and no checkout."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in BESIDE:
        if (PROJECT / name).is_dir():  # others may be compiling there
            shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(PROJECT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    quiet = ["--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *quiet, "-w", str(source / "dist"), str(source)], check=True)
    (wheel,) = (source / "dist").glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True
    )
    return {**os.environ, "PYTHONPATH": str(site)}


def sepo_kit(installed, folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "sepo_kit", *arguments],
        env=installed, cwd=folder, capture_output=True, text=True,
    )  # fmt: skip


def test_it_makes_a_project_and_runs_a_notebook_there(installed, tmp_path):
    made = sepo_kit(installed, tmp_path, "init", "mine")
    assert made.returncode == 0, made.stderr
    project = tmp_path / "mine"
    for part in PARTS:
        there = {path.name for path in (project / part).iterdir()}
        assert there == {path.name for path in (PROJECT / part).iterdir() if path.is_file()}
    corpora = {path.name for path in (project / "data" / "sft").iterdir()}
    assert corpora == {path.name for path in (PROJECT / "data" / "sft").iterdir()} - {"README.md"}
    chosen = ["-p", "games", "[kuhn]", "-p", "episodes", "20"]
    ran = sepo_kit(installed, project, "notebook", "01_games", *chosen)
    assert ran.returncode == 0, ran.stderr
    (executed,) = (project / "runs" / "notebooks").glob("01_games*.ipynb")
    cells = nbformat.read(executed, as_version=4).cells
    assert "release " in str([cell.get("outputs") for cell in cells])  # which code it was, without a commit
    again = sepo_kit(installed, tmp_path, "init", "mine")
    assert again.returncode == 2 and "is there already; name a folder without a project" in again.stderr


@pytest.mark.parametrize("command", [["reproduce", "--profile", "smoke"], ["notebook", "01_games"], ["data"]])
def test_without_a_project_it_says_how_to_make_one(installed, tmp_path, command):
    found = sepo_kit(installed, tmp_path, *command)
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert "is no project" in found.stderr and "sepo-kit init FOLDER" in found.stderr
    assert not list(tmp_path.iterdir())


def test_a_checkout_is_a_project_and_can_make_another(tmp_path):
    assert PACKAGE.parent == PROJECT and (PROJECT / SIGN).is_file()
    assert source_of("data/paper") == PROJECT / "data" / "paper"
    assert tmp_path / SIGN in init(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file; name a folder"):
        init(tmp_path / "file")


def test_every_room_is_in_the_wheel():
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    rooms = {".".join(("sepo_kit", *f.parent.relative_to(PACKAGE).parts)) for f in PACKAGE.rglob("*.py")}
    assert {name for name in declared if not name.startswith("sepo_kit.starter")} == rooms
