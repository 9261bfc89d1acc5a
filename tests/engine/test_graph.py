"""The graph of states: built once, equal positions held once."""

from __future__ import annotations

import pytest

from sepo_kit.adversaries.attacked import AttackedGame
from sepo_kit.engine import graph
from sepo_kit.engine.graph import StateGraph, shared_graph
from sepo_kit.engine.policy import uniform
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.games import get_game


def test_nodes_hold_what_their_states_say():
    graph = StateGraph(get_game("kuhn"))
    root = graph.root
    assert root.actors == () and root.outcome is None and root.round == 0
    outcomes, probabilities, cumulative = root.chance
    assert len(outcomes) == 6 and probabilities == pytest.approx([1 / 6] * 6)
    assert cumulative[-1] == pytest.approx(1)
    dealt = root.after_chance(outcomes.index(("J", "K")))
    assert dealt.actors == (0,) and dealt.seen[0].key == "J" and 1 not in dealt.seen
    folded = dealt.after(("BET",)).after(("FOLD",))
    assert folded.outcome.payoffs == (1.0, -1.0) and folded.round == 1
    assert folded.harms.externality == 0


def test_equal_positions_are_one_node_however_reached():
    """After a hand of poker the same cards of the next hand may follow."""
    graph = StateGraph(get_game("kuhn"))
    passed = [graph.root.after_chance(deal).after(("PASS",)).after(("PASS",)) for deal in range(6)]
    # Two outcomes (either seat wins a chip), but the cards stay in the record of the hand.
    again = {passed[0].after_chance(3), passed[5].after_chance(3)}
    assert len(again) == 1
    before = len(graph)
    assert graph.root.after_chance(0).after(("PASS",)).after(("PASS",)) is passed[0]
    assert len(graph) == before


def test_equal_information_states_are_one_object():
    """Policies look information states up by hash; a seat's card is the same whatever the other holds."""
    graph = StateGraph(get_game("kuhn"))
    deals = graph.root.chance[0]
    one, other = (graph.root.after_chance(deals.index(("J", card))) for card in ("Q", "K"))
    assert one is not other and one.seen[0] is other.seen[0]


def test_illegal_moves_are_refused():
    with pytest.raises(ValueError, match="CALL"):
        StateGraph(get_game("kuhn")).root.after_chance(0).after(("CALL",))


def test_graphs_of_games_that_are_not_played_any_more_are_forgotten():
    """An adversary's game holds the agent that it attacks, and with it a model."""
    kept = shared_graph(get_game("kuhn"))
    for _ in range(2 * graph.MOST_GRAPHS):
        shared_graph(AttackedGame(get_game("kuhn")))
        assert shared_graph(get_game("kuhn")) is kept
    assert len(graph._shared) <= graph.MOST_GRAPHS


@pytest.mark.parametrize("name", ["ipd", "kuhn", "auction", "negotiation_v2"])
def test_a_path_tells_all_that_happened(name):
    """Walked again it comes through the agent's decisions, in order, and to the payoffs of the record."""
    game = get_game(name)
    for episode in play_matches(game, uniform(game), matches(game, ("train", "exploit"), 2), seed=3):
        made, own = [], []
        for node, event in shared_graph(game).walk(episode.path):
            if 0 in node.actors:
                made.append((node.seen[0].key, event[node.actors.index(0)]))
            if node.outcome is not None:
                own.append(node.outcome.payoffs[0])
        assert made == [(decision.information, decision.action) for decision in episode.decisions]
        assert own == episode.own[:-1]  # the last round's stands where the path ends
