"""``sepo-kit export``, ``push`` and ``figures``: what goes out of the kit."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands that publish to the commands of a parser."""
    export = commands.add_parser(
        "export", help="a run as a folder for transformers, PEFT or llama.cpp, with a model card"
    )
    export.add_argument("model", help="a finished run; or a base model, for the adapters that belong on it")
    export.add_argument("folder", type=Path, help="where it goes: a new folder")
    forms = export.add_mutually_exclusive_group()
    for form, text in (
        ("merged", "safetensors with all that was trained in them (default)"),
        ("adapter", "LoRA for the raw base model"),
        ("gguf", "one file, by llama.cpp's converter (from the folder in LLAMA_CPP, or on the PATH)"),
    ):
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form, help=text)
    export.add_argument(
        "--episodes", type=int, default=20, metavar="N",
        help="per opponent, for the card's numbers where they cannot be enumerated; 0 for none (default: 20)",
    )  # fmt: skip
    export.set_defaults(run=_export, form="merged")

    push = commands.add_parser(
        "push", help="what export wrote, to a model hub; the token comes from HF_TOKEN"
    )
    push.add_argument("folder", type=Path)
    push.add_argument("hub_id", help="owner/name")
    push.add_argument("--dry-run", action="store_true", help="only list the files that would go; no network")
    push.add_argument("--public", action="store_true", help="for all to see (default: a new one is private)")
    push.set_defaults(run=_push)

    figures = commands.add_parser(
        "figures", help="draw the published pictures and tables anew from their data; nothing is trained"
    )
    figures.add_argument(
        "names", nargs="*", metavar="NAME", help="only these, as in 'training-*' (default: all)"
    )
    figures.add_argument("--figures", type=Path, help="where they and their data are (default: figures)")
    figures.add_argument(
        "--results",
        type=Path,
        help="the folder of their tables (default: where each picture's JSON file says)",
    )
    figures.add_argument("--output", type=Path, help="where they go (default: where they are)")
    figures.add_argument(
        "--tables", type=Path, metavar="FILE", help="all tables of --results (default: those of data/results, "
        "into build/tables.md, where all published pictures are drawn)",
    )  # fmt: skip
    figures.set_defaults(run=_figures)


def _export(options: argparse.Namespace) -> None:
    import sepo_kit as sk

    folder = sk.export(options.model, options.folder, options.form, episodes=options.episodes)
    print(f"written: {folder} ({options.form})")


def _push(options: argparse.Namespace) -> None:
    import sepo_kit as sk

    files = sk.push(options.folder, options.hub_id, dry_run=options.dry_run, private=not options.public)
    for file in files:
        print(
            f"{'would go' if options.dry_run else 'went'}: {file} ({(options.folder / file).stat().st_size:,} bytes)"
        )


def _figures(options: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    from sepo_kit.figures import redraw

    folder, results = options.figures or redraw.FIGURES, options.results
    names = redraw.published(folder, options.names)
    for _ in tqdm(redraw.redraw(names, folder, results, options.output), total=len(names), unit="picture"):
        pass
    print(f"{len(names)} pictures drawn into {options.output or folder}")
    everything = not options.names and (results or not options.figures)  # nobody's own pictures alone
    if options.tables or everything:
        page = redraw.write_tables(options.tables or redraw.TABLES, results or redraw.RESULTS)
        print(f"written: {page}")
