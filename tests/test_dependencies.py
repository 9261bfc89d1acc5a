"""The three lists of dependencies say the same: ranges in pyproject.toml, pins in the lock, ranges again for conda."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
EXTRAS = PYPROJECT["optional-dependencies"]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "snakemake-minimal": "snakemake"}
# What the environment itself is made of, and PyTorch, of which conda gets the tested minor release.
OF_CONDA = {"python", "pip", "setuptools"}
PINNED_IN_CONDA = {"torch"}


def ranges(asked: list[str]) -> dict[str, Requirement]:
    """Requirements by name, those of the kit's own extras in their places."""
    found = {}
    for text in asked:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) == "sepo-kit":
            found |= ranges([each for extra in requirement.extras for each in EXTRAS[extra]])
        else:
            found[canonicalize_name(requirement.name)] = requirement
    return found


WANTED = ranges([*PYPROJECT["dependencies"], *EXTRAS["test"]])
PINS = [
    line.split("==")
    for line in (PROJECT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
]
LOCK = {canonicalize_name(name): version for name, version in PINS}


def test_the_lock_pins_all_that_is_asked_for_within_its_range():
    assert len(WANTED) > 30 and len(LOCK) > len(WANTED)
    assert not WANTED.keys() - LOCK.keys(), "run: make lock"
    outside = [f"{name}=={LOCK[name]}" for name, r in WANTED.items() if LOCK[name] not in r.specifier]
    assert not outside, f"run: make lock ({outside})"


def test_every_line_of_the_lock_is_one_exact_pin():
    assert len(LOCK) == len(PINS)
    for version in LOCK.values():
        assert str(Version(version)) == version


def test_an_extra_is_a_part_of_the_tests_or_of_what_they_ask_for():
    for extra, asked in EXTRAS.items():
        for name, requirement in ranges(asked).items():
            assert str(requirement.specifier) == str(WANTED[name].specifier), f"{name} of the extra {extra}"


def test_conda_gets_the_same_ranges():
    dependencies = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    conda = {}
    for entry in [*(e for e in dependencies if isinstance(e, str)), *pip]:
        name, specifier = re.fullmatch(r"(?:[\w-]+::)?([\w.-]+?)((?:[<>=].*)?)", entry).groups()
        conda[canonicalize_name(CONDA_NAMES.get(name, name))] = specifier
    assert conda.keys() - OF_CONDA == WANTED.keys()
    for name, requirement in WANTED.items():
        if name in PINNED_IN_CONDA:
            assert LOCK[name].startswith(f"{conda[name].lstrip('=')}.")
        else:
            said = set(conda[name].split(","))
            assert said == {str(part) for part in requirement.specifier}, f"{name} in environment.yml"
