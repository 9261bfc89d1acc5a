"""What it is worth to say a reply once and to use it often: the noise of one update, and how much of the gradient the
mean update has, in Kuhn poker, by groups and by the most replies to a prompt.

A table that is far from the solution, four rollouts, the game's weight of exploit. ``replies``: of a step, on average;
``noise``: of one update, in lengths of the mean one; ``share``: of the true gradient in the mean update, less than all
since g_o is read off the batch (``docs/method.md``). ``error``: the standard error of that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from common import conclude, options

from sepo_kit import exact
from sepo_kit.engine.policy import TabularPolicy, tabular
from sepo_kit.engine.reuse import Reusing
from sepo_kit.engine.rollout import play_matches
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState, Weights
from sepo_kit.objective.credit import assign_credit, training_matches
from sepo_kit.objective.terms import objective

ROLLOUTS = 4
CASES = ((1, 0), (4, 0), (1, 8), (4, 8), (16, 8))  # groups, and the most replies to a prompt
Question = Callable[[InformationState], Hashable]
KUHN = {
    "J": -0.6, "Q": 0.3, "K": 0.8, "Jp": 0.4, "Qp": -0.5, "Kp": 0.7,
    "Jb": -0.3, "Qb": -0.8, "Kb": 0.9, "Jpb": -0.7, "Qpb": 0.2, "Kpb": 0.6,
}  # fmt: skip
CHIPS = ("BET", "CALL", "DEFECT")


class Case:
    """A table of logits in a game of two actions, and what its updates come to, ``groups`` of four rollouts each."""

    def __init__(
        self,
        game: Game,
        logits: dict[str, float],
        row: str,
        weights: Weights,
        question: Question,
        groups: int = 2,
    ) -> None:
        self.game, self.row, self.weights, self.question, self.groups = game, row, weights, question, groups
        self.labels, self.logits = list(logits), np.array(list(logits.values()))
        self.asked: list[int] = []  # how many replies each step took

    def policy(self, logits: np.ndarray) -> TabularPolicy:
        second = 1 / (1 + np.exp(-logits))
        return tabular(
            self.game, {k: (1 - p, p) for k, p in zip(self.labels, second, strict=True)}, row=self.row
        )

    def truth(self) -> np.ndarray:
        """By central differences of the enumeration."""

        def j(logits) -> float:
            return objective(self.game.spec, exact.terms(self.game, self.policy(logits)), self.weights)

        step = 1e-4
        moves = step * np.eye(len(self.logits))
        return np.array([(j(self.logits + d) - j(self.logits - d)) / (2 * step) for d in moves])

    def estimates(self, steps: int, replies: int, forgetful: bool = False) -> np.ndarray:
        """The updates of so many steps, shape (steps, parameters); ``replies``: most to a question, 0 for one of its
        own to every decision; ``forgetful``: credit is not told of the reuse."""
        policy, chips = self.policy(self.logits), 1 / (1 + np.exp(-self.logits))
        number = {label: i for i, label in enumerate(self.labels)}
        todo = training_matches(self.game, "credited", ROLLOUTS, self.groups)
        found = np.zeros((steps, len(self.labels)))
        for step in range(steps):
            agent = Reusing(policy, replies, (0, step), self.question) if replies else policy
            episodes = play_matches(self.game, agent, todo, seed=0, step=step)
            if forgetful:
                for episode in episodes:
                    episode.decisions = [replace(d, said=None) for d in episode.decisions]
            credit = assign_credit(self.game.spec, episodes, self.weights)
            decisions = [d for episode in episodes for d in episode.decisions]
            self.asked.append(agent.given if replies else len(decisions))
            for decision, advantage in zip(decisions, credit.advantage * credit.scale, strict=True):
                i = number[decision.information.split(" ")[-1]]
                found[step, i] += advantage * ((decision.action in CHIPS) - chips[i])
        return found / (ROLLOUTS * self.groups)


def kuhn(weights: Weights, groups: int = 2) -> Case:
    """A table of Kuhn poker that is far from the solution."""
    return Case(get_game("kuhn"), KUHN, "key", weights, lambda seen: seen.key, groups)


def along(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """How much of the true gradient a mean update has, and the standard error of that."""
    shares = found @ truth / (truth @ truth)
    return float(shares.mean()), float(shares.std() / np.sqrt(len(shares)))


def noise(found: np.ndarray) -> float:
    """Of one update, in lengths of the mean one."""
    return float(np.sqrt(found.var(axis=0).sum()) / np.linalg.norm(found.mean(axis=0)))


def main() -> None:
    smoke = options(__doc__).smoke
    rows = []
    for groups, replies in CASES[-2:] if smoke else CASES:
        case = kuhn(Weights(get_game("kuhn").spec.weights.exploit, 0, 0), groups)
        found = case.estimates(3 if smoke else 400, replies)
        share, error = along(found, case.truth())
        rows.append(
            {
                "groups": groups,
                "most": replies or None,
                "replies": float(np.mean(case.asked)),
                "noise": noise(found),
                "share": share,
                "error": error,
            }
        )
    conclude("reuse", rows, smoke)


if __name__ == "__main__":
    main()
