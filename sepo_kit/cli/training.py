"""``sepo-kit train-sft``, ``train-sepo`` and ``study``: trainings outside the notebooks."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sepo_kit.cli.options import InAll, may_keep
from sepo_kit.runs.remade import SAMPLES, SEEDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sepo_kit.pipeline.plans import Plan, Profile
    from sepo_kit.study.mechanism import Trial
    from sepo_kit.study.rivals import RivalTrial
    from sepo_kit.training.settings import SEPOSettings


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands that train to the commands of a parser."""
    for stage, help_text in (("train-sft", "supervised warm start"), ("train-sepo", "SEPO training")):
        train = commands.add_parser(stage, help=f"{help_text} of one model on one game")
        train.add_argument("model", help="pico, smollm2-135m, a hub id, a folder, a run")
        train.add_argument("game")
        train.add_argument("folder", type=Path, help="the run folder; an interrupted run goes on there")
        train.add_argument("--profile", help="whose hyperparameters (default: quick)")
        train.add_argument(
            "--like", metavar="MODEL",
            help="the profile's model to take them from (default: the model itself; of a run that it began with)",
        )  # fmt: skip
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
            "--seeds", type=int, nargs="+", action=InAll, metavar="SEED",
            help="several, one after the other: {seed} in the names of model and folder becomes each of them",
        )  # fmt: skip
        train.add_argument(
            "--report-to", nargs="+", action=InAll, metavar="TRACKER",
            help="trackers that get the curves as well: tensorboard, trackio, wandb",
        )  # fmt: skip
        may_keep(train)
        train.set_defaults(run=_train, stage=stage)
    train.add_argument(
        "--weights", type=float, nargs=3, metavar=("EXPLOIT", "COLLUSION", "EXTERNALITY"),
        help="penalty weights to train under (default: the profile's)",
    )  # fmt: skip

    study = commands.add_parser(
        "study", help="the studies: every credit mode and more, several seeds (hours)"
    )
    study.add_argument("agents", nargs="+", metavar="agent", help="tabular, or a model of the profile (pico)")
    study.add_argument(
        "--games", nargs="+", action=InAll, default=["ipd", "kuhn"], metavar="GAME", help="default: ipd kuhn"
    )
    study.add_argument("--seeds", type=int, default=SEEDS, help=f"how many (default: {SEEDS})")
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
    study.add_argument("--samples", type=int, help=f"sampled gradients (default: {SAMPLES})")
    study.add_argument(
        "--variants",
        type=int,
        help="only the first so many of the 16; 4: the modes as proposed, 8: all with common draws",
    )
    study.add_argument(
        "--rivals",
        nargs="+",
        action=InAll,
        metavar="NAME",
        help="with --exploiters and its like: only these, as in: pool worst-case",
    )
    study.add_argument(
        "--profile", help="whose hyperparameters (default: study; of --exploiters and its like: quick)"
    )
    may_keep(study)
    study.add_argument("--workers", type=int, default=1, help="trials at a time (default: 1)")
    study.add_argument(
        "--folder", type=Path, help="where trials go (default: runs/study, runs/exploiters, ...)"
    )
    study.add_argument(
        "--results",
        type=Path,
        help="where tables and pictures go (default: data/results and figures; a part of what is there: in --folder)",
    )
    study.set_defaults(run=_study)


def _plan(options: argparse.Namespace, game: str) -> Plan:
    """Whose settings are taken: by ``--like``, else of the model itself, or of that with which a run began."""
    import sepo_kit as sk
    from sepo_kit.models.loading import raw_model
    from sepo_kit.pipeline.plans import EACH_SEED
    from sepo_kit.runs import MANIFEST

    first = str((options.seeds or [options.seed])[0])
    like = options.like or options.model.replace(EACH_SEED, first)
    if not options.like and (Path(like) / MANIFEST).is_file():
        like = raw_model(Path(like))
    profile = sk.get_profile(options.profile or "quick")
    if like not in profile.models:
        raise ValueError(
            f"profile {profile.name!r} has no plan for {like!r}; add --like MODEL to say whose settings it gets, "
            f"one of {', '.join(profile.models)}, or --settings FILE"
        )
    return profile.plan(like, game)


def _train(options: argparse.Namespace) -> None:
    import sepo_kit as sk
    from sepo_kit.pipeline.parameters import split_pairs
    from sepo_kit.pipeline.plans import EACH_SEED
    from sepo_kit.pipeline.settings_file import changed, read_settings
    from sepo_kit.training.processes import world
    from sepo_kit.training.settings import SEPOSettings, SFTSettings

    game = sk.get_game(options.game).spec.id
    if options.settings:
        if options.profile or options.like:
            raise ValueError("--settings says all of them: leave out --profile and --like, or --settings")
        kind = SFTSettings if options.stage == "train-sft" else SEPOSettings
        settings = read_settings(options.settings, kind)
    else:
        plan = _plan(options, game)
        settings = plan.sft if options.stage == "train-sft" else plan.sepo
    given = split_pairs(options.p)
    for name in ("weights", "report_to"):  # which have options of their own
        if name in given and getattr(options, name, None):
            raise ValueError(f"-p {name} and --{name.replace('_', '-')} say the same; leave one of them out")
    settings = changed(settings, given)
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


