"""Studies of rivals: trainings of one agent on one game that differ in a setting or two, all judged alike.

Judged are the terms against the game's own pools and the worst case, whatever a rival trains with. What the rivals are
is said by the studies: ``exploiters.py``, ``ablations.py``, ``late.py``. A trial is one training run; every finished
one lies in a file of its own, so a stopped study goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from sepo_kit.games import get_game
from sepo_kit.runs import RunError, provenance, read_manifest, replacing, write_sealed
from sepo_kit.study.estimators import settings_for, start_of
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
from sepo_kit.study.mechanism import EVERY, TERMS, plain, run_all
from sepo_kit.study.tabular import TabularSettings, train_tabular
from sepo_kit.training.settings import SEPOSettings

WORST = "worst_case"
COLUMNS = ("step", *TERMS, WORST, "worst_case_upper", "guaranteed")
BASE = "base"  # in a rival's changes: the model it starts from
LABELS = ("agent", "game", "rival", "seed")
Rivals = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class RivalTrial:
    """One training run of a study.

    ``base``: "tabular", or whatever ``load_model`` takes; ``agent`` is its label. ``every``: steps between two
    judgements, where information states are many; elsewhere it is judged every ten.
    """

    agent: str
    game: str
    rival: str
    seed: int
    settings: TabularSettings | SEPOSettings
    base: str = TABULAR
    every: int | None = None

    @property
    def steps(self) -> int:
        """How many it trains."""
        return self.settings.steps

    def folder(self, root: Path) -> Path:
        """Where the trial lies under the study's folder."""
        return Path(root) / self.agent / self.game / f"{plain(self.rival)}-seed-{self.seed}"

    def file(self, root: Path) -> Path:
        """Its log."""
        folder = self.folder(root)
        return folder.with_name(f"{folder.name}.parquet")

    @property
    def asked(self) -> dict[str, Any]:
        """What decides how it comes out."""
        return {
            **asdict(self.settings), "every": self.every, **origin_of(self.base, self.game),
        }  # fmt: skip


@dataclass(frozen=True)
class RivalStudy:
    """A study: its rivals, and what all of them share.

    Attributes
    ----------
    name
        Of its files and its folder.
    rivals
        (agent, game, a profile's settings) -> by name what each rival changes of a language model's settings; BASE in
        it: where to start instead of the warm start.
    usual
        game -> the rivals that run unless others are asked for; None: all.
    settings
        (a profile's settings, game) -> those of the study.
    shared
        What all rivals change, unless they say otherwise themselves.
    of_tables
        The rivals of a table, by name; empty: the study is one of language models.
    every
        Steps between two judgements, where information states are many; None: only before and after.
    """

    name: str
    rivals: Callable[[str, str, SEPOSettings], Rivals]
    usual: Callable[[str], Sequence[str]] | None = None
    settings: Callable[[SEPOSettings, str], SEPOSettings] = lambda sepo, game: sepo
    shared: Mapping[str, Any] = field(default_factory=dict)
    of_tables: Rivals = field(default_factory=dict)
    every: int | None = None

    def trials(
        self,
        agent: str,
        games: Sequence[str],
        seeds: Sequence[int],
        steps: int | None = None,
        rivals: Sequence[str] | None = None,
        bases: Mapping[str, str] | None = None,
        sepo: Mapping[str, SEPOSettings] | None = None,
    ) -> list[RivalTrial]:
        """All trials of one agent, those of a seed together.

        Parameters
        ----------
        steps
            None: those of the study's settings; 400 for a table.
        rivals
            Names of rivals; None: the usual ones of a language model, all of a table.
        bases, sepo
            By game, for language models: where they start, and a profile's settings.

        Raises
        ------
        ValueError
            A rival is unknown, the study is one of language models and the agent is none, or it answers in words, which
            no trial judges.
        """
        if not bases and not self.of_tables:
            raise ValueError(
                f"this study is one of language models, got {agent!r}; give a model of the profile, as pico"
            )
        for each in (sepo or {}).values():
            if each.style != "direct":
                raise ValueError(
                    "this study judges an agent by the probabilities that it states, and with "
                    f"style={each.style!r} it states none; name a profile whose replies are direct, as quick"
                )
        games, seeds = dict.fromkeys(games), dict.fromkeys(seeds)
        more = {**self.shared, **({"steps": steps} if steps else {})}
        found = []
        for seed, game in product(seeds, games) if bases else ((s, g) for g in games for s in seeds):
            if bases:
                known, start = self.rivals(agent, game, sepo[game]), bases[game]
                settings = self.settings(sepo[game], game)
                chosen = rivals or (self.usual(game) if self.usual else known)
            else:
                known, start, settings = self.of_tables, TABULAR, settings_for(game, log_every=EVERY)
                chosen = rivals or known
            for rival in dict.fromkeys(chosen):
                if rival not in known:
                    raise ValueError(f"rival must be one of {', '.join(known)}, got {rival!r}")
                changes = {**more, **known[rival]}
                base = changes.pop(BASE, start)
                settled = replace(settings, **changes)
                found.append(RivalTrial(agent, game, rival, seed, settled, base, self.every))
        return found


