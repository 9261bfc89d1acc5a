"""Credit: which decision is paid for what. Pure NumPy, the one place where the five modes live.

==========  =======================================================  ==================  =======================
mode        the penalty a train decision is charged                  trains on           advantage
==========  =======================================================  ==================  =======================
shared      one estimate for the whole group                         train               round, group mean, std
auxiliary   that of fresh episodes played for its rollout            train               round, group mean, std
grouped     none: every episode is charged its own share of J        all                 round, group mean, std
credited    none: every decision is charged its own share of J       all                 to go, others' mean
alignment   as credited                                              all                 credited's, and reciprocity
==========  =======================================================  ==================  =======================

``shared`` cancels in the advantage; ``auxiliary`` (arXiv 2605.30854) is independent of the decisions it is charged to,
but for the externality of the train episode itself; ``grouped`` (the authors' later draft) loses the weights between
pools in the group's std.
``credited`` is the gradient of J: the expected sum of advantage * grad log pi over all decisions of all n
rollouts, divided by n, is dJ up to the one scale of the batch. ``alignment`` (Advantage Alignment, arXiv 2406.14662)
adds, in the train pool, what pays for being good to a partner with whom it went well so far: no gradient of J.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sepo_kit.engine.episode import Episode
from sepo_kit.engine.rollout import Match, matches
from sepo_kit.games.base import POOLS, Game, GameSpec, Pools, Weights
from sepo_kit.objective.terms import coefficients, divisors

MODES = ("shared", "auxiliary", "grouped", "credited", "alignment")
HORIZONS = ("round", "return-to-go")
OWN_HORIZON = {mode: "return-to-go" if mode in ("credited", "alignment") else "round" for mode in MODES}
ALIGNMENT = (
    1.0  # weight of the product of two standardised advantages (ours: that of the advantage it is added to)
)
ROUNDING = 1e-9  # differences below this share of the rewards are not differences
STD_FLOOR = 1e-4  # added to a group's std, as TRL does


@dataclass(frozen=True)
class Credit:
    """What the decisions of a batch earn. All arrays have one entry per decision, shape (D,), in the order of
    the episodes and of the decisions in them.

    ``advantage``: what trains, 0 for decisions that are not trained on. ``trained``: whether the mode trains
    on the decision. ``reward``: before the baseline. ``scale``: what all advantages were divided by.
    """

    advantage: np.ndarray
    trained: np.ndarray
    reward: np.ndarray
    scale: float


def training_matches(
    game: Game, mode: str, rollouts: int, groups: int = 1, pools: Pools | None = None
) -> list[Match]:
    """The episodes one training step of ``mode`` must play: per opponent ``groups`` groups of ``rollouts``.

    ``pools``: None for the game's own.
    """
    pools = game.spec.pools if pools is None else pools
    check_mode(mode)
    if mode != "auxiliary":
        return matches(game, ("train", "exploit", "collusive"), rollouts, groups, pools)
    train = matches(game, ("train",), rollouts, groups, pools)
    return train + [
        Match(pool, opponent, 0, owner=(match.opponent, match.group, match.index))
        for match in train
        for pool in ("exploit", "collusive")
        for opponent in pools[pool]
    ]


def check_mode(mode: str, horizon: str | None = None) -> None:
    """ValueError unless ``mode`` and ``horizon`` are known."""
    if mode not in MODES:
        raise ValueError(f"credit mode must be one of {', '.join(MODES)}, got {mode!r}")
    if horizon is not None and horizon not in HORIZONS:
        raise ValueError(f"horizon must be one of {', '.join(HORIZONS)}, got {horizon!r}")


def assign_credit(
    spec: GameSpec,
    episodes: Sequence[Episode],
    weights: Weights | None = None,
    mode: str = "credited",
    horizon: str | None = None,
) -> Credit:
    """Advantages of all decisions of one batch of ``training_matches``.

    Parameters
    ----------
    weights
        Penalty weights (default: the game's training weights).
    horizon
        Whether a decision earns its own round or all rounds from there on; default "return-to-go" for
        ``credited`` and ``alignment``, "round" for the published modes.

    Raises
    ------
    ValueError
        Unknown mode or horizon, or no episodes.
    """
    check_mode(mode, horizon)
    if not episodes:
        raise ValueError("no episodes to credit; play training_matches(game, mode, rollouts) first")
    weights = spec.weights if weights is None else weights
    horizon = horizon or OWN_HORIZON[mode]
    batch = _Batch(spec, episodes)
    if mode in ("credited", "alignment"):
        earned = batch.shares(weights)
        reward = batch.per_decision(earned, horizon)
        # What a reply leads to is paid to its first use in a match: that is all it has to do with.
        advantage, scale = _scaled(reward, np.where(batch.again, reward, batch.others_mean(reward)))
        if mode == "alignment":
            advantage = advantage + ALIGNMENT * batch.alignment(horizon)
        return Credit(advantage, np.ones(len(reward), dtype=bool), reward, scale)
    if mode == "grouped":
        earned = batch.shares(weights)
        trained = np.ones(len(batch.episode), dtype=bool)
    else:
        earned = batch.payoffs() - batch.penalties(weights, mode)[:, None]
        trained = batch.pool[batch.episode] == "train"
    reward = batch.per_decision(earned, horizon)
    return Credit(np.where(trained, batch.standardised(reward), 0.0), trained, reward, 1.0)


def _scaled(reward: np.ndarray, baseline: np.ndarray) -> tuple[np.ndarray, float]:
    """``reward`` less ``baseline`` over its standard deviation, and that; zeros and 1 where rollouts are equal."""
    advantage = reward - baseline
    scale = float(np.std(advantage)) if len(advantage) else 0.0
    if scale <= ROUNDING * max(1.0, float(np.abs(reward).max(initial=0.0))):
        return np.zeros_like(advantage), 1.0  # only rounding is left
    return advantage / scale, scale


class _Batch:
    """Episodes as arrays: E episodes, T rounds, D decisions."""

    def __init__(self, spec: GameSpec, episodes: Sequence[Episode]) -> None:
        self.spec = spec
        self.episodes = episodes
        self.own = np.array([e.own for e in episodes])  # (E, T)
        self.their = np.array([e.their for e in episodes])
        self.collusion = np.array([e.collusion for e in episodes])
        self.externality = np.array([e.externality for e in episodes])
        self.pool = np.array([e.pool for e in episodes])
        self.group = _numbered(
            [(e.pool, e.opponent, e.group, e.owner and e.owner[0]) for e in episodes]
        )  # (E,)
        self.opponent = _numbered([(e.pool, e.opponent) for e in episodes])
        placed = [(i, d.round, d.move) for i, e in enumerate(episodes) for d in e.decisions]
        self.episode, self.round, self.move = (
            np.array(column, dtype=int) for column in zip(*placed, strict=True)
        )
        slot = self.round * spec.moves_per_round + self.move
        self.slots = slot.max() + 1
        self.slot = slot
        self.group_slot = self.group[self.episode] * self.slots + slot  # (D,)
        self.uses: tuple[np.ndarray, np.ndarray] | None = None
        self.again = np.zeros(len(slot), dtype=bool)
        said = [d.said for e in episodes for d in e.decisions]
        if any(number is not None for number in said):
            self._reused(said)

    def _reused(self, said: Sequence[int | None]) -> None:
        """Note which replies were used where.

        What a decision earns has to do with the replies of its match, or, where rounds are independent, of its round.
        ``uses``: two arrays, decisions and the replies that what they earn has to do with. ``again``, shape (D,):
        whether the reply was used before in that match or round.
        """
        own = ((number, "own") for number in range(len(said)))  # a reply without a number is used once
        self.said = _numbered(
            [alone if name is None else name for name, alone in zip(said, own, strict=True)]
        )
        self.replies = self.said.max() + 1
        independent = self.spec.independent_rounds
        parts = [(e, t if independent else 0) for e, t in zip(self.episode, self.round, strict=True)]
        used: dict[tuple[int, int], dict[int, None]] = {}
        for number, (part, reply) in enumerate(zip(parts, self.said, strict=True)):
            self.again[number] = reply in used.setdefault(part, {})
            used[part][reply] = None
        pairs = [(number, reply) for number, part in enumerate(parts) for reply in used[part]]
        self.uses = tuple(np.array(column) for column in zip(*pairs, strict=True))

    def per_decision(self, earned: np.ndarray, horizon: str) -> np.ndarray:
        """What each decision earns of ``earned``, shape (E, T): its round, or all rounds from there on."""
        if horizon == "return-to-go" and not self.spec.independent_rounds:
            earned = np.cumsum(earned[:, ::-1], axis=1)[:, ::-1]
        return earned[self.episode, self.round]

    def shares(self, weights: Weights) -> np.ndarray:
        """Each round's own share of J, shape (E, T)."""
        gain = self.their - self.own
        # The loser's side of max(0, .): opponents that do not earn more are not charged.
        mean_gain = _mean_by(self.opponent, gain.mean(axis=1))
        lead = gain * (mean_gain > 0)[self.opponent][:, None]
        columns = np.stack([self.own, lead, self.collusion, self.externality], axis=-1)  # (E, T, 4)
        by = {pool: divisors(self.spec, pool) for pool in POOLS}
        counted = np.array([by[pool] for pool in self.pool])[:, None]  # (E, 1, 4)
        return (columns * coefficients(self.spec, weights) / counted).sum(-1) / self.own.shape[1]

    def payoffs(self) -> np.ndarray:
        """Scaled payoff of each round, shape (E, T)."""
        return self.spec.scale * self.own

    def alignment(self, horizon: str) -> np.ndarray:
        """How much better than in the other rollouts the rounds before paid the agent, times how much better this
        decision pays the opponent; both standardised over the train pool, and 0 outside it. Shape (D,)."""
        train = self.pool[self.episode] == "train"
        so_far = np.cumsum(self.payoffs(), axis=1) - self.payoffs()  # (E, T), without the round itself
        theirs = self.per_decision(self.spec.scale * self.their, horizon)
        product = np.zeros(len(train))
        past, now = (
            _scaled(earned[train], self.others_mean(earned)[train])[0]
            for earned in (so_far[self.episode, self.round], theirs)
        )
        product[train] = past * now
        return product

    def penalties(self, weights: Weights, mode: str) -> np.ndarray:
        """The penalty charged to every decision of an episode, shape (E,); 0 outside the train pool."""
        if mode == "shared":
            return np.where(self.pool == "train", self._penalty(weights, np.arange(len(self.episodes))), 0.0)
        members: dict[tuple[str, int, int], list[int]] = {}
        for i, episode in enumerate(self.episodes):
            owner = episode.owner if episode.owner else (episode.opponent, episode.group, episode.index)
            members.setdefault(owner, []).append(i)
        charged = np.zeros(len(self.episodes))
        for indices in members.values():
            train = [i for i in indices if self.pool[i] == "train"]
            charged[train] = self._penalty(weights, np.array(indices))
        return charged

    def _penalty(self, weights: Weights, chosen: np.ndarray) -> float:
        """le * s * e + lc * c + lx * x, estimated from the episodes ``chosen``."""
        gains: dict[str, list[float]] = {}
        for i in chosen[self.pool[chosen] == "exploit"]:
            gains.setdefault(self.episodes[i].opponent, []).append(
                float(np.mean(self.their[i] - self.own[i]))
            )
        exploit = np.mean([max(0.0, float(np.mean(g))) for g in gains.values()]) if gains else 0.0
        collusive = chosen[self.pool[chosen] == "collusive"]
        collusion = self.collusion[collusive].mean() if len(collusive) else 0.0
        bystander = chosen[self.pool[chosen] != "collusive"]
        externality = self.externality[bystander].mean()
        return float(-coefficients(self.spec, weights)[1:] @ [exploit, collusion, externality])

    def others_mean(self, reward: np.ndarray) -> np.ndarray:
        """Mean reward of the group's other rollouts at the same decision; where no other reached it, of the
        pool's other decisions there; 0 where there is none. Shape (D,).

        Where replies are used in several matches, others are those whose pay has nothing to do with this reply.
        """
        pool = np.unique(self.pool, return_inverse=True)[1][self.episode] * self.slots + self.slot
        (mean, found), (fallback, _) = (self._mean_of_others(at, reward) for at in (self.group_slot, pool))
        return np.where(found, mean, fallback)

    def _mean_of_others(self, place: np.ndarray, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean reward of the decisions at the same ``place``, shape (D,), apart from those whose pay has to do with the
        decision's own reply; 0 where there are none, and whether there are."""
        total, count = _sum_by(place, reward), _sum_by(place, np.ones_like(reward))
        of_users, users = reward, np.ones_like(reward)
        if self.uses is not None:
            decision, reply = self.uses
            keys, number = np.unique(place[decision] * self.replies + reply, return_inverse=True)
            own = np.searchsorted(keys, place * self.replies + self.said)
            of_users, users = _sum_by(number, reward[decision])[own], np.bincount(number)[own]
        others = count[place] - users
        return np.where(others > 0, (total[place] - of_users) / np.maximum(others, 1), 0.0), others > 0

    def standardised(self, reward: np.ndarray) -> np.ndarray:
        """(reward - mean) / (std + 1e-4) over the group's rollouts at the same decision. Shape (D,)."""
        count = np.maximum(_sum_by(self.group_slot, np.ones_like(reward)), 1)
        centred = reward - (_sum_by(self.group_slot, reward) / count)[self.group_slot]
        variance = _sum_by(self.group_slot, centred**2) / np.maximum(count - 1, 1)
        return centred / (np.sqrt(variance)[self.group_slot] + STD_FLOOR)


def _numbered(names: Sequence[tuple]) -> np.ndarray:
    numbers: dict[tuple, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names])


def _sum_by(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.bincount(group, weights=values)


def _mean_by(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    return _sum_by(group, values) / np.maximum(np.bincount(group), 1)
