"""The files of a user's own game: those of its classes, and of what these import from beside them. No torch.

They are found by the import statements in them, and not by what happens to be loaded: so every process finds the same.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from sepo_kit.games.base import Game

KIT = __name__.partition(".")[0]
INSTALLED = "*.dist-info"  # lies where packages of all kinds are installed side by side


def game_files(game: Game) -> list[Path]:
    """The files outside the kit that decide how ``game`` is played: those of the classes of the game, of its states,
    strategies and demonstrators, of what these inherit from, and all that they import from their own package or, where
    nobody's packages are installed beside them, from beside them.

    Raises
    ------
    ValueError
        One of the classes is in no file.
    """
    found: set[Path] = set()
    for whose, part in _parts(game):
        for kind in type(part).__mro__:
            if _is_own(kind.__module__):
                found |= _with_imports(*_place(kind, whose))
    return sorted(found)


def _parts(game: Game) -> Iterator[tuple[str, object]]:
    """What plays ``game``, with what it is called."""
    name = f"game {game.spec.id}"
    yield name, game
    yield f"the states of {name}", game.initial_state()
    demonstrators = [each for each, _ in game.mixture.demonstrators] if game.mixture else []
    for strategy in (*game.strategies.values(), *demonstrators):
        yield f"strategy {strategy.id} of {name}", strategy


def _is_own(module: str) -> bool:
    """Whether ``module`` is neither the kit's nor Python's."""
    top = module.partition(".")[0]
    return top != KIT and top not in sys.stdlib_module_names


def _place(kind: type, whose: str) -> tuple[Path, Path]:
    """The file of a class, and the folder where the full name of its module begins."""
    try:
        file = Path(inspect.getfile(kind))
        file.stat()  # one in an archive is none
    except (OSError, TypeError):
        raise ValueError(
            f"the class of {whose} is in no file, so that nobody could tell whether it was changed; write it into a "
            "module of its own and import it"
        ) from None
    spec = getattr(sys.modules[kind.__module__], "__spec__", None)
    name = spec.name if spec else kind.__module__  # which is "__main__" under "python -m"
    return file, file.parents[name.count(".") + (file.stem == "__init__")]


@cache  # what runs is what was imported, whatever is edited meanwhile
def _with_imports(file: Path, root: Path) -> frozenset[Path]:
    """``file``, the packages that it is in, and all that they import under ``root``, and what these import."""
    place = file.relative_to(root)
    alone = place.with_suffix("").parts[0] if any(root.glob(INSTALLED)) else None
    found, waiting = set(), [file, *_files(root, place.parent.parts)]
    while waiting:
        if (file := waiting.pop()) in found:
            continue
        found.add(file)
        for name in _imported(file, root):
            parts = name.split(".")
            if _is_own(name) and alone in (None, parts[0]):
                waiting += _files(root, parts)
    return frozenset(found)


def _imported(file: Path, root: Path) -> Iterator[str]:
    """The full names that ``file`` imports, inside functions too: of modules, and of what is in them."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):  # compiled, or half edited
        return
    package = file.relative_to(root).parent.parts
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            begin = [*above, *([node.module] if node.module else [])]
            yield from (".".join([*begin, each.name]) for each in node.names)


def _files(root: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The files under ``root`` that an import of the name of these ``parts`` runs, those of packages on the way too."""
    for count in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:count])
        yield from (each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file())