def run_rivals(
    todo: Sequence[RivalTrial],
    root: Path | str,
    workers: int = 1,
    first: Callable[[], None] | None = None,
) -> pd.DataFrame:
    """Run the trials that have not run yet, ``workers`` processes at a time; the logs of all of them.

    Returns
    -------
    DataFrame
        Columns agent, game, rival, seed and ``COLUMNS``. A table's numbers are exact, and a language model's where
        information states are few; elsewhere its terms are means over fresh episodes against the game's own pools and
        its worst case lies between ``worst_case`` and ``worst_case_upper``.
    """
    root = Path(root)
    missing = [trial for trial in todo if not is_finished(trial.file(root), trial.asked)]
    run_all(run_rival, missing, root, workers, first)
    return pd.concat([_read(trial, root) for trial in todo], ignore_index=True)


def run_rival(trial: RivalTrial, root: Path) -> None:
    """Train, and write the log."""
    put_old_aside(trial.file(root), trial.folder(root), trial.asked)
    if trial.base == TABULAR:
        log = train_tabular(trial.game, trial.settings, trial.seed, start_of(trial.game)).log
        log = log.assign(worst_case_upper=log[WORST])
    else:
        log = _train_model(trial, trial.folder(root))
    keep_log(trial.file(root), log[list(COLUMNS)], trial.asked)


def _train_model(trial: RivalTrial, folder: Path) -> pd.DataFrame:
    from sepo_kit.study.exact_curve import ExactCurve, read_exact_curve  # torch, which tables do without
    from sepo_kit.training.grpo import train_sepo

    few, settings = get_game(trial.game).spec.few_states, trial.settings
    every = EVERY if few else trial.every or settings.steps  # bounds take as long as many a step
    watch = ExactCurve(get_game(trial.game), folder, settings.temperature, every)
    train_sepo(trial.base, trial.game, folder, settings, trial.seed, callbacks=[watch])
    return read_exact_curve(folder)


def _read(trial: RivalTrial, root: Path) -> pd.DataFrame:
    labels = {name: getattr(trial, name) for name in LABELS}
    return pd.read_parquet(trial.file(root)).assign(**labels)[[*labels, *COLUMNS]]


def ends(logs: pd.DataFrame) -> pd.DataFrame:
    """Each trial at its last step; the rows of ``run_rivals`` with the least worst case of the whole curve beside it
    as ``best`` and the largest of the curve's second half as ``late_peak``: how far it still swings."""
    by = list(LABELS)
    last = logs.sort_values("step", kind="stable").groupby(by, sort=False).tail(1).set_index(by)
    late = logs[logs["step"] >= logs.groupby(by)["step"].transform("max") / 2]
    least, peak = logs.groupby(by)[WORST].min(), late.groupby(by)[WORST].max()
    return last.assign(best=least, late_peak=peak).reset_index()


def write_rivals(
    study: str,
    logs: pd.DataFrame,
    todo: Sequence[RivalTrial],
    root: Path | str,
    folder: Path | str,
    options: Sequence[str] | None = None,
) -> list[Path]:
    """Write the logs as STUDY-training-AGENT.parquet, where they end as STUDY-ends-AGENT.csv, and what they were made
    with as STUDY-study-AGENT.json; the three paths. What these files have of other games stays. ``root``: where the
    trials ran; ``options``: what ``sepo-kit study`` was asked for with, but for agents and games.

    Raises
    ------
    RunError
        What the files have of other games would be lost.
    """
    agent, games = todo[0].agent, {trial.game for trial in todo}
    kinds = (("training", "parquet"), ("ends", "csv"), ("study", "json"))
    data, table, source = (Path(folder) / f"{study}-{kind}-{agent}.{end}" for kind, end in kinds)
    logs, ended = beside_others(logs, data, games), beside_others(ends(logs), table, games)
    with replacing(data) as temporary:
        logs.to_parquet(temporary, index=False)
    with replacing(table) as temporary:
        ended.to_csv(temporary, index=False, float_format="%.6g")
    settings: dict[str, dict] = {}
    for trial in todo:
        settings.setdefault(trial.game, {})[trial.rival] = asdict(trial.settings)
    runs = [trial.folder(Path(root)) for trial in todo if trial.base != TABULAR]
    commits = sorted({read_manifest(run)["commit"] for run in runs})
    made = {
        "provenance": provenance(), "trials": len(ended), "seeds": sorted({trial.seed for trial in todo}),
        "settings": settings, **({"commits": commits} if commits else {}),
    }  # fmt: skip
    write_sealed(source, made_beside_others(made, source, options), [data, table])
    return [data, table, source]


def read_rivals(study: str, folder: Path | str) -> pd.DataFrame:
    """The logs that ``write_rivals`` wrote of a study into ``folder``, of all agents, tables first.

    Raises
    ------
    RunError
        There is no such study.
    """
    files = sorted(Path(folder).glob(f"{study}-training-*.parquet"), reverse=True)
    if not files:
        raise RunError(
            f"there is no study of {study} in {folder}; make one with: sepo-kit study pico --{study}"
        )
    return read_all(files)
