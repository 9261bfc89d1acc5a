"""``sepo-kit`` on the command line, also ``python -m sepo_kit``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from sepo_kit.games.base import POOLS, REPLY_STYLES
from sepo_kit.runs import KEEP, first_line, is_out_of_memory, memory_said
from sepo_kit.runs.command import add_commands

EXPECTED = (ValueError, OSError, FloatingPointError, MemoryError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. Expected errors become one line on standard error and status 2."""
    options = _parser().parse_args(arguments)
    if getattr(options, "keep", False):
        os.environ[KEEP] = "1"  # the processes that are started see it too
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on", file=sys.stderr)
        return 130
    except EXPECTED as error:
        print(f"sepo-kit: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if is_out_of_memory(error):
            print(f"sepo-kit: memory ran out ({memory_said(error)}): {first_line(error)}", file=sys.stderr)
            return 2
        if type(error).__name__ != "NotebookFailed":
            raise
        print(f"sepo-kit: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sepo-kit",
        description="Safe Equilibrium Policy Optimization (arXiv 2605.30854): a research kit.",
    )
    parser.add_argument("--version", action="version", version=f"sepo-kit {version('sepo_kit')}")
    commands = parser.add_subparsers(required=True, metavar="command")

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
        "--only", nargs="+", default=(), metavar="NAME",
        help="only these notebook runs and what they need: 06, or with wildcards, as '05*pico/kuhn'",
    )  # fmt: skip
    reproduce.add_argument("--games", nargs="+", metavar="GAME", help="only these of the profile")
    reproduce.add_argument("--models", nargs="+", metavar="MODEL", help="only these of the profile")
    reproduce.add_argument(
        "--seeds", type=int, metavar="N", help="how many, from 0 on (default: the profile's)"
    )
    reproduce.add_argument(
        "--modes", nargs="+", metavar="MODE",
        help="train under each of these: credited, alignment, grouped, shared, auxiliary (default: the profile's)",
    )  # fmt: skip
    reproduce.add_argument(
        "--exploiters", nargs="+", metavar="WHO",
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
    _may_keep(reproduce)
    reproduce.set_defaults(run=_reproduce)

    notebook = commands.add_parser("notebook", help="run one notebook, headless")
    notebook.add_argument("name", help="such as 05_sepo_training, or its beginning: 05")
    notebook.add_argument(
        "-p", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"),
        help="a parameter, NAME VALUE or NAME=VALUE, as the notebook's first cell declares it",
    )  # fmt: skip
    notebook.add_argument(
        "--output", type=Path, help="the executed copy (default: runs/notebooks/NAME.ipynb)"
    )
    _may_keep(notebook)
    notebook.set_defaults(run=_notebook)

    evaluate = commands.add_parser("evaluate", help="evaluate a model or a strategy on a game")
    evaluate.add_argument("game")
    evaluate.add_argument(
        "agent",
        help="a strategy id of the game, run:PATH[@STEP], model:NAME, endpoint:NAME, a model's name or folder",
    )
    evaluate.add_argument(
        "--opponent", nargs="+", metavar="NAME",
        help="play against these alone: a strategy id, self, worst-case, fitted, axelrod:NAME, run:PATH[@STEP], "
        "model:NAME, endpoint:NAME",
    )  # fmt: skip
    for pool in POOLS:
        evaluate.add_argument(
            f"--{pool}-pool", nargs="+", metavar="NAME", help=f"opponents in place of the game's {pool} pool"
        )
    evaluate.add_argument("--episodes", type=int, default=20, help="per opponent (default: 20)")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--exact", action="store_true", help="enumerate instead of sampling")
    evaluate.add_argument(
        "--control-variate", action="store_true", help="take out what the luck of nature's draws explains"
    )
    evaluate.add_argument(
        "--replies", type=int, metavar="N",
        help="ask an agent that answers in words N times in every information state, where those are few, and sum over "
        "nature and opponents",
    )  # fmt: skip
    evaluate.add_argument(
        "--width", type=float, help="print how many episodes per opponent give intervals this wide, too"
    )
    evaluate.add_argument(
        "--style",
        choices=REPLY_STYLES,
        help="direct or reasoned (default: as a run was trained, else direct)",
    )
    evaluate.add_argument("--temperature", type=float, help="default: as a run was trained, else 0.8")
    for name in ("exploit", "collusion", "externality"):
        evaluate.add_argument(f"--{name}-weight", type=float, help="default: the game's evaluation weight")
    evaluate.set_defaults(run=_evaluate)

    audit = commands.add_parser(
        "audit", help="what is the worst anyone does to an agent? A page to read, and JSON"
    )
    audit.add_argument(
        "agent", help="a strategy id, run:PATH[@STEP], model:NAME, endpoint:NAME, a model's name or folder"
    )
    audit.add_argument("--games", nargs="+", metavar="GAME", help="default: all")
    audit.add_argument("--folder", type=Path, help="where it goes, and goes on (default: runs/audits/AGENT)")
    audit.add_argument("--quick", action="store_true", help="small numbers, to see whether it works")
    audit.add_argument("--episodes", type=int, help="per opponent (default: 100; --quick: 10)")
    audit.add_argument("--seed", type=int, default=0)
    audit.add_argument(
        "--style",
        choices=REPLY_STYLES,
        help="direct or reasoned (default: as a run was trained, else the agent's own)",
    )
    audit.add_argument(
        "--temperature", type=float, help="default: as a run was trained, else the agent's own"
    )
    audit.add_argument(
        "--learner-steps", type=int, metavar="N",
        help="of an adversary that is trained against it, 0 for none (default: 200, none of an endpoint; --quick: 10)",
    )  # fmt: skip
    audit.set_defaults(run=_audit)

    for stage, help_text in (("train-sft", "supervised warm start"), ("train-sepo", "SEPO training")):
        train = commands.add_parser(stage, help=f"{help_text} of one model on one game")
        train.add_argument("model", help="pico, smollm2-135m, a hub id, a folder")
        train.add_argument("game")
        train.add_argument("folder", type=Path, help="the run folder; an interrupted run goes on there")
        train.add_argument("--profile", default="quick", help="whose hyperparameters (default: quick)")
        train.add_argument("--like", help="the profile's model to take them from (default: the model itself)")
        train.add_argument(
            "--settings", type=Path, metavar="FILE",
            help="a JSON file with the settings, in place of the profile's (every run's manifest has them)",
        )  # fmt: skip
        train.add_argument(
            "-p", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"),
            help="another value of a setting, as in -p steps 60 -p limits '{\"exploit\": 0.1}'; may be repeated",
        )  # fmt: skip
        seeds = train.add_mutually_exclusive_group()
        seeds.add_argument("--seed", type=int, default=0)
        seeds.add_argument(
            "--seeds", type=int, nargs="+", metavar="SEED",
            help="several, one after the other: {seed} in the names of model and folder becomes each of them",
        )  # fmt: skip
        train.add_argument(
            "--report-to", nargs="+", metavar="TRACKER",
            help="trackers that get the curves as well: tensorboard, trackio, wandb",
        )  # fmt: skip
        _may_keep(train)
        train.set_defaults(run=_train, stage=stage)
    train.add_argument(
        "--weights", type=float, nargs=3, metavar=("EXPLOIT", "COLLUSION", "EXTERNALITY"),
        help="penalty weights to train under (default: the profile's)",
    )  # fmt: skip

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

    study = commands.add_parser(
        "study", help="the studies: every credit mode and more, several seeds (hours)"
    )
    study.add_argument("agents", nargs="+", metavar="agent", help="tabular, or a model of the profile (pico)")
    study.add_argument(
        "--games", nargs="+", default=["ipd", "kuhn"], metavar="GAME", help="default: ipd kuhn"
    )
    study.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    instead = study.add_mutually_exclusive_group()
    for name, about in (
        ("exploiters", "who is trained against, each judged by the worst case (tables first, models after)"),
        ("ablations", "as trained, and with one setting changed at a time (models)"),
        ("late", "four times the published steps (models)"),
    ):
        instead.add_argument(
            f"--{name}", dest="rivals_of", action="store_const", const=name, help=f"instead: {about}"
        )
    study.add_argument(
        "--steps",
        type=int,
        help="SEPO steps of a trial (default: 400; of a model, those of its profile or study)",
    )
    study.add_argument("--samples", type=int, default=400, help="sampled gradients (default: 400)")
    study.add_argument(
        "--variants",
        type=int,
        help="only the first so many of the 16; 4: the modes as proposed, 8: all with common draws",
    )
    study.add_argument(
        "--rivals",
        nargs="+",
        metavar="NAME",
        help="with --exploiters and its like: only these, as in: pool worst-case",
    )
    study.add_argument(
        "--profile", help="whose hyperparameters (default: study; of --exploiters and its like: quick)"
    )
    study.add_argument("--workers", type=int, default=1, help="trials at a time (default: 1)")
    study.add_argument(
        "--folder", type=Path, help="where trials go (default: runs/study, runs/exploiters, ...)"
    )
    study.add_argument("--results", type=Path, help="where the table goes (default: data/results)")
    study.set_defaults(run=_study)

    figures = commands.add_parser(
        "figures", help="draw the published pictures and tables anew from their data; nothing is trained"
    )
    figures.add_argument(
        "names", nargs="*", metavar="NAME", help="only these, as in 'training-*' (default: all)"
    )
    figures.add_argument("--figures", type=Path, help="where they and their data are (default: figures)")
    figures.add_argument(
        "--results", type=Path, help="the tables they are drawn from (default: data/results)"
    )
    figures.add_argument("--output", type=Path, help="where they go (default: where they are)")
    figures.add_argument("--tables", type=Path, metavar="FILE", help="all tables (default: build/tables.md)")
    figures.set_defaults(run=_figures)

    best = commands.add_parser(
        "reference",
        help="what there was to win: every strategy and the reference policy of each game (minutes)",
    )
    best.add_argument("--games", nargs="+", metavar="GAME", help="default: the paper's")
    best.add_argument("--results", type=Path, help="where the table goes (default: data/results)")
    best.set_defaults(run=_reference)

    data = commands.add_parser("data", help="write the demonstrations corpus")
    data.add_argument("--folder", type=Path, help="default: data/sft")
    data.add_argument(
        "--games", nargs="+", default=(), metavar="GAME", help="default: all that have demonstrations"
    )
    data.set_defaults(run=_data)

    add_commands(commands)
    init = commands.add_parser(
        "init", help="make a project where there is no checkout: notebooks, configurations"
    )
    init.add_argument("folder", type=Path, help="a folder, new or without a project")
    init.set_defaults(run=_init)

    games = commands.add_parser("games", help="list games and strategies")
    games.set_defaults(run=_games)
    return parser


def _may_keep(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--keep", action="store_true",
        help="take runs as they are that other code made (default: put them aside and make them anew)",
    )  # fmt: skip


def _reproduce(options: argparse.Namespace) -> None:
    from sepo_kit.pipeline.profiles import Profile, get_profile, with_changes
    from sepo_kit.pipeline.record import slug
    from sepo_kit.pipeline.reproduce import reproduce
    from sepo_kit.pipeline.tasks import Part
    from sepo_kit.runs.project import PROJECT, require_project

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
    root = (options.runs or PROJECT / "runs" / slug(options.profile)).resolve()
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
    if options.jobs is not None and options.jobs < 1:
        raise ValueError(f"--jobs must be >= 1, got {options.jobs}")
    if options.report and options.report.suffix not in (".html", ".zip"):
        raise ValueError(f"--report must end in .html or .zip, got {options.report}")
    reproduce(
        [part(*each) for each in zip(profiles, changes, strict=True)], root, options.jobs, dry_run=options.dry_run,
        names=options.only, retries=options.retries, limit_minutes=options.limit, on=options.on, report=options.report,
    )  # fmt: skip


def _notebook(options: argparse.Namespace) -> None:
    from sepo_kit.pipeline.notebooks import find_notebook, read_parameters, run_notebook
    from sepo_kit.pipeline.parameters import split_pairs
    from sepo_kit.runs.project import PROJECT

    name = find_notebook(options.name)
    output = options.output or PROJECT / "runs" / "notebooks" / f"{name}.ipynb"
    run_notebook(name, read_parameters(name, split_pairs(options.p)), output.resolve())
    print(f"executed notebook: {output}")


def _evaluate(options: argparse.Namespace) -> None:
    import sepo_kit as sk
    from sepo_kit.adversaries.opponents import resolve_agent, resolve_all
    from sepo_kit.evaluation.asked import ask, asked_report
    from sepo_kit.evaluation.cross_play import against
    from sepo_kit.evaluation.precision import episodes_needed, require_width

    if options.width is not None:
        require_width(options.width)
    game = sk.get_game(options.game)
    own = game.spec.eval_weights
    given = {n: getattr(options, f"{n}_weight") for n in ("exploit", "collusion", "externality")}
    weights = sk.Weights(**{n: getattr(own, n) if v is None else v for n, v in given.items()})
    how = {n: v for n in ("style", "temperature") if (v := getattr(options, n)) is not None}
    agent = resolve_agent(game, options.agent, **how)
    named = {pool: tuple(chosen) for pool in POOLS if (chosen := getattr(options, f"{pool}_pool"))}
    if options.opponent and (named or options.exact):
        raise ValueError("--opponent plays and prints its matches alone; leave out --exact and the pools")
    if options.width is not None and (options.opponent or options.exact):
        raise ValueError(
            "--width asks how many episodes the game's pools need; leave out --exact and --opponent"
        )
    if options.replies is not None and (
        named or options.exact or options.opponent or options.width is not None
    ):
        raise ValueError(
            "--replies asks the agent itself and sums over the game's own pools; leave out --exact, --width, "
            "--opponent and the pools"
        )
    if options.replies is not None:
        found = asked_report(
            ask(agent, game, options.replies, options.seed), weights, options.seed
        ).to_frame()
    elif options.opponent:
        found = against(
            agent, resolve_all(game, options.opponent, agent), game, options.episodes, options.seed
        )
    else:
        pools = replace(game.spec.pools, **named) if named else None
        report = sk.evaluate(
            agent, game, options.episodes, options.seed, weights, pools=pools, exact=options.exact,
            control_variate=options.control_variate,
        )  # fmt: skip
        found = report.to_frame() if options.width is None else episodes_needed(report, options.width)
    print(found.to_string(index=False, float_format=lambda v: f"{round(v, 4) + 0.0:.4f}"))
    if hasattr(agent, "usage"):  # what an endpoint was asked, and what that cost
        print(agent.usage, file=sys.stderr)


def _audit(options: argparse.Namespace) -> None:
    from sepo_kit.adversaries.opponents import file_label
    from sepo_kit.evaluation.audit import PAGE, QUICK, AuditSettings, audit

    chosen = {n: v for n in ("episodes", "learner_steps") if (v := getattr(options, n)) is not None}
    settings = replace(QUICK if options.quick else AuditSettings(), seed=options.seed, **chosen)
    how = {n: v for n in ("style", "temperature") if (v := getattr(options, n)) is not None}
    label = file_label(options.agent) + ("-quick" if options.quick else "")
    folder = options.folder or Path("runs") / "audits" / label
    found = audit(options.agent, options.games, folder, settings, **how)
    for name, game in found["games"].items():
        if worst := game.get("worst"):
            print(
                f"{name}: {worst[0]['name']} ({worst[0]['source']}) leads by {worst[0]['lead']:.3f} per {game['unit']}"
            )
        else:
            print(f"{name}: left out, {game['not_tried'][0][1]}")
    print(f"written: {folder / PAGE}")


def _train(options: argparse.Namespace) -> None:
    import sepo_kit as sk
    from sepo_kit.pipeline.parameters import split_pairs
    from sepo_kit.pipeline.profiles import EACH_SEED
    from sepo_kit.pipeline.settings_file import changed, read_settings
    from sepo_kit.training.processes import world
    from sepo_kit.training.settings import SEPOSettings, SFTSettings

    game = sk.get_game(options.game).spec.id
    if options.settings:
        kind = SFTSettings if options.stage == "train-sft" else SEPOSettings
        settings = read_settings(options.settings, kind)
    else:
        plan = sk.get_profile(options.profile).plan(options.like or options.model, game)
        settings = plan.sft if options.stage == "train-sft" else plan.sepo
    settings = changed(settings, split_pairs(options.p))
    if getattr(options, "weights", None):
        settings = replace(settings, weights=sk.Weights(*options.weights))
    if options.report_to:
        settings = replace(settings, report_to=tuple(options.report_to))
    seeds = options.seeds or [options.seed]
    if len(seeds) > 1 and EACH_SEED not in str(options.folder):
        raise ValueError(
            f"several seeds need a folder each: write {EACH_SEED} where the seed goes, as in runs/mine-{EACH_SEED}"
        )
    for seed in seeds:
        model, folder = (str(name).replace(EACH_SEED, str(seed)) for name in (options.model, options.folder))
        train = sk.train_sft if options.stage == "train-sft" else sk.train_sepo
        run = train(model, game, folder, settings, seed)
        if world().is_main_process:
            print(f"done: {run.path}")


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


def _study(options: argparse.Namespace) -> None:
    from sepo_kit.pipeline.children import die_with_parent
    from sepo_kit.pipeline.profiles import get_profile
    from sepo_kit.runs.project import PROJECT
    from sepo_kit.study.mechanism import (
        TABULAR,
        VARIANTS,
        estimates,
        run_study,
        trials,
        warm_starts,
        write_study,
    )  # fmt: skip

    for name in ("seeds", "steps", "samples", "workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be >= 1, got {value}")
    if options.rivals_of:
        _study_rivals(options)
        return
    if options.rivals:
        raise ValueError("--rivals are those of another study; add --exploiters, --ablations or --late")
    folder, profile = options.folder or PROJECT / "runs" / "study", get_profile(options.profile or "study")
    steps = options.steps or 400
    for agent in options.agents:
        like = {} if agent == TABULAR else {game: profile.plan(agent, game) for game in options.games}
        bases = warm_starts(agent, {game: plan.sft for game, plan in like.items()}, folder)
        sepo = {game: plan.sepo for game, plan in like.items()}
        seeds, variants = range(options.seeds), VARIANTS[: options.variants]
        todo = trials(agent, options.games, seeds, steps, variants, bases, sepo)
        logs = run_study(todo, folder, options.workers, die_with_parent)
        estimated = estimates(agent, options.games, options.samples, variants, bases, sepo)
        results = options.results or PROJECT / "data" / "results"
        for path in write_study(logs, estimated, todo, folder, results):
            print(f"written: {path}")


def _study_rivals(options: argparse.Namespace) -> None:
    from sepo_kit import figures
    from sepo_kit.pipeline.children import die_with_parent
    from sepo_kit.pipeline.profiles import get_profile
    from sepo_kit.runs.project import PROJECT
    from sepo_kit.study.mechanism import TABULAR, warm_starts
    from sepo_kit.study.rivals import run_rivals, write_rivals
    from sepo_kit.study.studies import STUDIES

    study = STUDIES[options.rivals_of]
    folder = options.folder or PROJECT / "runs" / study.name
    profile = get_profile(options.profile or "quick")
    results = options.results or PROJECT / "data" / "results"
    pictures = options.results or PROJECT / "figures"
    for agent in options.agents:
        like = {} if agent == TABULAR else {game: profile.plan(agent, game) for game in options.games}
        sepo = {game: plan.sepo for game, plan in like.items()}
        chosen = agent, options.games, range(options.seeds), options.steps, options.rivals
        study.trials(
            *chosen, dict.fromkeys(like, agent), sepo
        )  # refuses what is unknown, before anything trains
        bases = warm_starts(agent, {game: plan.sft for game, plan in like.items()}, folder)
        todo = study.trials(*chosen, bases, sepo)
        logs = run_rivals(todo, folder, options.workers, die_with_parent)
        for path in write_rivals(study.name, logs, todo, folder, results):
            print(f"written: {path}")
        figures.style()
        for game in options.games:
            drawn = figures.STUDIES[study.name](logs, game, agent)
            path = figures.save(drawn, logs[logs["game"] == game], pictures, f"{study.name}-{agent}-{game}")
            print(f"written: {path}")


def _figures(options: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    from sepo_kit.figures import redraw

    folder, results = options.figures or redraw.FIGURES, options.results or redraw.RESULTS
    names = redraw.published(folder, options.names)
    for _ in tqdm(redraw.redraw(names, folder, results, options.output), total=len(names), unit="picture"):
        pass
    print(f"{len(names)} pictures drawn into {options.output or folder}")
    if not options.names:
        print(f"written: {redraw.write_tables(options.tables or redraw.TABLES, results)}")


def _reference(options: argparse.Namespace) -> None:
    from sepo_kit.evaluation.published_pools import write_reference
    from sepo_kit.games import PAPER_GAMES
    from sepo_kit.runs.project import PROJECT

    folder = options.results or PROJECT / "data" / "results"
    for path in write_reference(folder, options.games or list(PAPER_GAMES)):
        print(f"written: {path}")


def _data(options: argparse.Namespace) -> None:
    from sepo_kit.runs import file_hash
    from sepo_kit.runs.project import PROJECT, require_project
    from sepo_kit.training.demonstrations import write_corpus

    if options.folder is None:
        require_project()
    for path in write_corpus(options.folder or PROJECT / "data" / "sft", options.games):
        print(f"{path}  sha256 {file_hash(path)}")


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


def _games(options: argparse.Namespace) -> None:
    import sepo_kit as sk

    for game in sk.GAMES.values():
        spec = game.spec
        print(f"{spec.id}: {spec.title}, {spec.rounds} {spec.unit}s, {', '.join(spec.actions[:9])}")
        for pool in ("train", "exploit", "collusive", "shift"):
            print(f"  {pool:<10} {', '.join(spec.pools[pool]) or '-'}")


if __name__ == "__main__":
    sys.exit(main())
