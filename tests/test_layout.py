"""The layout shows the architecture: imports run one way, and what must start fast does not load what is slow."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sepo_kit

PACKAGE = Path(sepo_kit.__file__).parent
TESTS = Path(__file__).parent
# From the bottom to the top, as the README lists them: a room imports only rooms to its left, and itself.
ROOMS = (
    "games", "runs", "engine", "objective", "exact", "models", "adversaries", "training", "study", "evaluation",
    "pipeline", "figures", "widgets", "interop", "cli",
)  # fmt: skip
LIGHT = ("games", "runs", "engine", "objective", "exact")  # no torch below models
MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or not path.stem.startswith("__")
)


def room(parts: tuple[str, ...]) -> str:
    return parts[1].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Rooms of the kit that a module imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {room(tuple(name.split("."))) for name in names if name.startswith("sepo_kit.")} & set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    own = room(("sepo_kit", *path.relative_to(PACKAGE).parts))
    above = [r for r in imported(path) if ROOMS.index(r) > ROOMS.index(own)]
    assert not above, f"{own} stands below {', '.join(above)}"


@pytest.mark.parametrize("name", [*LIGHT, "widgets.lab", "figures"])
def test_light_rooms_do_not_load_torch(name):
    modules = [f"sepo_kit.{name}"]
    if name in LIGHT:
        files = (PACKAGE / name).rglob("*.py")
        modules += [".".join(("sepo_kit", *f.relative_to(PACKAGE).with_suffix("").parts)) for f in files]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_folder_is_a_room_and_every_room_has_tests():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(ROOMS)
    assert not [name for name in folders if not list((TESTS / name).glob("test_*.py"))]


def test_the_readme_lists_the_rooms_in_their_order():
    listed = re.findall(r"^\| `sepo_kit/(\w+)(?:/|\.py)` \|", (TESTS.parent / "README.md").read_text(), re.M)
    assert tuple(listed) == ROOMS


@pytest.mark.parametrize("package", ["sepo_kit", *(f"sepo_kit.{r}" for r in ROOMS)])
def test_no_public_name_hides_a_module(package):
    """``import sepo_kit.play.rollout`` once failed, since the function ``sk.play`` hid the package."""
    module = importlib.import_module(package)
    folder = Path(module.__file__).parent
    hidden = [
        path.stem
        for path in folder.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and not path.stem.startswith("__")
        if not inspect.ismodule(getattr(module, path.stem, module))
    ]
    assert not hidden
