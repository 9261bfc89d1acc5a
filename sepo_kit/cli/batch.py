"""``sepo-kit reproduce`` and ``sepo-kit notebook``: notebooks, headless."""

from __future__ import annotations

import argparse
from pathlib import Path

from sepo_kit.cli.options import InAll, may_keep


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands that run notebooks to the commands of a parser."""
    reproduce = commands.add_parser("reproduce", help="run all notebooks of a profile, headless")
    reproduce.add_argument(
        "--profile",
        default="quick",
        help="smoke, quick (default), worst-case, study, reasoned, smollm2 or paper; with changes: quick,steps=50",
    )
    reproduce.add_argument("--runs", type=Path, help="where runs go (default: runs/PROFILE)")
    reproduce.add_argument(
        "--figures", type=Path, help="where figures go (default: figures; smoke, or a part: in the runs)"
    )
    reproduce.add_argument(
        "--results", type=Path, help="where tables go (default: data/results; smoke, or a part: in the runs)"
    )
    reproduce.add_argument(
        "--jobs", "--workers", type=int, metavar="N",
        help="notebooks at a time (default: one per GPU, one per core where there is none; on a cluster: as many as "
        "there are)",
    )  # fmt: skip
    reproduce.add_argument(
        "--only", nargs="+", action=InAll, default=(), metavar="NAME",
        help="only these notebook runs and what they need: 06, or with wildcards, as '05*pico/kuhn'",
    )  # fmt: skip
    reproduce.add_argument(
        "--games", nargs="+", action=InAll, metavar="GAME", help="only these of the profile"
    )
    reproduce.add_argument(
        "--models", nargs="+", action=InAll, metavar="MODEL", help="only these of the profile"
    )
    reproduce.add_argument(
        "--seeds", type=int, metavar="N", help="how many, from 0 on (default: the profile's)"
    )
    reproduce.add_argument(
        "--modes", nargs="+", action=InAll, metavar="MODE",
        help="train under each of these: credited, alignment, grouped, shared, auxiliary (default: the profile's)",
    )  # fmt: skip
    reproduce.add_argument(
        "--exploiters", nargs="+", action=InAll, metavar="WHO",
        help="train against each of these: pool, worst-case, 'pool and worst-case' (default: the profile's)",
    )  # fmt: skip
    reproduce.add_argument("--dry-run", action="store_true", help="say which notebooks would run, and why")
    reproduce.add_argument("--on", metavar="CLUSTER", help="slurm, as configs/slurm says (default: here)")
    reproduce.add_argument(
        "--retries", type=int, default=2, metavar="N",
        help="more attempts where a notebook was killed or hung (default: 2); any other error is final",
    )  # fmt: skip
    reproduce.add_argument(
        "--limit", type=float, metavar="MINUTES",
        help="that one notebook may take (default: 30 times its first guess, an hour at least)",
    )  # fmt: skip
    reproduce.add_argument(
        "--report", type=Path, metavar="FILE",
        help="write a page (.html, .zip) on the batch: what ran when and how, figures, tables",
    )  # fmt: skip
    may_keep(reproduce)
    reproduce.set_defaults(run=_reproduce)

    notebook = commands.add_parser("notebook", help="run one notebook, headless")
    notebook.add_argument("name", help="such as 05_sepo_training, or its beginning: 05")
    notebook.add_argument(
        "-p", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"),
        help="a parameter, NAME VALUE or NAME=VALUE, as the notebook's first cell declares it",
    )  # fmt: skip
    notebook.add_argument(
        "--output",
        type=Path,
        help="the executed copy (default: in runs/notebooks, by its name and parameters)",
    )
    may_keep(notebook)
    notebook.set_defaults(run=_notebook)


def _reproduce(options: argparse.Namespace) -> None:
    from sepo_kit.pipeline.plans import Profile
    from sepo_kit.pipeline.profiles import get_profile, with_changes
    from sepo_kit.pipeline.reproduce import reproduce
    from sepo_kit.pipeline.tasks import Part
    from sepo_kit.runs.project import PROJECT, require_project, runs_folder, slug

    require_project()
    # Other seeds are more runs beside the profile's, another way to train is another profile.
    name = with_changes(options.profile, seeds=options.seeds)
    changes = [
        {"mode": mode, "exploiters": exploiters}
        for mode in options.modes or (None,)
        for exploiters in options.exploiters or (None,)
    ]
    profiles = [
        get_profile(with_changes(name, **each)).only(options.models, options.games) for each in changes
    ]
    root = (options.runs or runs_folder(options.profile)).resolve()
    # A smoke run proves that everything runs; its numbers are not worth keeping beside real ones. And a part of a
    # profile, or a changed one, is no replacement for the tables of the whole.
    inside = options.profile.startswith("smoke") or any(
        (options.models, options.games, options.only, "," in profiles[0].name)
    )

    def part(profile: Profile, each: dict) -> Part:
        own = root / slug(with_changes("", **each).lstrip(",")) if any(each.values()) else root
        outside = None if inside else (PROJECT / "figures", PROJECT / "data" / "results")
        figures, results = outside or (own / "figures", own / "tables")
        if len(profiles) > 1:
            given = [folder and folder / own.name for folder in (options.figures, options.results)]
        else:
            given = [options.figures, options.results]
        return Part(profile, own, (given[0] or figures).resolve(), (given[1] or results).resolve())

    for option, folder in (("--figures", options.figures), ("--results", options.results)):
        if folder is not None and folder.is_file():
            raise ValueError(f"{option} must be a folder, {folder} is a file")
    if options.figures and options.results and options.figures.resolve() == options.results.resolve():
        raise ValueError(
            f"--figures and --results must be two folders, both are {options.figures}: pictures and tables have files "
            "of the same names"
        )
    if options.jobs is not None and options.jobs < 1:
        raise ValueError(f"--jobs must be >= 1, got {options.jobs}")
    if options.report and options.report.suffix not in (".html", ".zip"):
        raise ValueError(f"--report must end in .html or .zip, got {options.report}")
    reproduce(
        [part(*each) for each in zip(profiles, changes, strict=True)], root, options.jobs, dry_run=options.dry_run,
        names=options.only, retries=options.retries, limit_minutes=options.limit, on=options.on, report=options.report,
    )  # fmt: skip


def _notebook(options: argparse.Namespace) -> None:
    from sepo_kit.pipeline.notebooks import executed_name, find_notebook, read_parameters, run_notebook
    from sepo_kit.pipeline.parameters import split_pairs
    from sepo_kit.runs.project import PROJECT

    name = find_notebook(options.name)
    given = split_pairs(options.p)
    output = options.output or PROJECT / "runs" / "notebooks" / executed_name(name, given)
    run_notebook(name, read_parameters(name, given), output.resolve())
    print(f"executed notebook: {output}")
