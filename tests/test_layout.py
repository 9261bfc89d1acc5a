"""The layout shows the architecture: imports run one way, and what must start fast does not load what is slow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sepo_kit

PACKAGE = Path(sepo_kit.__file__).parent
# From the bottom to the top: a room imports only rooms to its left, and itself.
ROOMS = (
    "children", "runs", "games", "play", "objective", "training", "evaluation", "figures", "lab_figures", "profiles",
    "notebooks", "launch", "widgets", "reproduce", "cli",
)  # fmt: skip
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


@pytest.mark.parametrize(
    ("module", "slow"),
    [("games", "torch"), ("objective.exact", "torch"), ("widgets.lab", "torch"), ("figures", "torch")],
)
def test_light_rooms_do_not_load_heavy_libraries(module, slow):
    code = f"import sys, sepo_kit.{module}; sys.exit({slow!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
