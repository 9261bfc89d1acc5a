"""A fresh learner against a frozen agent: what it comes to gain, and how many episodes it takes.

The learner sits in seat 1 and is paid what it leads by: it trains in ``AttackedGame``, through the training step that
everything else is trained by, and needs nothing of the agent but its play. It is a softmax table over the short label,
which learns in seconds, or a language model with an adapter of its own. Every check measures it in fresh episodes, so
that the gain of the last check is a lower bound on the worst case up to its interval.

Source: Timbers et al., Approximate exploitability (2020), for learned best responses as a measure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from sepo_kit.adversaries.attacked import AttackedGame
from sepo_kit.adversaries.gain import Gain, measured_gain
from sepo_kit.engine.policy import Policy, identities, tabular
from sepo_kit.evaluation.agents import agents_of
from sepo_kit.evaluation.results import KEYS
from sepo_kit.evaluation.statistics import Estimate, over_seeds
from sepo_kit.exact.ascent import OpenTable
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, Pools
from sepo_kit.models import PICO
from sepo_kit.objective.step import StepSettings, TrainingStep, check_numbers
from sepo_kit.runs import Run, append_line, keep_lines, read_json, read_lines, write_json
from sepo_kit.study.tabular import Logits, sampled_gradient
from sepo_kit.training.request import ROOMS, checked_seed, code_of
from sepo_kit.training.settings import SEPOSettings

CURVE, STATE = "curve.jsonl", "learner.json"
LEARNER = "learner"


@dataclass(frozen=True, kw_only=True)
class AdversarySettings:
    """How an adversary that is a table is trained.

    Attributes
    ----------
    steps, episodes
        Steps, and episodes of each.
    learning_rate
        Of plain gradient ascent on the logits, on advantages divided by their standard deviation.
    row
        Attribute of the information states that names a row of the learner's table.
    check_every, check_episodes
        Steps between two checks; fresh episodes of each.

    Raises
    ------
    ValueError
        A value is out of its range.
    """

    steps: int = 200
    episodes: int = 32
    learning_rate: float = 0.5
    row: str = "label"
    check_every: int = 20
    check_episodes: int = 200

    def __post_init__(self) -> None:
        check_numbers(self, ("steps", "episodes", "learning_rate", "check_every", "check_episodes"))
        _check_means(self, "episodes", "check_episodes")


# Small steps without a pull to the base, falling to zero: it is to end as a best response, not as what it was.
BY_MODEL = SEPOSettings(
    steps=60, rollouts=8, groups=4, learning_rate=1e-3, beta=0.0, schedule="linear", save_every=20
)


@dataclass(frozen=True, kw_only=True)
class LanguageAdversarySettings:
    """How an adversary that is a language model is trained.

    Attributes
    ----------
    base
        Anything ``load_model`` takes: what gets an adapter of its own.
    sepo
        Its training. Who sits opposite, and what is paid, is not asked of it.
    check_episodes
        Fresh episodes of each check; there is one at the start and one at every saved step.

    Raises
    ------
    ValueError
        A value is out of its range.
    """

    base: str = PICO
    sepo: SEPOSettings = BY_MODEL
    check_episodes: int = 200

    def __post_init__(self) -> None:
        check_numbers(self, ("check_episodes",))
        _check_means(self, "check_episodes")


def _check_means(settings: object, *names: str) -> None:
    """ValueError where a mean over so many would be over fewer than two."""
    for name in names:
        if getattr(settings, name) < 2:
            raise ValueError(f"{name} must be >= 2, got {getattr(settings, name)}: a mean needs another one")


@dataclass(frozen=True)
class Attack:
    """What a learner found.

    ``adversary``: what it ended as, a policy of seat 1; a table greedy. ``curve``: a row per check, with ``episodes``
    played to learn until then, and ``gain`` with ``low`` and ``high``, per round, as in ``Gain``.
    """

    adversary: Policy = field(repr=False)
    curve: pd.DataFrame = field(repr=False)

    def episodes_until(self, margin: float) -> int | None:
        """Episodes until it surely gained more than ``margin`` per round; None where it never did."""
        over = self.curve[self.curve["low"] > margin]
        return None if over.empty else int(over["episodes"].iloc[0])


def train_adversary(
    agent: Policy,
    game: Game | str,
    folder: Path | str,
    settings: AdversarySettings | LanguageAdversarySettings | None = None,
    seed: int = 0,
) -> Attack:
    """Train a learner against ``agent``, which stays as it is; goes on where a stopped training left off.

    Parameters
    ----------
    agent
        Anything that acts in seat 0, also one that answers in free text.
    folder
        Where the learning curve and the learner are kept; one folder for each agent, game, settings and seed. What was
        learned against an agent that has changed since, or by other code, is put aside, and it begins anew.
    settings
        Whether a table learns or a language model, and how; None: a table.

    Raises
    ------
    RunError
        The folder belongs to another request.
    ValueError
        The information states have no label ``settings.row``.
    OSError
        A model's files are missing or broken.
    """
    game = get_game(game)
    settings = settings or AdversarySettings()
    if isinstance(settings, LanguageAdversarySettings):
        return _train_model(agent, game, folder, settings, seed)
    return _train_table(agent, game, folder, settings, seed)


def _train_table(
    agent: Policy, game: Game, folder: Path | str, settings: AdversarySettings, seed: int
) -> Attack:
    request = {
        "stage": "adversary", "agent": agent.name, "opponents_sha256": identities({agent.name: agent}),
        "game": game.spec.id, "seed": checked_seed(seed), "settings": asdict(settings),
        "code": code_of(ROOMS["table"], game, Path(__file__)),
    }  # fmt: skip
    tabular(game, {}, row=settings.row)  # refuses an unknown row
    with Run(folder, request, writes=True) as run:
        return _learn_to_attack(run, agent, game, settings, seed)


def _learn_to_attack(run: Run, agent: Policy, game: Game, settings: AdversarySettings, seed: int) -> Attack:
    attacked = AttackedGame(game)
    logits = Logits(attacked, settings.row)
    steps = StepSettings(rollouts=settings.episodes, pools=_only(agent), common_random_numbers=False)
    taken = TrainingStep(attacked, steps)
    begin = 0
    if (run.path / STATE).exists():
        kept = read_json(run.path / STATE, dict, {"step": int, "logits": dict})
        begin = kept["step"]
        logits.logits = {label: np.array(values, dtype=float) for label, values in kept["logits"].items()}
    if not run.done:
        _mend_curve(run)
    for step in range(begin, 0 if run.done else settings.steps + 1):
        if step % settings.check_every == 0 or step == settings.steps:
            _check(run, game, agent, logits, settings, seed, step)
        if step < settings.steps:
            _learn(taken, agent, logits, settings.learning_rate, seed, step)
    if not run.done:
        run.finish(steps=settings.steps)
    return Attack(_greedy(logits), _curve(run))


def _train_model(
    agent: Policy, game: Game, folder: Path | str, settings: LanguageAdversarySettings, seed: int
) -> Attack:
    # Here, because they bring torch, which a table does not need.
    from sepo_kit.models.loading import kept_steps, language_model, load_model
    from sepo_kit.training.grpo import train_sepo

    sepo = replace(settings.sepo, pools=_only(agent), exploiters="pool", limits={})
    attacked = AttackedGame(game)
    run = train_sepo(settings.base, attacked, folder, sepo, seed, opponents={agent.name: agent})
    a_step = sepo.rollouts * sepo.groups
    curve = read_lines(run.path / CURVE, {"step": int})
    checked = {row["step"] for row in curve if row.get("checked_in") == settings.check_episodes}
    missing = [step for step in (0, *kept_steps(run.path)) if step not in checked]
    if missing:
        _mend_curve(run)
    for step in missing:
        learner = load_model(run.path, step=step) if step else load_model(settings.base)
        found = measured_gain(
            game, agent, language_model(learner, game, style=sepo.style), settings.check_episodes, seed
        )
        _note(run, step, step * a_step, found)
    last = language_model(load_model(run.path), game, name=LEARNER)
    return Attack(last, _curve(run, settings.check_episodes))


def _only(agent: Policy) -> Pools:
    """Pools of nobody else."""
    return Pools((agent.name,), (), (), ())


def _curve(run: Run, checked_in: int | None = None) -> pd.DataFrame:
    """What was found at each step; None: in however many episodes that was checked."""
    rows = pd.DataFrame(read_lines(run.path / CURVE, {"step": int}))
    if checked_in is not None:
        rows = rows[rows["checked_in"] == checked_in]
    rows = rows.drop_duplicates("step", keep="last")
    return rows.drop(columns="checked_in", errors="ignore").sort_values("step", ignore_index=True)


def _mend_curve(run: Run) -> None:
    """Drop a last line that was cut short, which the next would continue."""
    keep_lines(run.path / CURVE, lambda row: True)


def _note(run: Run, step: int, episodes: int, found: Gain) -> None:
    gained = {"gain": found.value, "low": found.low, "high": found.high, "checked_in": found.n}
    append_line(run.path / CURVE, {"step": step, "episodes": episodes, **gained})


def attacks_on(
    files: Sequence[Path | str],
    folder: Path | str,
    settings: AdversarySettings | LanguageAdversarySettings | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The same learner against the agents of result files, each from the start; a stopped one goes on.

    Parameters
    ----------
    folder
        Where the learners are kept, those of each settings and seed by themselves: others before stay as they are.

    Returns
    -------
    DataFrame
        One row per agent: model, game, stage and seed, the last ``gain`` with ``low`` and ``high`` per round, and the
        ``episodes`` it learned from.
    """
    settings = settings or AdversarySettings()
    rows = []
    for label, agent in tqdm(agents_of(files), total=len(files), desc="learning to attack"):
        own = Path(folder, _place(settings, seed), *(str(label[key]).replace("/", "--") for key in KEYS))
        last = train_adversary(agent, label["game"], own, settings, seed).curve.iloc[-1]
        rows.append({**label, **last[["gain", "low", "high"]], "episodes": int(last["episodes"])})
    return pd.DataFrame(rows, columns=[*KEYS, "gain", "low", "high", "episodes"])


