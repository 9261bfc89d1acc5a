"""The mechanism study, whole: every credit mode x paid for its own round or to the end x common or independent draws,
on tables and on language models: where training leads, several seeds each, and what single estimates are worth.

A trial is one training run. Every finished trial lies in a file of its own, so a stopped study goes on where it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from sepo_kit import exact
from sepo_kit.games import get_game
from sepo_kit.objective.credit import HORIZONS, MODES, OWN_HORIZON, check_mode
from sepo_kit.runs import METRICS, RunError, provenance, read_lines, read_manifest, replacing, write_sealed
from sepo_kit.study.estimators import estimator_study, settings_for, start_of
from sepo_kit.study.kept import (
    TABULAR,
    beside_others,
    is_finished,
    keep_log,
    made_beside_others,
    origin_of,
    put_old_aside,
    read_all,
)
from sepo_kit.study.tabular import train_tabular
from sepo_kit.training.settings import SEPOSettings, SFTSettings

EVERY = 10  # steps between two rows of a log
TERMS = ("payoff", "exploit", "collusion", "externality", "safety")
ESTIMATES = (
    "mode", "part", "cosine", "norm", "noise", "samples", "agent", "game", "horizon", "common_random_numbers",
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One way to pay decisions."""

    mode: str
    horizon: str
    common_random_numbers: bool

    def __post_init__(self) -> None:
        check_mode(self.mode, self.horizon)

    @property
    def name(self) -> str:
        """Words for a legend and, with hyphens, for a folder."""
        draws = "common" if self.common_random_numbers else "independent"
        return f"{self.mode}, {self.horizon}, {draws} draws"


def _order(variant: Variant) -> tuple[bool, bool]:
    return variant.common_random_numbers, variant.horizon == OWN_HORIZON[variant.mode]


CREDIT_MODES = tuple(
    mode for mode in MODES if mode != "alignment"
)  # that is a rival, not a way to pay penalties
# Each mode as it was proposed, then common draws, then own horizons: a study that was stopped early has those.
VARIANTS = tuple(
    sorted(
        (Variant(*each) for each in product(CREDIT_MODES, HORIZONS, (True, False))), key=_order, reverse=True
    )
)


@dataclass(frozen=True)
class Trial:
    """One training run of the study. ``base``: "tabular", or whatever ``load_model`` takes; ``agent`` is its label.
    ``sepo``: the settings of a language model's run, of which the variant replaces three."""

    agent: str
    game: str
    variant: Variant
    seed: int
    steps: int
    base: str = TABULAR
    sepo: SEPOSettings | None = None

    @property
    def exact(self) -> bool:
        """Whether its terms are computed, not sampled: of a table, or of a model whose information states are few."""
        few = get_game(self.game).spec.few_states
        return self.sepo is None or (few and self.sepo.style == "direct")

    def folder(self, root: Path) -> Path:
        """Where the trial lies under the study's folder."""
        return Path(root) / self.agent / self.game / f"{plain(self.variant.name)}-seed-{self.seed}"

    @property
    def asked(self) -> dict[str, Any]:
        """What decides how it comes out, but for the steps, after which a longer one was the same."""
        settings = asdict(self.sepo or settings_for(self.game))
        # A longer run of a constant rate begins as a shorter one does; where the rate falls it does not.
        steps = None if settings.get("schedule", "constant") == "constant" else self.steps
        return {
            **settings, **asdict(self.variant), "steps": steps, **origin_of(self.base, self.game),
        }  # fmt: skip


def plain(name: str) -> str:
    """The name of a variant or a rival as folders have it.

    >>> plain("credit: shared, to the end")
    'credit-shared-to-the-end'
    """
    return re.sub(r"\W+", "-", name)


def trials(
    agent: str,
    games: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    variants: Sequence[Variant] = VARIANTS,
    bases: Mapping[str, str] | None = None,
    sepo: Mapping[str, SEPOSettings] | None = None,
) -> list[Trial]:
    """All trials of one agent, those of a variant together. ``bases``, ``sepo``: by game, for language models."""
    return [
        Trial(
            agent, game, variant, seed, steps, bases[game] if bases else TABULAR, sepo[game] if sepo else None
        )
        for variant in variants
        for game in dict.fromkeys(games)
        for seed in dict.fromkeys(seeds)
    ]


def warm_starts(model: str, settings: Mapping[str, SFTSettings], root: Path | str) -> dict[str, str]:
    """Give ``model`` its supervised warm start on each game; run folders by game. All trials start from there."""
    if not settings:
        return {}
    from sepo_kit.training.sft import train_sft

    return {
        game: str(train_sft(model, game, Path(root) / model / game / "sft-seed-0", each, seed=0).path)
        for game, each in settings.items()
    }


