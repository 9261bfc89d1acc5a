"""How an agent does against a suite of adversaries that nobody trained against, worst first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from sepo_kit.adversaries.gain import FRESH, gain_of
from sepo_kit.adversaries.play import play
from sepo_kit.adversaries.suites import suite as members_of
from sepo_kit.engine.confidence import widened
from sepo_kit.engine.policy import NoDistribution, Policy, scripted
from sepo_kit.engine.reworded import require_wordings, reworded
from sepo_kit.engine.simulate import simulate_all
from sepo_kit.evaluation.agents import agents_of
from sepo_kit.evaluation.results import KEYS
from sepo_kit.games import get_game
from sepo_kit.games.base import Game
from sepo_kit.games.numbers import require_count

WORDINGS = "wordings"


@dataclass(frozen=True)
class HeldOut:
    """What a suite found.

    ``frame``: a row per adversary, the one that gained most first: adversary, payoff (the agent's, per round), gain
    (how much more the adversary earned, per round) with low and high (its 95 % interval), episodes.
    """

    agent: str
    game: str
    suite: str
    frame: pd.DataFrame = field(repr=False)

    @property
    def worst(self) -> str:
        """The adversary that gained most."""
        return str(self.frame["adversary"].iloc[0])

    @property
    def gain(self) -> float:
        """What it gained."""
        return float(self.frame["gain"].iloc[0])

    @property
    def payoff(self) -> float:
        """The agent's mean payoff over all adversaries, per round."""
        return float(self.frame["payoff"].mean())

    def to_frame(self) -> pd.DataFrame:
        """``frame`` with the agent, game and suite in every row."""
        return self.frame.assign(agent=self.agent, game=self.game, suite=self.suite)


def held_out(
    agent: Policy,
    game: Game | str,
    suite: str | Mapping[str, Policy] = "strategies",
    episodes: int = 20,
    seed: int = 0,
) -> HeldOut:
    """Play ``agent`` against every adversary of ``suite``.

    Parameters
    ----------
    suite
        "axelrod" (the prisoner's dilemma, over 200 strategies), "openspiel" (Kuhn poker), "strategies" (any game),
        "wordings" (the exploit pool, the agent asked in each wording of the game that no training shows), or policies
        of seat 1 by name.
    episodes
        Against each.

    Raises
    ------
    ValueError
        No such suite, or not for this game; a library is not installed; fewer than two episodes.
    """
    game = get_game(game)
    require_count("episodes", episodes, 2)
    found = {}
    for words, player, members in _sittings(game, agent, suite):
        for adversary, payoffs in _payoffs(game, player, members, episodes, seed).items():
            found[adversary + words] = payoffs
    rows = []
    for adversary, (own, their) in found.items():
        gain = gain_of(their - own)
        rows.append((adversary, own.mean(), gain.value, gain.low, gain.high, episodes))
    frame = pd.DataFrame(rows, columns=["adversary", "payoff", "gain", "low", "high", "episodes"])
    frame = frame.sort_values("gain", ascending=False, kind="stable", ignore_index=True)
    return HeldOut(agent.name, game.spec.id, suite if isinstance(suite, str) else "given", frame)


def _sittings(
    game: Game, agent: Policy, suite: str | Mapping[str, Policy]
) -> Iterator[tuple[str, Policy, Mapping[str, Policy]]]:
    """Who plays whom: what sets the words apart in which the agent is asked, the agent, its adversaries by name."""
    if suite == WORDINGS:
        pool = {name: scripted(game, name) for name in game.spec.pools.exploit}
        for wording in require_wordings(game):
            yield f" in {wording} words", reworded(agent, game, wording), pool
        return
    members = members_of(game, suite, agent) if isinstance(suite, str) else suite
    if not members:
        raise ValueError("the suite is empty; give adversaries by name")
    yield "", agent, members


def held_out_of(
    files: Sequence[Path | str], suite: str = "axelrod", episodes: int = 20, seed: int = 0
) -> pd.DataFrame:
    """The agents of result files against ``suite``: a row per agent and adversary, with the columns of
    ``HeldOut.frame`` after model, game, stage and seed."""
    frames = [
        held_out(agent, label["game"], suite, episodes, seed).frame.assign(**label)
        for label, agent in tqdm(agents_of(files), total=len(files), desc=f"suite {suite}")
    ]
    columns = [*KEYS, "adversary", "payoff", "gain", "low", "high", "episodes"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def worst_offenders(found: pd.DataFrame) -> pd.DataFrame:
    """Of ``held_out_of``: a row per agent with its mean payoff over the suite, the adversary that gained most, what
    that gained, and ``low`` and ``high`` of it. Of many sampled numbers the largest is as a rule a lucky one: the
    interval is as wide as all of the suite take together (Bonferroni), and ``may be chance`` says "yes" where it
    reaches down to 0, else ""."""
    rows = []
    for key, part in found.groupby(list(KEYS), dropna=False, sort=False):
        worst = part.loc[part["gain"].idxmax()]
        gain = worst["gain"]
        low, high = (
            widened(end, gain, int(worst["episodes"]) - 1, len(part)) for end in worst[["low", "high"]]
        )
        chance = "yes" if low <= 0 else ""
        rows.append((*key, part["payoff"].mean(), worst["adversary"], gain, low, high, chance))
    return pd.DataFrame(rows, columns=[*KEYS, "mean payoff", "worst", "gain", "low", "high", "may be chance"])


def _payoffs(
    game: Game, agent: Policy, adversaries: Mapping[str, Policy], episodes: int, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Payoffs of the agent and of each adversary per round, by episode, shape (episodes,) each."""
    try:
        found = simulate_all(game, agent, list(adversaries.values()), episodes, seed, FRESH)
        return {
            name: (each.own.mean(axis=1), each.their.mean(axis=1))
            for name, each in zip(adversaries, found, strict=True)
        }
    except NoDistribution:
        played = {
            name: play(game, agent, policy, episodes, seed, FRESH) for name, policy in adversaries.items()
        }
        return {
            name: (np.array([np.mean(e.own) for e in each]), np.array([np.mean(e.their) for e in each]))
            for name, each in played.items()
        }