def _prepared(
    options: argparse.Namespace, profile: Profile, folder: Path, trials_of: Callable[..., list]
) -> Iterator[tuple[str, Mapping[str, str], Mapping[str, SEPOSettings], list]]:
    """Each agent with its warm starts, its settings and its trials, ``trials_of(agent, bases, sepo)``, when its turn
    comes; what is unknown of any of them is refused before anything trains."""
    from sepo_kit.study.kept import TABULAR
    from sepo_kit.study.mechanism import warm_starts

    plans = {
        agent: {} if agent == TABULAR else {game: profile.plan(agent, game) for game in options.games}
        for agent in options.agents
    }
    sepo = {agent: {game: plan.sepo for game, plan in of.items()} for agent, of in plans.items()}
    for agent, of in plans.items():
        trials_of(agent, dict.fromkeys(of, agent), sepo[agent])
    for agent in plans:
        bases = warm_starts(agent, {game: plan.sft for game, plan in plans[agent].items()}, folder)
        yield agent, bases, sepo[agent], trials_of(agent, bases, sepo[agent])


def _given(options: argparse.Namespace) -> list[str]:
    """The options of a study that decide what comes out of it, but for its games."""
    given = ["--seeds", str(options.seeds)] if options.seeds != SEEDS else []
    for name in ("steps", "samples", "variants", "profile"):
        if (value := getattr(options, name)) is not None:
            given += [f"--{name}", str(value)]
    return [*given, "--rivals", *options.rivals] if options.rivals else given


def _places(
    options: argparse.Namespace, study: str, folder: Path, todo: Sequence[Trial | RivalTrial]
) -> tuple[Path, Path]:
    """Where tables and pictures of a study go: where the call says so, else to the published ones. A part of these does
    not replace them: it goes beside its trials in ``folder``."""
    from sepo_kit.runs.project import PROJECT
    from sepo_kit.study.kept import holds_more, holds_more_samples

    if options.results:
        return options.results, options.results
    published = PROJECT / "data" / "results"
    logs = published / f"{study}-training-{todo[0].agent}.parquet"
    gradients = published / f"{study}-estimates-{todo[0].agent}.csv"
    steps = {trial.game: trial.steps for trial in todo}
    less = holds_more(logs, range(options.seeds), steps) or holds_more_samples(
        gradients, steps, options.samples or SAMPLES
    )
    if not (options.rivals or options.variants or less):
        return published, PROJECT / "figures"
    tables, pictures = folder / "tables", folder / "figures"
    print(
        f"a part of the study: tables go to {tables}, pictures to {pictures}; --results names another place"
    )
    return tables, pictures


def _study(options: argparse.Namespace) -> None:
    from sepo_kit.pipeline.children import die_with_parent
    from sepo_kit.pipeline.profiles import get_profile
    from sepo_kit.runs.project import PROJECT
    from sepo_kit.study.mechanism import (
        VARIANTS,
        estimates,
        run_study,
        trials,
        write_study,
    )  # fmt: skip

    for name in ("seeds", "steps", "samples", "variants", "workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be >= 1, got {value}")
    if options.rivals_of:
        if options.samples or options.variants:
            raise ValueError(
                f"--samples and --variants are no options of --{options.rivals_of}; leave them out"
            )
        _study_rivals(options)
        return
    if options.rivals:
        raise ValueError("--rivals are those of another study; add --exploiters, --ablations or --late")
    folder, profile = options.folder or PROJECT / "runs" / "study", get_profile(options.profile or "study")
    steps, seeds, variants = options.steps or 400, range(options.seeds), VARIANTS[: options.variants]

    def trials_of(agent: str, bases: Mapping[str, str], sepo: Mapping[str, SEPOSettings]) -> list[Trial]:
        return trials(agent, options.games, seeds, steps, variants, bases, sepo)

    for agent, bases, sepo, todo in _prepared(options, profile, folder, trials_of):
        results, _ = _places(options, "credit", folder, todo)
        logs = run_study(todo, folder, options.workers, die_with_parent)
        estimated = estimates(agent, options.games, options.samples or SAMPLES, variants, bases, sepo)
        for path in write_study(logs, estimated, todo, folder, results, _given(options)):
            print(f"written: {path}")


def _study_rivals(options: argparse.Namespace) -> None:
    from sepo_kit import figures
    from sepo_kit.pipeline.children import die_with_parent
    from sepo_kit.pipeline.profiles import get_profile
    from sepo_kit.runs.project import PROJECT
    from sepo_kit.study.rivals import run_rivals, write_rivals
    from sepo_kit.study.studies import STUDIES

    study = STUDIES[options.rivals_of]
    folder = options.folder or PROJECT / "runs" / study.name
    profile = get_profile(options.profile or "quick")

    def trials_of(agent: str, bases: Mapping[str, str], sepo: Mapping[str, SEPOSettings]) -> list[RivalTrial]:
        return study.trials(
            agent, options.games, range(options.seeds), options.steps, options.rivals, bases, sepo
        )

    for agent, _, _, todo in _prepared(options, profile, folder, trials_of):
        results, pictures = _places(options, study.name, folder, todo)
        logs = run_rivals(todo, folder, options.workers, die_with_parent)
        for path in (written := write_rivals(study.name, logs, todo, folder, results, _given(options))):
            print(f"written: {path}")
        figures.style()
        for game in options.games:
            drawn = figures.STUDIES[study.name](logs, game, agent)
            path = figures.save(
                drawn, logs[logs["game"] == game], pictures, f"{study.name}-{agent}-{game}", written[-1]
            )
            print(f"written: {path}")
