"""``sepo-kit init``, ``data`` and ``games``: a folder to work in, and what it can be about."""

from __future__ import annotations

import argparse
from pathlib import Path

from sepo_kit.cli.options import InAll

SHOWN = 9  # actions of a game


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands about a project to the commands of a parser."""
    init = commands.add_parser(
        "init", help="make a project where there is no checkout: notebooks, configurations"
    )
    init.add_argument("folder", type=Path, help="a folder, new or without a project")
    init.set_defaults(run=_init)

    data = commands.add_parser("data", help="write the demonstrations corpus")
    data.add_argument("--folder", type=Path, help="default: data/sft")
    data.add_argument(
        "--games",
        nargs="+",
        action=InAll,
        default=(),
        metavar="GAME",
        help="default: all that have demonstrations",
    )
    data.set_defaults(run=_data)

    games = commands.add_parser("games", help="list games and strategies")
    games.set_defaults(run=_games)


def _init(options: argparse.Namespace) -> None:
    from sepo_kit.runs.project import PROJECT, init, is_checkout
    from sepo_kit.training.demonstrations import write_corpus

    corpus = options.folder / "data" / "sft"  # no wheel has it: it is made, the same everywhere
    if corpus.exists():
        raise ValueError(f"{corpus} is there already; name a folder without a project")
    written = [*init(options.folder), *write_corpus(corpus)]
    told = f"{len(written)} files in {options.folder}"
    if is_checkout():
        print(
            f"{told}. The commands of this checkout go on working in {PROJECT}; those of a wheel work there."
        )
    else:
        print(f"{told}. Now: cd {options.folder} && sepo-kit reproduce --profile smoke")


def _data(options: argparse.Namespace) -> None:
    from sepo_kit.runs import file_hash
    from sepo_kit.runs.project import PROJECT, require_project
    from sepo_kit.training.demonstrations import write_corpus

    if options.folder is None:
        require_project()
    for path in write_corpus(options.folder or PROJECT / "data" / "sft", options.games):
        print(f"{path}  sha256 {file_hash(path)}")


def _games(options: argparse.Namespace) -> None:
    import sepo_kit as sk

    for game in sk.GAMES.values():
        spec = game.spec
        more = f", ... and {len(spec.actions) - SHOWN} more" if len(spec.actions) > SHOWN else ""
        print(f"{spec.id}: {spec.title}, {spec.rounds} {spec.unit}s, {', '.join(spec.actions[:SHOWN])}{more}")
        for pool in ("train", "exploit", "collusive", "shift"):
            print(f"  {pool:<10} {', '.join(spec.pools[pool]) or '-'}")
