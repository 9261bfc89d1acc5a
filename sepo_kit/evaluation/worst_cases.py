"""What a pool of adversaries sees of an agent and what it misses, as tables: payoff against worst case, the adversary
that gains most beside the agent it beats, their hands move by move, and Kuhn's equilibria beside them.

How a worst case is found is in ``adversaries/`` and ``exact/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sepo_kit import exact
from sepo_kit.adversaries.play import play
from sepo_kit.engine.policy import Policy, StrategyPolicy, TabularPolicy, distributions_of
from sepo_kit.engine.rollout import Match
from sepo_kit.engine.sitting import replayed
from sepo_kit.evaluation.contenders import scripted
from sepo_kit.evaluation.match import stated
from sepo_kit.evaluation.results import KEYS, STAGE_NAMES, read_result, read_results
from sepo_kit.evaluation.statistics import between
from sepo_kit.games import get_game
from sepo_kit.games.base import Game
from sepo_kit.games.kuhn import equilibrium
from sepo_kit.objective.terms import guaranteed, objective

AGENT, ADVERSARY = "agent", "adversary"
NEVER = "–"  # an information state that the adversary never meets
FAMILY = (0.0, 1 / 6, 1 / 3)  # of the equilibria, those that are shown


def with_stage(
    files: Sequence[Path | str], more: Sequence[Path | str], stage: str = "worst-case"
) -> list[Path]:
    """Result ``files``, and of ``more`` those of ``stage`` on models and games of which ``files`` have that stage not,
    and have another."""
    labels = {Path(file): read_result(file)["label"] for file in [*files, *more]}

    def pair(file: Path | str) -> tuple[str, str]:
        return labels[Path(file)]["model"], labels[Path(file)]["game"]

    there = {pair(file) for file in files}
    have = {pair(file) for file in files if labels[Path(file)]["stage"] == stage}
    wanted = [f for f in more if labels[Path(f)]["stage"] == stage and pair(f) in there - have]
    return [Path(file) for file in [*files, *wanted]]


def pool_and_worst_case(results: pd.DataFrame) -> pd.DataFrame:
    """What the pool gains on each agent beside what the best of all adversaries does, means over seeds: one row per
    model, game and stage whose worst case is known of every seed.

    ``results``: ``evaluation.results.read_results``.

    Returns
    -------
    DataFrame
        model, game, stage, seeds, payoff, exploit, ``worst case`` (in words where it is only bounded), Safety,
        guaranteed (likewise).
    """
    rows = []
    for (model, game, stage), part in results.groupby(["model", "game", "stage"], sort=False):
        of = {metric: rows for metric, rows in part.groupby("metric")}
        if "worst_case" not in of or of["worst_case"]["value"].isna().any():
            continue
        means = {
            m: of[m][["value", "low", "high"]].mean(skipna=False).tolist()
            for m in ("worst_case", "guaranteed")
        }
        sure = all(
            low == high for low, high in zip(of["worst_case"]["low"], of["worst_case"]["high"], strict=True)
        )
        rows.append(
            {
                "model": model,
                "game": game,
                "stage": STAGE_NAMES[stage],
                "seeds": part["seed"].nunique() or 1,
                "payoff": of["payoff"]["value"].mean(),
                "exploit": of["exploit"]["value"].mean(),
                "worst case": between(*means["worst_case"]),
                "Safety": of["safety"]["value"].mean(),
                "guaranteed": f"{means['guaranteed'][0]:.3f}" if sure else between(*means["guaranteed"]),
            }
        )
    return pd.DataFrame(rows)


def landscape(files: Sequence[Path | str], game: Game | str) -> pd.DataFrame:
    """Payoff and worst case of every strategy of ``game`` and of the agents of result files, one row per seed.

    Returns
    -------
    DataFrame
        agent, kind (a stage, or "scripted"), seed (NaN where there is none), ``payoff``, ``exploit`` (what the pool
        gains), ``worst_case`` with ``worst_case_low`` and ``worst_case_high`` (NaN: not bounded from above), all per
        round; rows whose worst case is not known are left out.
    """
    game = get_game(game)
    rows = []
    for one in scripted(game, known_worst_case=True):
        payoff, gain = one.terms[:2].tolist()
        rows.append((one.name, "scripted", None, payoff, gain, *(one.worst_case.value,) * 3))
    found = read_results(files)
    found = found[(found["game"] == game.spec.id) & found["value"].notna()]
    for (model, _, stage, seed), part in found.groupby(list(KEYS), dropna=False, sort=False):
        known = part.set_index("metric")
        if "worst_case" in known.index:
            payoff, gain = known.loc[["payoff", "exploit"], "value"]
            worst = known.loc["worst_case", ["value", "low", "high"]]
            rows.append((f"{model} {STAGE_NAMES[stage]}", stage, seed, payoff, gain, *worst))
    columns = ["payoff", "exploit", "worst_case", "worst_case_low", "worst_case_high"]
    frame = pd.DataFrame(rows, columns=["agent", "kind", "seed", *columns])
    return frame.astype(dict.fromkeys(["seed", *columns], float))


# --- the adversary --------------------------------------------------------------------------------


def side_by_side(game: Game | str, agent: Policy, adversary: TabularPolicy) -> pd.DataFrame:
    """How ``agent`` plays at every information state, and what the ``adversary`` that beats it does at the same: for
    games of few information states, whose seats meet the same ones.

    Returns
    -------
    DataFrame
        One row per information state: state (its key), situation (what a player is told), agent and adversary
        (probabilities in words; ``NEVER`` where the adversary never gets there).
    """
    game = get_game(game)
    rows = []
    for seen in exact.information_states(game):
        (ours,) = distributions_of(agent, [seen])
        reply = adversary.table.get(adversary.row(seen))
        rows.append(
            {
                "state": seen.key,
                "situation": game.render(seen),
                AGENT: _words(seen.legal_actions, ours),
                ADVERSARY: NEVER if reply is None else _words(seen.legal_actions, reply),
            }
        )
    return pd.DataFrame(rows)


def _words(actions: Sequence[str], probabilities: Sequence[float]) -> str:
    """What is played, the sure move by its name alone."""
    kept = {action: float(p) for action, p in zip(actions, probabilities, strict=True) if p >= 0.005}
    return next(iter(kept)) if len(kept) == 1 else stated(kept)


def moves(
    game: Game | str, agent: Policy, adversary: Policy, episodes: int = 1, seed: int = 0
) -> pd.DataFrame:
    """Matches of ``agent`` against ``adversary``, one row per move.

    Returns
    -------
    DataFrame
        episode and round (from 1), who, ``told`` (what it was told), action; at the last move of a round ``earned`` (by
        the adversary, more than by the agent) and ``lead``, the sum of that since the first round, else NaN.
    """
    game = get_game(game)
    rows, lead = [], 0.0
    for episode in play(game, agent, adversary, episodes, seed):
        match = Match(episode.pool, episode.opponent, episode.index)
        actions = [decision.action for decision in episode.decisions]
        turns = replayed(game, match, actions, seed, answers=episode.answers).turns
        ends = {turn.round: place for place, turn in enumerate(turns)}
        for place, turn in enumerate(turns):
            row = {
                "episode": episode.index + 1,
                "round": turn.round + 1,
                "who": ADVERSARY if turn.seat else AGENT,
                "told": turn.prompt.splitlines()[-1],
                "action": turn.action,
                "earned": float("nan"),
                "lead": float("nan"),
            }
            if ends[turn.round] == place:
                earned = episode.their[turn.round] - episode.own[turn.round]
                lead += earned
                row |= {"earned": earned, "lead": lead}
            rows.append(row)
    return pd.DataFrame(rows)


# --- Kuhn's equilibria ----------------------------------------------------------------------------


def equilibria(alphas: Sequence[float] = FAMILY) -> pd.DataFrame:
    """Kuhn's equilibria, exactly: one row per ``alpha`` with ``payoff`` (against the train pool), ``exploit``,
    ``worst_case``, ``safety`` and ``guaranteed`` at the game's evaluation weights.

    >>> bool(equilibria([0.0])["worst_case"].abs().max() < 1e-12)
    True
    """
    game = get_game("kuhn")
    rows = []
    for alpha in alphas:
        agent = StrategyPolicy(equilibrium(alpha))
        found = exact.terms(game, agent)
        worst = exact.worst_case(game, agent).advantage
        found = type(found)(**{**vars(found), "worst_case": worst})
        rows.append(
            {
                "alpha": alpha,
                "payoff": found.payoff,
                "exploit": found.exploit,
                "worst_case": worst,
                "safety": objective(game.spec, found, game.spec.eval_weights),
                "guaranteed": guaranteed(game.spec, found, game.spec.eval_weights),
            }
        )
    return pd.DataFrame(rows)


def chips(policies: dict[str, Policy]) -> pd.DataFrame:
    """Probability of putting in a chip at each information state of Kuhn poker: one row per agent, one column per
    state."""
    states = exact.information_states("kuhn")
    rows = {name: [float(p[1]) for p in policy.distributions(states)] for name, policy in policies.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=[seen.key for seen in states])


def nearest_alpha(policy: Policy) -> tuple[float, float]:
    """Of Kuhn's equilibria the nearest to ``policy``, and the largest difference of a probability from it."""
    mine = chips({"": policy}).to_numpy()[0]
    alphas = np.linspace(0, 1 / 3, 101)
    family = chips({f"{alpha}": StrategyPolicy(equilibrium(alpha)) for alpha in alphas}).to_numpy()
    apart = np.abs(family - mine).max(axis=1)
    return float(alphas[apart.argmin()]), float(apart.min())


def equilibrium_chips(alphas: Sequence[float] = FAMILY) -> pd.DataFrame:
    """``chips`` of Kuhn's equilibria."""
    return chips({f"α = {alpha:.3f}": StrategyPolicy(equilibrium(alpha)) for alpha in alphas})


def distances(policies: Iterable[Policy]) -> pd.DataFrame:
    """How near an equilibrium of Kuhn poker each policy plays: agent, ``alpha`` and ``apart`` of ``nearest_alpha``, and
    the worst case, per hand."""
    rows = []
    for policy in policies:
        alpha, apart = nearest_alpha(policy)
        worst = exact.worst_case("kuhn", policy).advantage
        rows.append({"agent": policy.name, "alpha": alpha, "apart": apart, "worst_case": worst})
    return pd.DataFrame(rows)
