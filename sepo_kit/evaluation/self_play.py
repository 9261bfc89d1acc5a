"""What two copies of one agent come to: payoff, harms, what they play, and in the auction the price they settle on.

Nothing in a match of two copies is anybody's pool: who has learned to do well against fixed opponents may still do
badly by its like, or may have learned to keep a price down that no pool would punish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from sepo_kit.engine.episode import Decision, Episode
from sepo_kit.engine.policy import Policy, scripted
from sepo_kit.engine.rollout import Match, play_matches
from sepo_kit.evaluation.agents import agents_of
from sepo_kit.evaluation.cross_play import POOL
from sepo_kit.evaluation.results import KEYS
from sepo_kit.evaluation.statistics import bootstrap
from sepo_kit.games import get_game
from sepo_kit.games.auction import BIDS, LOW, PRICES, VALUES
from sepo_kit.games.base import Game
from sepo_kit.games.numbers import require_count

MOST_ACTIONS = 10  # of games with more actions the shares are left out
MARKET = ("price", "efficiency", "low bids")  # what only the auction has
EQUILIBRIUM = "equilibrium"
COPY = "self"  # what seat 1 is called: one name, so that all agents meet the same draws of nature

Fractions = dict[str, tuple[np.ndarray, np.ndarray]]


def self_play(
    agents: Mapping[str, Policy], game: Game | str, episodes: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Each agent against a copy of itself.

    Returns
    -------
    DataFrame
        One row per agent and metric: agent, metric, value, low, high (95 % bootstrap over episodes), n. Metrics, over
        both seats: ``payoff``, ``collusion`` and ``externality`` per round; ``plays ACTION``, its share of all
        decisions, in games of at most ten actions; in the auction those of ``MARKET``: the mean price, the value of who
        got the item as a share of the higher value, and how often a bidder of high value bids LOW.

    Raises
    ------
    ValueError
        Unknown game, no agents, or no episodes.

    >>> found = self_play({"cartel": scripted("auction", "collusive-low")}, "auction", 5).set_index("metric")[
    ...     "value"
    ... ]
    >>> found[["price", "low bids"]].tolist()
    [1.0, 1.0]
    """
    game = get_game(game)
    if not agents:
        raise ValueError("there are no agents to play themselves; name some as {name: agent}")
    require_count("episodes", episodes)
    rows = []
    for name, agent in agents.items():
        todo = [Match(POOL, COPY, index) for index in range(episodes)]
        played = play_matches(game, agent, todo, seed, opponents={COPY: agent}, common_random_numbers=False)
        rows += _estimates(name, fractions(game, played), seed)
    return pd.DataFrame(rows)


