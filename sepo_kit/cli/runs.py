"""``sepo-kit runs`` and ``sepo-kit trace``: what the command line says of run folders and of files made from them."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from sepo_kit.cli.options import InAll
from sepo_kit.runs import shelf
from sepo_kit.runs.files import RunError
from sepo_kit.runs.lock import holder, is_held
from sepo_kit.runs.table_rows import pairs
from sepo_kit.runs.trace import trace


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``runs`` and ``trace`` to the commands of a parser."""
    runs = commands.add_parser("runs", help="list, show, verify, clean, move or record run folders")
    kinds = runs.add_subparsers(required=True, metavar="list|show|verify|clean|move|record")
    listed = kinds.add_parser("list", help="all runs under a folder")
    _root(listed)
    listed.set_defaults(run=_list)
    shown = kinds.add_parser("show", help="one run: where it stands, where it comes from, who writes there")
    shown.add_argument("folder", type=Path)
    shown.set_defaults(run=_show)
    verified = kinds.add_parser(
        "verify", help="are the files of runs, results and figures as they were written?"
    )
    _root(verified)
    verified.set_defaults(run=_verify)
    cleaned = kinds.add_parser("clean", help="delete what killed processes left; no run, no result")
    _root(cleaned)
    cleaned.add_argument(
        "--aside", action="store_true", help="delete runs that were put aside as well (.old-N)"
    )
    cleaned.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    cleaned.set_defaults(run=_clean)
    moved = kinds.add_parser("move", help="move a run folder")
    moved.add_argument("folder", type=Path)
    moved.add_argument("target", type=Path)
    moved.set_defaults(run=_move)
    recorded = kinds.add_parser("record", help="copy a finished run without its weights, to publish it")
    recorded.add_argument("folder", type=Path)
    recorded.add_argument("target", type=Path)
    recorded.add_argument("--weights", action="store_true", help="with those it ended with")
    recorded.set_defaults(run=_record)

    traced = commands.add_parser(
        "trace", help="what a file was made from, and the command that makes it again"
    )
    traced.add_argument(
        "file", type=Path, help="a picture, its data, a table, a result, a run or a file in one"
    )
    traced.add_argument("--source", type=Path, help="the table's JSON file, where the kit does not find it")
    traced.add_argument(
        "--row", nargs="+", action=InAll, default=[], metavar="NAME=VALUE",
        help="of a table, only what these rows come from: model=pico game=kuhn stage=sepo metric=safety",
    )  # fmt: skip
    traced.set_defaults(run=_trace)


def _root(command: argparse.ArgumentParser) -> None:
    command.add_argument("root", type=Path, nargs="?", default=Path("runs"), help="default: runs")


def _list(options: argparse.Namespace) -> None:
    for folder in shelf.run_folders(options.root):
        print(f"{folder}: {_in_words(folder)}")


def _in_words(folder: Path) -> str:
    try:
        told = shelf.described(folder)
    except (RunError, OSError) as error:
        return f"broken: {error}"
    seed = "" if told["seed"] is None else f" seed {told['seed']}"
    step = f", step {told['step']}" if "step" in told else ""
    return f"{told['stage']} {told['game']}{seed}, {told['status']}{step}, {told['MB']} MB"


def _show(options: argparse.Namespace) -> None:
    found = trace(options.folder)
    print(f"{options.folder}: {_in_words(options.folder)}")
    with suppress(RunError, OSError):  # broken, as has just been said
        print(f"  made on {shelf.described(options.folder)['machine'] or 'an unknown machine'}")
    if is_held(options.folder):
        print(f"  held by {holder(options.folder)}")
    print("\n".join(found.lines()[1:]))
    for name, value in sorted(found.settings.items()):
        print(f"  {name} = {value}")


def _verify(options: argparse.Namespace) -> None:
    if not options.root.exists():
        raise RunError(f"{options.root} is missing; name a folder of runs, results or figures")
    files, bad = 0, 0
    for _, problems in shelf.verify(options.root):
        files += 1
        bad += bool(problems)
        for problem in problems:
            print(problem)
    if bad:
        raise RunError(f"{bad} of {files} do not verify; make again what has changed, or put it back")
    print(f"{files} verified, nothing has changed")


def _clean(options: argparse.Namespace) -> None:
    clean = shelf.leftovers if options.dry_run else shelf.clean
    found = clean(options.root, options.aside)
    for path in found:
        print(path)
    print(f"{len(found)} {'to delete' if options.dry_run else 'deleted'}")


def _move(options: argparse.Namespace) -> None:
    print(f"moved to {shelf.move(options.folder, options.target)}")


def _record(options: argparse.Namespace) -> None:
    target = shelf.record(options.folder, options.target, options.weights)
    print(f"recorded as {target}, {shelf.described(target)['MB']} MB")


def _trace(options: argparse.Namespace) -> None:
    print("\n".join(trace(options.file, options.source, pairs(options.row)).lines()))
