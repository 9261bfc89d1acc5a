"""Folded trees give the worst case itself wherever the label suffices, and never see what is hidden."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from toys import shorten, spec

from sepo_kit import exact
from sepo_kit.adversaries.gain import measured_gain
from sepo_kit.engine.policy import scripted, tabular, uniform
from sepo_kit.exact.fitted import explored, fitted
from sepo_kit.exact.folded import CannotFold, FoldedTree, Reply, folded, name_of
from sepo_kit.games import GAMES, auction, get_game, ipd
from sepo_kit.games.base import Game, Harms, InformationState, Outcome, Pools, State, UniformStrategy

SUFFICE = [game.spec.id for game in GAMES.values() if game.spec.label_suffices]


def label_table(game, rng):
    """A random policy that goes by the label alone."""
    counts = {seen.label: len(seen.legal_actions) for seen in folded(game).ours.first[1:]}
    return tabular(
        game, {label: rng.dirichlet([0.5] * n) for label, n in counts.items()}, row="label", name="table"
    )


def test_these_games_fold():
    assert SUFFICE == ["ipd", "auction", "negotiation_v1"]


@pytest.mark.parametrize("game_id", SUFFICE)
def test_positions_that_are_one_have_the_same_future(game_id):
    """Random play: equal labels of both seats in the same round lead to the same labels with the same payoffs."""
    game, rng, futures = get_game(game_id), np.random.default_rng(0), {}

    def future(state):
        found = []
        for joint in product(*(state.information(seat).legal_actions[:3] for seat in (0, 1))):
            child = state.apply(joint)
            after = [(child, 1.0)]
            if child.chance_outcomes():
                after = [(child.apply_chance(o), p) for o, p in child.chance_outcomes()]
            seen = sorted(
                (p, *(name_of(s.information(seat), "label") for seat in (0, 1))) if s.actors else (p,)
                for s, p in after
            )
            found.append((child.outcome.payoffs, seen))
        return found

    merged = 0
    for _ in range(60):
        state = game.initial_state()
        while not state.is_terminal:
            outcomes = state.chance_outcomes()
            if outcomes:
                state = state.apply_chance(outcomes[rng.integers(len(outcomes))][0])
                continue
            views = [state.information(seat) for seat in (0, 1)]
            name = (state.round, *(v.label for v in views))
            merged += name in futures
            assert futures.setdefault(name, future(state)) == future(state)
            assert views[0].round == views[1].round == state.round
            state = state.apply(tuple(str(rng.choice(v.legal_actions[:3])) for v in views))
    assert merged > 30


@pytest.mark.parametrize("game_id", ["ipd", "negotiation_v1"])
def test_folding_by_the_label_changes_nothing(game_id):
    game, rng = get_game(game_id), np.random.default_rng(1)
    agent = label_table(game, rng)
    by_label = exact.worst_case(game, agent, memory="label")
    merged = exact.worst_case(game, agent, memory="memory_one")  # a tree of states, merged
    assert by_label.advantage == pytest.approx(merged.advantage, abs=1e-9)
    if game_id == "ipd":
        gained = exact.against(game, agent, by_label.adversary).advantage
        assert by_label.advantage == pytest.approx(exact.worst_case(game, agent).advantage, abs=1e-9)
        assert gained == pytest.approx(by_label.advantage, abs=1e-9)


def test_the_auction_folds_to_its_exact_worst_case(monkeypatch):
    """Two rounds, where every state can be enumerated: hidden values, bids that are seen."""
    game = shorten(monkeypatch, auction, rounds=2)
    rng = np.random.default_rng(2)
    for _ in range(3):
        agent = label_table(game, rng)
        found = exact.worst_case(game, agent, memory="label")
        assert found.advantage == pytest.approx(exact.worst_case(game, agent).advantage, abs=1e-9)
        assert exact.against(game, agent, found.adversary).advantage == pytest.approx(found.advantage)


def test_in_the_whole_auction_the_adversary_gains_what_the_tree_says():
    game = get_game("auction")
    agent = label_table(game, np.random.default_rng(3))
    found = exact.worst_case(game, agent, memory="label")
    gained = measured_gain(game, agent, found.adversary, 1_500)
    assert gained.value == pytest.approx(found.advantage, abs=2 * (gained.high - gained.low))
    better = max(measured_gain(game, agent, scripted(game, s), 300).value for s in game.strategies)
    assert found.advantage > better


def test_keys_that_stand_alone_make_the_response_exact():
    """Tit-for-two-tats goes by two rounds: folded by label alone it is misread, with its keys it is not."""
    game = get_game("ipd")
    agent = scripted(game, "tit-for-two-tats")
    keys = exact.policy_table(game, agent)
    tree = FoldedTree(game, "label", keys, max_moves=100_000)
    found = tree.respond(tree.probabilities(lambda called, seen: agent.distributions([seen])[0]))
    assert found.lead == pytest.approx(exact.worst_case(game, agent).advantage, abs=1e-9)
    with pytest.raises(ValueError, match="goes by more than memory='label'"):
        exact.worst_case(game, agent, memory="label")


@pytest.mark.parametrize(("game_id", "why"), [("kuhn", "a seat moves alone"), ("negotiation_v2", "nature")])
def test_other_games_are_refused(game_id, why):
    with pytest.raises(CannotFold, match=why):
        folded(get_game(game_id))
    assert not get_game(game_id).spec.label_suffices


def test_an_agent_whose_play_depends_on_past_values_is_refused():
    game = get_game("auction")
    with pytest.raises(ValueError, match="grim-trigger goes by more than memory='label'"):
        exact.worst_case(game, scripted(game, "grim-trigger"), memory="label")
    assert exact.worst_case(game, uniform(game), memory="label").advantage > 0


def test_a_reply_is_known_by_its_rows_and_by_what_they_go_by():
    rows = exact.worst_case("ipd", scripted("ipd", "always-cooperate"), memory="label").adversary.rows
    turned = {name: values[::-1] for name, values in rows.items()}
    reply = Reply("adversary", rows)
    assert reply.identity() == Reply("adversary", dict(reversed(rows.items()))).identity()
    for other in (Reply("adversary", turned), Reply("adversary", rows, "key")):
        assert other.identity() != reply.identity()


@dataclass(frozen=True)
class EchoInformation(InformationState):
    said: tuple[tuple[str, str], ...]  # seat 0's move first

    legal_actions = ("A", "B")

    @property
    def round(self):
        return len(self.said) // 2

    @property
    def key(self):
        return " ".join(map("".join, self.said)) or "start"

    @property
    def label(self):
        return self.key[-2:] if len(self.said) % 2 else "start"


@dataclass(frozen=True)
class EchoState(State):
    """Three rounds of two moves each: seat 1 wins where its second is seat 0's first; in the middle round where it
    is not."""

    said: tuple[tuple[str, str], ...] = ()

    @property
    def round(self):
        return len(self.said) // 2

    @property
    def outcome(self):
        if not self.said or len(self.said) % 2:
            return None
        (first, other), (then, last) = self.said[-2:]
        return Outcome((0.0, float((first == last) == (self.round != 2))), ((first, then), (other, last)))

    @property
    def actors(self):
        return (0, 1) if self.round < 3 else ()

    def information(self, seat):
        return EchoInformation(self.said)

    def apply(self, actions):
        return EchoState((*self.said, actions))


class Echo(Game):
    pools = Pools(train=("uniform",), exploit=("uniform",), collusive=(), shift=())
    spec = spec(
        id="echo", rounds=3, moves_per_round=2, pools=pools, actions=("A", "B"), payoff_bounds=(0.0, 1.0)
    )
    strategies = {"uniform": UniformStrategy()}

    def initial_state(self):
        return EchoState()

    def system_prompt(self, style="reasoned"):
        return "Say A or B."

    def render(self, seen):
        return seen.key

    def harms(self, outcome, seat=0, definition="corrected"):
        return Harms(0.0, 0.0)


def test_rounds_of_several_moves_are_not_folded():
    game = Echo()
    agent = uniform(game)
    with pytest.raises(CannotFold, match="in echo a round is more than one move"):
        FoldedTree(game, "label")
    found = fitted(game, explored(game, agent, 200), agent=agent)
    assert exact.against(game, agent, found).advantage == exact.worst_case(game, agent).advantage == 1.0


def test_seats_that_cannot_tell_the_round_are_not_folded(monkeypatch):
    monkeypatch.setattr(ipd.DilemmaInformation, "round", 0)
    with pytest.raises(CannotFold, match="the seats cannot tell which it is"):
        FoldedTree(get_game("ipd"), "label")