def run_study(
    todo: Sequence[Trial], root: Path | str, workers: int = 1, first: Callable[[], None] | None = None
) -> pd.DataFrame:
    """Run the trials that have not run yet, ``workers`` processes at a time; the logs of all of them.

    ``first``: what every process calls before anything else.

    Returns
    -------
    DataFrame
        Columns agent, game, mode, horizon, common_random_numbers, seed, step and ``TERMS``. A table's terms are
        exact, and a language model's in Kuhn poker; elsewhere they are means over its training episodes of the ten
        steps up to ``step``.
    """
    root = Path(root)
    missing = {_file(trial, root): _trained(trial) for trial in todo if not _is_done(trial, root)}
    run_all(run_trial, missing.values(), root, workers, first)
    return pd.concat(_read(todo, root), ignore_index=True)


def run_all(
    run: Callable[[Any, Path], None],
    todo: Collection[Any],
    root: Path,
    workers: int = 1,
    first: Callable[[], None] | None = None,
) -> None:
    """``run(trial, root)`` for all trials, ``workers`` processes at a time, each of which calls ``first`` first.

    Raises
    ------
    OSError
        The system killed a trial.
    """
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=first) as pool:
        running = [pool.submit(run, trial, root) for trial in todo]
        for done in tqdm(as_completed(running), total=len(running), desc="trials", disable=not running):
            try:
                done.result()
            except BrokenProcessPool:
                raise OSError(
                    f"a trial was killed (out of memory? {workers} at a time is what was allowed); what is finished is "
                    "kept: run the same command again, with fewer --workers"
                ) from None
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def run_trial(trial: Trial, root: Path) -> None:
    """Train, and write the log."""
    put_old_aside(_file(trial, root), trial.folder(root), trial.asked)
    log = _train_table(trial) if trial.base == TABULAR else _train_model(trial, trial.folder(root))
    keep_log(_file(trial, root), log[["step", *TERMS]], trial.asked)


def _trained(trial: Trial) -> Trial:
    """The trial whose training serves ``trial``: where no round depends on another, the horizon changes nothing."""
    if not get_game(trial.game).spec.independent_rounds:
        return trial
    own = replace(trial.variant, horizon=OWN_HORIZON[trial.variant.mode])
    return replace(trial, variant=own)


def _file(trial: Trial, root: Path) -> Path:
    return _trained(trial).folder(root).with_suffix(".parquet")


def _is_done(trial: Trial, root: Path) -> bool:
    """Whether its log is there; RunError where that is of other settings, or of fewer steps."""
    file = _file(trial, root)
    if not is_finished(file, _trained(trial).asked):
        return False
    last = pd.read_parquet(file, columns=["step"])["step"].max()
    if last < trial.steps:
        raise RunError(
            f"{file} ends at step {last} of {trial.steps}; delete it and its run folder, or give the study another "
            "folder"
        )
    return True


def _read(todo: Sequence[Trial], root: Path) -> Iterator[pd.DataFrame]:
    for trial in todo:
        labels = {"agent": trial.agent, "game": trial.game, **asdict(trial.variant), "seed": trial.seed}
        log = pd.read_parquet(_file(trial, root))
        yield log[log["step"] <= trial.steps].assign(**labels)[[*labels, "step", *TERMS]]


def estimates(
    agent: str,
    games: Sequence[str],
    samples: int,
    variants: Sequence[Variant] = VARIANTS,
    bases: Mapping[str, str] | None = None,
    sepo: Mapping[str, SEPOSettings] | None = None,
) -> pd.DataFrame:
    """Bias and noise of the gradient estimates of every variant where training starts.

    A language model's are those in its LoRA parameters, where its information states can be enumerated (Kuhn poker) and
    it states probabilities; other games, and agents that answer in words, are left out.

    Returns
    -------
    DataFrame
        The rows of ``estimator_study`` with columns agent, game, horizon and common_random_numbers.
    """
    found = []
    for game in dict.fromkeys(games):
        start = {}
        if bases:
            if not get_game(game).spec.few_states or sepo[game].style != "direct":
                continue
            start = _start_of_model(bases[game], game, sepo[game])
            start.update(rollouts=sepo[game].rollouts, groups=sepo[game].groups)
        for variant in variants:
            changes = asdict(variant)
            rows = estimator_study(game, samples, modes=[changes.pop("mode")], **start, **changes)
            found.append(rows.assign(agent=agent, game=game, **changes))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=ESTIMATES)


def _start_of_model(base: str, game: str, sepo: SEPOSettings) -> dict:
    """The policy a model starts SEPO with, and the metric of its parameters."""
    from peft import get_peft_model

    from sepo_kit.models.loading import language_model, load_model
    from sepo_kit.models.lora import lora
    from sepo_kit.models.parameter_space import inner_products

    loaded = load_model(base)
    agent = language_model(loaded, game, temperature=sepo.temperature)
    agent.model = get_peft_model(loaded.model, lora(sepo.lora_r, sepo.lora_alpha, 0.0))
    states = exact.information_states(game)
    table = {s.key: p for s, p in zip(states, agent.distributions(states), strict=True)}
    return {"start": table, "metric": inner_products(agent, states)}


