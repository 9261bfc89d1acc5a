"""Scripted play, side by side with the libraries people know, in one run on one core.

The prisoner's dilemma against Axelrod's library (the same strategies, 8 rounds), Kuhn poker against OpenSpiel's C++
(uniformly random hands, driven from Python the quick way). ``play`` keeps a record of every decision, ``simulate``
keeps payoffs and harms, as the peers do.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from common import conclude, options, seconds

import sepo_kit as sk
from sepo_kit.engine.rollout import Match, play_matches
from sepo_kit.engine.simulate import simulate


def recorded(game: str, agent: str, opponent: str, count: int) -> None:
    """Play ``count`` episodes in one lockstep batch, every decision recorded."""
    game = sk.get_game(game)
    todo = [Match("none", opponent, index) for index in range(count)]
    play_matches(game, sk.scripted(game, agent), todo, seed=0, common_random_numbers=False)


def simulated(game: str, agent: str, opponent: str, count: int) -> None:
    """Play ``count`` episodes for their payoffs and harms only."""
    game = sk.get_game(game)
    simulate(game, sk.scripted(game, agent), opponent, count, seed=0)


def axelrod_matches(agent: str, opponent: str, count: int) -> None:
    """Play ``count`` matches of 8 rounds in Axelrod's library, without its cache of repeated matches."""
    import axelrod

    players = {"tit-for-tat": axelrod.TitForTat, "grim-trigger": axelrod.Grudger, "mixed-0.5": axelrod.Random}
    for index in range(count):
        pair = (players[agent](), players[opponent]())
        axelrod.Match(pair, turns=8, seed=index).play()


def openspiel_hands(count: int) -> None:
    """Play ``count`` uniformly random hands of Kuhn poker in OpenSpiel."""
    import pyspiel

    game = pyspiel.load_game("kuhn_poker")
    rng = np.random.default_rng(0)
    for _ in range(count):
        state = game.new_initial_state()
        while not state.is_terminal():
            actions = state.legal_actions()
            state.apply_action(actions[int(rng.random() * len(actions))])
        state.returns()


def main() -> None:
    smoke = options(__doc__).smoke
    count, repeats = (50, 1) if smoke else (4_000, 5)
    fewer = max(10, count // 10)
    peers = [
        ("ipd", agent, opponent, "Axelrod", fewer, lambda a=agent, o=opponent: axelrod_matches(a, o, fewer))
        for agent, opponent in (("tit-for-tat", "grim-trigger"), ("tit-for-tat", "mixed-0.5"))
    ]
    peers.append(("kuhn", "uniform", "uniform", "OpenSpiel", 6 * fewer, lambda: openspiel_hands(6 * fewer)))
    rows = []
    for game, agent, opponent, peer, peer_count, peer_work in peers:
        unit, per_episode = {"ipd": ("matches/s", 1), "kuhn": ("hands/s", 6)}[game]
        rate = peer_count / seconds(peer_work, repeats)
        for how in (simulated, recorded):
            ours = (
                count * per_episode / seconds(lambda h=how, p=(game, agent, opponent): h(*p, count), repeats)
            )
            rows.append(
                {"game": game, "players": f"{agent}, {opponent}", "how": how.__name__, "unit": unit, "sepo_kit": ours,
                 "peer": peer, "peer_rate": rate, "ratio": ours / rate}
            )  # fmt: skip
    conclude("simulation", rows, smoke)


if __name__ == "__main__":
    main()
