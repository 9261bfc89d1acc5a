"""An agent that answers in words, asked so often in every information state that its answers are a table.

Nature and opponents are then summed exactly, and only what the agent says is sampled. What a table earns is linear in
each of its rows where no match comes to an information state twice (perfect recall), so payoff, harms and what a given
opponent gains are right on average; exploit, which counts gains above 0 only, is biased upward by a little, and the
maximum over adversaries by more: that is bounded, see ``worst_case_of``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
from tqdm.auto import tqdm

from sepo_kit import exact
from sepo_kit.adversaries.exploiters import best_response
from sepo_kit.adversaries.worst_case import KnownWorstCase
from sepo_kit.engine.policy import Policy, TabularPolicy, tabular
from sepo_kit.evaluation.evaluate import Report, numbers_of, sampled_estimates
from sepo_kit.evaluation.statistics import RESAMPLES, percentiles
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState, Weights

LEAST = 4  # replies of a state: two in each half


@dataclass(frozen=True)
class Asked:
    """What an agent answered in every information state.

    ``states``: S of them. ``counts``: of each an array, shape (2, A, 2): in each half of its replies, by legal action,
    how many could be read and how many not. ``replies``: of each state, even.
    """

    game: Game
    name: str
    states: tuple[InformationState, ...]
    counts: tuple[np.ndarray, ...]
    replies: int

    @classmethod
    def of_policy(cls, game: Game | str, policy: Mapping[str, Mapping[str, float]], replies: int) -> Asked:
        """As if what was answered were known by its shares alone: ``policy``, by information state and action."""
        game = get_game(game)
        states = tuple(exact.information_states(game))
        for state in states:
            if missing := [
                action for action in state.legal_actions if action not in policy.get(state.key, {})
            ]:
                raise ValueError(
                    f"the policy does not say how likely {', '.join(missing)} is in {state.key!r} of {game.spec.id}; "
                    "ask the agent again"
                )
        shares = [np.array([policy[state.key][action] for action in state.legal_actions]) for state in states]
        counts = tuple(np.stack([replies / 2 * np.column_stack([p, 0 * p])] * 2) for p in shares)
        return cls(game, "asked", states, counts, replies)

    def policy(self, half: int | None = None) -> TabularPolicy:
        """The shares of its answers as a policy; ``half``: of that half only."""
        return self.policy_of(self.counts, half)

    def resampled(self, seed: int, resamples: int = RESAMPLES) -> list[tuple[np.ndarray, ...]]:
        """``counts`` anew, so many times: of n replies n - 1 are drawn, as in ``statistics.resampled``."""
        rng = np.random.default_rng(seed)
        n = self.replies // 2
        shares = [count.reshape(2, -1) / n for count in self.counts]
        drawn = [rng.multinomial(n - 1, share, (resamples, 2)) for share in shares]  # (R, 2, 2A)
        return [
            tuple(one[r].reshape(count.shape) for one, count in zip(drawn, self.counts, strict=True))
            for r in range(resamples)
        ]

    def policy_of(self, counts: tuple[np.ndarray, ...], half: int | None = None) -> TabularPolicy:
        """The policy of other ``counts``, such as resampled ones."""
        rows = {}
        for state, count in zip(self.states, counts, strict=True):
            said = (count.sum(axis=0) if half is None else count[half]).sum(axis=-1)
            rows[state.key] = said / said.sum()
        return tabular(self.game, rows, name=self.name)


def ask(agent: Policy, game: Game | str, replies: int, seed: int = 0) -> Asked:
    """Ask ``agent`` for so many replies in every information state of ``game``.

    Raises
    ------
    ValueError
        Too few replies, or a game whose information states are too many to ask in each.
    """
    game = get_game(game)
    if not game.spec.few_states:
        raise ValueError(
            f"{game.spec.id} has too many information states to ask in each; play episodes instead"
        )
    if replies < LEAST or replies % 2:
        raise ValueError(
            f"replies must be even and >= {LEAST}, got {replies}: half of them check the other half"
        )
    states, rng = exact.information_states(game), np.random.default_rng(seed)
    counts = []
    for state in tqdm(states, desc=f"asking {agent.name}", leave=False):
        count = np.zeros((2, len(state.legal_actions), 2), dtype=int)
        for number, decision in enumerate(agent.act([state] * replies, rng.random(replies).tolist())):
            count[number % 2, state.legal_actions.index(decision.action), int(decision.fallback)] += 1
        counts.append(count)
    return Asked(game, agent.name, tuple(states), tuple(counts), replies)


def asked_report(
    asked: Asked, weights: Weights | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> Report:
    """The report of an agent by what it answered; its intervals are those of the replies, ``n`` their number."""
    spec = asked.game.spec
    weights = spec.eval_weights if weights is None else weights
    resampled = asked.resampled(seed, resamples)
    known = worst_case_of(asked, resampled)
    found = replace(exact.terms(asked.game, asked.policy()), worst_case=known.value)
    drawn = _numbers(asked, resampled, weights, known.value)
    ends, n = percentiles(drawn, asked.replies), asked.replies * len(asked.states)
    estimates = sampled_estimates(spec, found, weights, _fallback(asked.counts), known, ends, n)
    return Report(asked.name, spec.id, found, estimates, weights, [], known)


def metrics_resampled(asked: Asked, weights: Weights, seed: int) -> np.ndarray:
    """The metrics of ``asked_report`` but those of the worst case, in every resample: shape (R, K)."""
    return _numbers(asked, asked.resampled(seed), weights, None)


def stored_resamples(result: Mapping[str, Any]) -> np.ndarray:
    """``metrics_resampled`` of a result file, ``results.read_result``, from its stored shares; no two results share
    their chance."""
    label, settings = result["label"], result["settings"]
    asked = Asked.of_policy(label["game"], result["policy"], settings["replies"])
    return metrics_resampled(asked, asked.game.spec.eval_weights, crc32(repr(label).encode()))


def worst_case_of(asked: Asked, resampled: list[tuple[np.ndarray, ...]]) -> KnownWorstCase:
    """Between what the worst case of the agent lies.

    The best response to one half of the replies is measured on the other half, where it was not chosen for it: no
    adversary gains less than that on average. The best response to all of them gains on average more than there is,
    for it exploits chance too (Jensen). ``low`` and ``high``: the ends of the 95 % intervals on either side.
    """
    game, each = asked.game, [asked.counts, *resampled]
    checked = np.zeros(len(each))
    for half in (0, 1):
        adversary, _ = best_response(game, asked.policy(half))
        others = (asked.policy_of(counts, 1 - half) for counts in each)
        checked += [one.advantage / 2 for one in exact.each_against(game, others, adversary)]
    over = [exact.worst_case(game, asked.policy_of(counts)) for counts in each]
    drawn = np.column_stack([checked, [one.advantage for one in over]])[1:]
    (low, _), (_, high) = np.stack(percentiles(drawn, asked.replies), axis=1)
    value = float(checked[0])
    return KnownWorstCase(value, min(float(low), value), max(float(high), value), over[0].adversary, "bounds")


def _numbers(
    asked: Asked, resampled: list[tuple[np.ndarray, ...]], weights: Weights, worst: float | None
) -> np.ndarray:
    """The metrics of each resample, shape (R, K)."""
    spec, rows = asked.game.spec, []
    for counts in resampled:
        terms = replace(exact.terms(asked.game, asked.policy_of(counts)), worst_case=worst)
        rows.append(numbers_of(spec, terms, weights, _fallback(counts)))
    return np.array(rows)


def _fallback(counts: tuple[np.ndarray, ...]) -> float:
    """Share of replies that could not be read."""
    return float(sum(count[..., 1].sum() for count in counts) / sum(count.sum() for count in counts))