def _place(settings: AdversarySettings | LanguageAdversarySettings, seed: int) -> str:
    """The name of the folder of all learners of these settings and seed."""
    asked = json.dumps([type(settings).__name__, asdict(settings), seed], sort_keys=True)
    steps = settings.steps if isinstance(settings, AdversarySettings) else settings.sepo.steps
    return f"steps-{steps}-seed-{seed}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"


def time_to_exploit(attacks: Sequence[Attack], margin: float) -> Estimate:
    """Episodes until a fresh learner surely gained more than ``margin``: the mean over ``attacks``, of several seeds,
    with its interval; no value where one of them never did.

    Raises
    ------
    ValueError
        There are no attacks.
    """
    if not attacks:
        raise ValueError("no attacks to average; train some with train_adversary, one for each seed")
    taken = [attack.episodes_until(margin) for attack in attacks]
    if any(t is None for t in taken):
        return Estimate(None, None, None, len(taken))
    return over_seeds(taken)


def _check(
    run: Run, game: Game, agent: Policy, logits: Logits, settings: AdversarySettings, seed: int, step: int
) -> None:
    found = measured_gain(game, agent, _greedy(logits), settings.check_episodes, seed)
    _note(run, step, step * settings.episodes, found)
    rows = {label: values.tolist() for label, values in logits.logits.items()}
    write_json(run.path / STATE, {"step": step, "logits": rows})
    run.progress(step, settings.steps)


def _greedy(logits: Logits) -> Policy:
    rows = {label: np.eye(len(values))[int(values.argmax())] for label, values in logits.logits.items()}
    return OpenTable(LEARNER, rows, logits.label)


def _learn(taken: TrainingStep, agent: Policy, logits: Logits, rate: float, seed: int, step: int) -> None:
    """One step of plain gradient ascent on the learner's lead."""
    gradient = sampled_gradient(taken, logits, seed, step, opponents={agent.name: agent})
    for label, slope in gradient.items():
        logits.logits[label] = logits.logits[label] + rate * slope / taken.credit.scale