def self_play_of(files: Sequence[Path | str], episodes: int = 100, seed: int = 0) -> pd.DataFrame:
    """The agents of result files against copies of themselves, playing as they were evaluated: one row per result and
    metric, in the columns of ``evaluation.results.read_results``.

    A trained agent is loaded from the run folder beside the folder of its results.

    Raises
    ------
    RunError, OSError
        A result or a run is missing or broken.
    """
    frames = []
    for label, agent in agents_of(files):
        found = self_play({str(label["stage"]): agent}, label["game"], episodes, seed).drop(columns="agent")
        frames.append(found.assign(**label))
    columns = [*KEYS, "metric", "value", "low", "high", "n"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _estimates(name: str, parts: Fractions, seed: int) -> list[dict]:
    above, below = (np.column_stack([pair[i] for pair in parts.values()]) for i in (0, 1))  # (E, K)

    def statistic(counts: np.ndarray) -> np.ndarray:
        total = counts @ below
        return np.divide(counts @ above, total, out=np.full(len(total), np.nan), where=total > 0)

    ones = np.ones(len(above))
    low, high = bootstrap(np.zeros(len(above)), statistic, seed)
    numbers = zip(parts, statistic(ones).tolist(), low.tolist(), high.tolist(), strict=True)
    return [
        {"agent": name, "metric": metric, "value": value, "low": below, "high": above, "n": len(ones)}
        for metric, value, below, above in numbers
    ]


def fractions(game: Game, episodes: Sequence[Episode]) -> Fractions:
    """The metrics of ``self_play`` as fractions, by episode: what is above and below the line, shape (E,) each."""
    rounds = np.full(len(episodes), float(game.spec.rounds))

    def total(*names: str) -> np.ndarray:
        return np.array([sum(sum(getattr(e, name)) for name in names) for e in episodes])

    found = {
        "payoff": (total("own", "their"), 2 * rounds),
        "collusion": (total("collusion"), rounds),
        "externality": (total("externality"), rounds),
    }
    both = [[d.action for d in (*e.decisions, *e.answers)] for e in episodes]
    made = np.array([len(actions) for actions in both], dtype=float)
    if len(game.spec.actions) <= MOST_ACTIONS:
        for action in game.spec.actions:
            found[f"plays {action}"] = (np.array([float(a.count(action)) for a in both]), made)
    return found | (_market(episodes) if game.spec.id == "auction" else {})


# --- the auction ----------------------------------------------------------------------------------


def _market(episodes: Sequence[Episode]) -> Fractions:
    """``MARKET`` of auctions in which the decisions of both seats are recorded."""
    sums = []
    for episode in episodes:
        own, their = ([_bid(d) for d in moves] for moves in (episode.decisions, episode.answers))
        sums.append(np.sum([_sale(*zip(one, other)) for one, other in zip(own, their, strict=True)], axis=0))
    return _as_fractions(np.array(sums))


def _bid(decision: Decision) -> tuple[int, str]:
    """Value and bid; the key of an information state ends with the value."""
    return int(decision.information.split()[-1]), decision.action


def _sale(values: tuple[int, int], bids: tuple[str, str]) -> np.ndarray:
    """One round: price, value of the winner (of both, where they tie: the mean), the higher value, LOW bids at the high
    value, high values, rounds; shape (6,)."""
    prices = [PRICES[bid] for bid in bids]
    winners = [value for value, price in zip(values, prices, strict=True) if price == max(prices)]
    rich = [bid for value, bid in zip(values, bids, strict=True) if value == max(VALUES)]
    return np.array([max(prices), np.mean(winners), max(values), rich.count(LOW), len(rich), 1.0])


def _as_fractions(sums: np.ndarray) -> Fractions:
    """``MARKET`` from sums of ``_sale``, shape (..., 6)."""
    price, got, best, low, rich, rounds = np.moveaxis(sums, -1, 0)
    return dict(zip(MARKET, ((price, rounds), (got, best), (low, rich)), strict=True))


def markets() -> pd.DataFrame:
    """What two bidders of a kind come to in one round of the auction, exactly: index bidders, columns ``payoff`` and
    those of ``MARKET``.

    ``equilibrium``: the strict equilibrium of one round, found among all bids that depend on the value alone; played in
    every round it is one of the repeated auction too. Beside it the game's truthful and its collusive strategy.

    >>> markets().loc["equilibrium", ["price", "efficiency"]].tolist()
    [1.75, 1.0]
    """
    rows = {EQUILIBRIUM: _bids_of(*equilibria())}
    for name in ("truthful", "collusive-low"):
        rows[name] = _first_bids(name)
    found = {}
    for name, bids in rows.items():
        sums = np.mean([_sale(v, (bids[v[0]], bids[v[1]])) for v in product(VALUES, repeat=2)], axis=0)
        market = {metric: above / below for metric, (above, below) in _as_fractions(sums).items()}
        found[name] = {"payoff": np.mean([_expected(v, bids[v], bids) for v in VALUES]), **market}
    return pd.DataFrame(found).T.rename_axis("bidders")


def _bids_of(*found: dict[int, str]) -> dict[int, str]:
    (only,) = found  # the game has one; another rule may not
    return only


def equilibria() -> list[dict[int, str]]:
    """The strict symmetric equilibria in pure strategies of one round: value -> bid, each bid better than any other
    against an opponent who bids alike."""
    found = []
    for chosen in product(BIDS, repeat=len(VALUES)):
        bids = dict(zip(VALUES, chosen, strict=True))
        others = [(value, bid) for value in VALUES for bid in BIDS if bid != bids[value]]
        if all(_expected(v, bids[v], bids) > _expected(v, bid, bids) + 1e-12 for v, bid in others):
            found.append(bids)
    return found


def _expected(value: int, bid: str, against: Mapping[int, str]) -> float:
    """What ``bid`` at ``value`` earns in one round, by the game's own rules, from an opponent who bids ``against``."""
    start = get_game("auction").initial_state()
    dealt = [(values, p) for values, p in start.chance_outcomes() if values[0] == value]
    likely = sum(p for _, p in dealt)
    earned = (
        p * start.apply_chance(values).apply((bid, against[values[1]])).outcome.payoffs[0]
        for values, p in dealt
    )
    return sum(earned) / likely


def _first_bids(name: str) -> dict[int, str]:
    """The bids of a strategy that goes by its value alone."""
    start = get_game("auction").initial_state()
    agent = scripted("auction", name)
    states = {values[0]: start.apply_chance(values).information(0) for values, _ in start.chance_outcomes()}
    return {value: BIDS[int(agent.distribution(seen).argmax())] for value, seen in states.items()}