def _train_table(trial: Trial) -> pd.DataFrame:
    settings = settings_for(trial.game, steps=trial.steps, log_every=EVERY, **asdict(trial.variant))
    return train_tabular(trial.game, settings, trial.seed, start_of(trial.game)).log


def _train_model(trial: Trial, folder: Path) -> pd.DataFrame:
    from sepo_kit.study.exact_curve import ExactCurve, read_exact_curve  # torch, which tables do without
    from sepo_kit.training.grpo import train_sepo

    settings = replace(trial.sepo, steps=trial.steps, **asdict(trial.variant))
    if trial.exact:
        watch = ExactCurve(get_game(trial.game), folder, settings.temperature, EVERY)
        train_sepo(trial.base, trial.game, folder, settings, trial.seed, callbacks=[watch])
        return read_exact_curve(folder)
    run = train_sepo(trial.base, trial.game, folder, settings, trial.seed)
    rows = pd.DataFrame(read_lines(run.path / METRICS))
    rows = rows[[c for c in rows if c.startswith("sepo/")]].rename(columns=lambda c: c.removeprefix("sepo/"))
    means = rows[list(TERMS)].groupby(rows.index // EVERY).mean()
    return means.assign(step=[min((k + 1) * EVERY, trial.steps) for k in means.index])


def write_study(
    logs: pd.DataFrame,
    estimated: pd.DataFrame,
    todo: Sequence[Trial],
    root: Path | str,
    folder: Path | str,
    options: Sequence[str] | None = None,
) -> list[Path]:
    """Write the logs as credit-training-AGENT.parquet, the estimates as credit-estimates-AGENT.csv, and what they were
    made with as credit-study-AGENT.json; the three paths. What these files have of other games stays. ``root``: where
    the trials ran; ``options``: what ``sepo-kit study`` was asked for with, but for agents and games.

    Raises
    ------
    RunError
        What the files have of other games would be lost.
    """
    agent, games = todo[0].agent, {trial.game for trial in todo}
    names = (
        f"credit-training-{agent}.parquet",
        f"credit-estimates-{agent}.csv",
        f"credit-study-{agent}.json",
    )
    data, table, source = (Path(folder) / name for name in names)
    logs, estimated = beside_others(logs, data, games), beside_others(estimated, table, games)
    with replacing(data) as temporary:
        logs.to_parquet(temporary, index=False)
    with replacing(table) as temporary:
        estimated.to_csv(temporary, index=False, float_format="%.6g")
    varied = {"steps", *asdict(todo[0].variant)}
    settings = {
        trial.game: {
            name: value
            for name, value in asdict(trial.sepo or settings_for(trial.game)).items()
            if name not in varied
        }
        for trial in todo
    }
    seeds = sorted({trial.seed for trial in todo})
    trained = logs.drop(columns=["step", *TERMS]).drop_duplicates()
    runs = {_trained(trial).folder(Path(root)) for trial in todo if trial.base != TABULAR}
    commits = sorted({read_manifest(run)["commit"] for run in runs})
    made = {
        "provenance": provenance(), "trials": len(trained), "steps": todo[0].steps, "seeds": seeds,
        "settings": settings, **({"commits": commits} if commits else {}),
    }  # fmt: skip
    write_sealed(source, made_beside_others(made, source, options), [data, table])
    return [data, table, source]


@dataclass(frozen=True)
class Study:
    """A finished study. ``training``: the logs of ``run_study``; ``estimates``: the rows of ``estimates``; of all
    agents, one after the other."""

    training: pd.DataFrame
    estimates: pd.DataFrame

    def proposed(self) -> pd.DataFrame:
        """The logs of each mode with the horizon it was proposed with and common draws."""
        logs = self.training
        return logs[logs["common_random_numbers"] & (logs["horizon"] == logs["mode"].map(OWN_HORIZON))]


def read_study(folder: Path | str) -> Study:
    """What ``write_study`` wrote into ``folder``, of all agents.

    Raises
    ------
    RunError
        There is no study, or a part of one is missing.
    """
    made = sorted(Path(folder).glob("credit-study-*.json"), reverse=True)  # tabular first
    agents = [path.stem.removeprefix("credit-study-") for path in made]
    if not agents:
        raise RunError(f"there is no study in {folder}; make one with: sepo-kit study tabular")
    parts = []
    for name in ("credit-training-{}.parquet", "credit-estimates-{}.csv"):
        files = [Path(folder) / name.format(agent) for agent in agents]
        missing = [str(file) for file in files if not file.exists()]
        if missing:
            raise RunError(
                f"{', '.join(missing)} is missing; make it again with: sepo-kit study {' '.join(agents)}"
            )
        parts.append(read_all(files))
    return Study(*parts)
