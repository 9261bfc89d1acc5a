"""The worst case against OpenSpiel, against a plain recursion over beliefs, and against what it claims to bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyspiel
import pytest
import toys

import sepo_kit as sk
from sepo_kit import exact
from sepo_kit.adversaries.fitted import explored, fitted
from sepo_kit.adversaries.worst_case import find_worst_case, glimpse
from sepo_kit.engine.policy import NoDistribution, Policy, scripted, tabular, uniform
from sepo_kit.engine.simulate import simulate
from sepo_kit.engine.sitting import Sitting
from sepo_kit.evaluation.evaluate import evaluate
from sepo_kit.exact import tree
from sepo_kit.games import auction, get_game, ipd, kuhn
from sepo_kit.games.base import Game
from sepo_kit.models.language_model import LanguageModel

MEMORY_ONE = ("start", "CC", "CD", "DC", "DD")


def random_rows(game: Game, rng: np.random.Generator, sure: float = 0.0) -> dict[str, np.ndarray]:
    """A row for every state; a share ``sure`` of them pure."""
    table = {}
    for key, row in exact.policy_table(game, uniform(game)).items():
        p = rng.dirichlet(np.ones(len(row)))
        table[key] = np.eye(len(p))[p.argmax()] if rng.random() < sure else p
    return table


def random_memory_one(game: Game, rng: np.random.Generator) -> Policy:
    return tabular(game, {label: rng.dirichlet([0.6, 0.6]) for label in MEMORY_ONE}, row="memory_one")


def cut_auction(monkeypatch, rounds: int) -> Game:
    spec = replace(auction.SPEC, rounds=rounds)
    monkeypatch.setattr(auction, "SPEC", spec)
    monkeypatch.setattr(type(auction.GAME), "spec", spec)
    return auction.GAME


# --- Kuhn poker, against OpenSpiel ----------------------------------------------------------------


@pytest.fixture(scope="module")
def openspiel():
    return pyspiel.load_game("kuhn_poker")


def nash_conv(openspiel, table) -> float:
    """OpenSpiel's NashConv of a table with our keys, whose cards it calls 0, 1, 2."""
    policy = {str("JQK".index(k[0])) + k[1:]: list(enumerate(map(float, p))) for k, p in table.items()}
    return pyspiel.nash_conv(openspiel, pyspiel.TabularPolicy(policy))


@pytest.mark.parametrize(("name", "expected"), [("nash", 0), ("uniform", 11 / 12), ("always-pass", 2)])
def test_known_values_in_kuhn_poker(name, expected, openspiel):
    """Per hand: the sum of the best responses of both seats, as NashConv counts them."""
    game = get_game("kuhn")
    agent = scripted(game, name)
    table = {key: list(row.values()) for key, row in exact.policy_table(game, agent).items()}
    assert exact.worst_case(game, agent).advantage == pytest.approx(expected, abs=1e-9)
    assert nash_conv(openspiel, table) == pytest.approx(expected, abs=1e-9)


def test_kuhn_agrees_with_openspiel_on_random_policies(openspiel):
    game, rng = get_game("kuhn"), np.random.default_rng(0)
    keys = list(exact.policy_table(game, uniform(game)))
    for number in range(1000):
        bets = rng.random(len(keys)).round() if number % 10 == 0 else rng.beta(0.7, 0.7, len(keys))
        table = {key: (1 - bet, bet) for key, bet in zip(keys, bets)}
        found = exact.worst_case(game, tabular(game, table)).advantage
        assert found == pytest.approx(nash_conv(openspiel, table), abs=1e-9), table


def test_an_odd_number_of_hands_is_not_nash_conv(monkeypatch, openspiel):
    """The unit only comes out as NashConv where both seats open equally often."""
    game = toys.shorten(monkeypatch, kuhn, rounds=1)
    assert exact.worst_case(game, scripted(game, "nash")).advantage == pytest.approx(2 / 18, abs=1e-9)
    game = toys.shorten(monkeypatch, kuhn, rounds=2)
    assert exact.worst_case(game, scripted(game, "nash")).advantage == pytest.approx(0, abs=1e-9)


# --- any game, against a plain recursion ----------------------------------------------------------


def by_recursion(game: Game, agent: Policy) -> float:
    """The adversary's greatest lead per round, by recursion over what it believes: pairs (state, weight)."""

    def lead(state) -> float:
        return state.outcome.payoffs[1] - state.outcome.payoffs[0] if state.outcome else 0.0

    def value(beliefs) -> float:
        total, waiting = 0.0, {}
        while beliefs:
            state, weight = beliefs.pop()
            if state.actors == (0,) or state.chance_outcomes():
                for child, p in others_move(state):
                    total += weight * p * lead(child)
                    beliefs.append((child, weight * p))
            elif state.actors:
                waiting.setdefault(state.information(1), []).append((state, weight))
        for seen, group in waiting.items():
            total += max(reply(group, action) for action in seen.legal_actions)
        return total

    def reply(group, action) -> float:
        total, beliefs = 0.0, []
        for state, weight in group:
            for child, p in others_move(state, action):
                total += weight * p * lead(child)
                beliefs.append((child, weight * p))
        return total + value(beliefs)

    def others_move(state, action=None):
        if state.chance_outcomes():
            return [(state.apply_chance(o), p) for o, p in state.chance_outcomes()]
        if 0 not in state.actors:
            return [(state.apply((action,)), 1.0)]
        seen = state.information(0)
        played = zip(seen.legal_actions, agent.distributions([seen])[0])
        return [(state.apply((own,) if action is None else (own, action)), p) for own, p in played if p > 0]

    return value([(game.initial_state(), 1.0)]) / game.spec.rounds


@pytest.mark.parametrize("sure", [0.0, 0.5])
def test_hidden_values_are_weighed_by_belief(monkeypatch, sure):
    """The adversary of the auction sees bids, not values; what they tell of later rounds it may use."""
    game = cut_auction(monkeypatch, 2)
    rng = np.random.default_rng(7)
    for _ in range(3):
        agent = tabular(game, random_rows(game, rng, sure))
        found = exact.worst_case(game, agent)
        assert found.advantage == pytest.approx(by_recursion(game, agent), abs=1e-12)
        assert exact.against(game, agent, found.adversary).advantage == pytest.approx(
            found.advantage, abs=1e-12
        )


@pytest.mark.parametrize("sure", [0.0, 0.5])
def test_prisoners_dilemma_against_a_plain_recursion(monkeypatch, sure):
    game, rng = toys.shorten(monkeypatch, ipd, rounds=4), np.random.default_rng(8)
    for _ in range(3):
        agent = tabular(game, random_rows(game, rng, sure))
        assert exact.worst_case(game, agent).advantage == pytest.approx(by_recursion(game, agent), abs=1e-12)


def test_kuhn_against_a_plain_recursion(monkeypatch):
    """One hand, so that no hand is forgotten."""
    game, rng = toys.shorten(monkeypatch, kuhn, rounds=1), np.random.default_rng(9)
    for _ in range(5):
        agent = tabular(game, random_rows(get_game("kuhn"), rng, 0.3))
        assert exact.worst_case(game, agent).advantage == pytest.approx(by_recursion(game, agent), abs=1e-12)


# --- what it bounds -------------------------------------------------------------------------------


def test_no_strategy_of_any_pool_gains_more():
    """On 100 policies of the prisoner's dilemma, five of them with a row for every history."""
    game, rng = get_game("ipd"), np.random.default_rng(1)
    for number in range(100):
        full = number % 20 == 0
        agent = tabular(game, random_rows(game, rng, 0.3)) if full else random_memory_one(game, rng)
        most = exact.worst_case(game, agent).advantage
        gained = exact.results(game, agent, game.opponents)
        assert max(against.advantage for against in gained.values()) <= most + 1e-9


@pytest.mark.parametrize("game_id", ["ipd", "kuhn"])
def test_the_adversary_gains_what_is_claimed(game_id):
    game, rng = get_game(game_id), np.random.default_rng(2)
    agents = [scripted(game, strategy) for strategy in game.strategies]
    agents += [tabular(game, random_rows(game, rng, 0.5)) for _ in range(2 if game_id == "ipd" else 20)]
    for agent in agents:
        found = exact.worst_case(game, agent)
        gained = exact.against(game, agent, found.adversary).advantage
        assert gained == pytest.approx(found.advantage, abs=1e-9), agent.name
        assert all(sorted(row)[-1] == 1 for row in found.adversary.table.values())


def test_tit_for_tat_loses_one_round_at_most():
    """Press, defect last: 5 of 8 points, once."""
    game = get_game("ipd")
    found = exact.worst_case(game, scripted(game, "tit-for-tat"))
    assert found.advantage == pytest.approx(5 / 8)
    assert repr(found) == "WorstCase(agent='tit-for-tat', advantage=0.625)"


def test_a_kept_tree_answers_every_agent_the_same():
    """Questions about agents of different support share one tree; the order they come in must not matter."""
    game = get_game("ipd")
    rng = np.random.default_rng(4)
    agents = [scripted(game, "grim-trigger"), random_memory_one(game, rng), scripted(game, "always-defect")]
    first = [exact.worst_case(game, agent).advantage for agent in agents]
    again = [exact.worst_case(game, agent).advantage for agent in reversed(agents)]
    assert first == again[::-1]


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["nash", "uniform"])
def test_the_adversary_is_the_same_whatever_was_asked_before(agent):
    """A tree that others grew first has its nodes in another order, and sums rounded otherwise: of replies that are
    worth the same, as all are against the equilibrium, the first is taken all the same."""
    game, rng = get_game("kuhn"), np.random.default_rng(1)
    keys = list(exact.policy_table(game, uniform(game)))
    policy, found = uniform(game) if agent == "uniform" else scripted(game, agent), []
    for _ in range(8):
        tree._arena.cache_clear()
        for _ in range(3):  # each grows the tree where it goes itself
            pure = {key: np.eye(2)[rng.integers(2)] for key in keys}
            exact.worst_case(game, tabular(game, pure))
        worst = exact.worst_case(game, policy)
        found.append((exact.policy_table(game, worst.adversary), worst.advantage))
    assert all(table == found[0][0] for table, _ in found)
    assert [value for _, value in found] == pytest.approx([found[0][1]] * len(found), abs=1e-12)


def test_memory_merges_positions_and_changes_nothing():
    game, rng = get_game("ipd"), np.random.default_rng(5)
    for _ in range(5):
        agent = random_memory_one(game, rng)
        found = exact.worst_case(game, agent, memory="memory_one")
        assert found.advantage == pytest.approx(exact.worst_case(game, agent).advantage, abs=1e-12)
        assert exact.against(game, agent, found.adversary).advantage == pytest.approx(
            found.advantage, abs=1e-9
        )


def test_memory_makes_the_uniform_negotiator_small():
    """Demand 7: of demands 1 to 9, 1 to 3 leave room for it, and it leads by 6, 5 or 4."""
    game = get_game("negotiation_v1")
    found = exact.worst_case(game, uniform(game), memory="memory_one")
    assert found.advantage == pytest.approx(15 / 9)
    assert exact.against(game, uniform(game), found.adversary).advantage == pytest.approx(15 / 9)


def test_memory_is_refused_where_the_agent_has_more():
    game = get_game("ipd")
    with pytest.raises(ValueError, match="tit-for-two-tats goes by more than memory='memory_one'"):
        exact.worst_case(game, scripted(game, "tit-for-two-tats"), memory="memory_one")


@pytest.mark.parametrize("game_id", ["kuhn", "auction"])
def test_memory_is_refused_where_nature_moves(game_id):
    game = get_game(game_id)
    with pytest.raises(ValueError, match="needs a game without nature"):
        exact.worst_case(game, uniform(game), memory="key")


def test_memory_must_be_a_label_of_the_game():
    with pytest.raises(ValueError, match="no label 'mood'"):
        exact.worst_case("ipd", uniform(get_game("ipd")), memory="mood")


# --- errors ---------------------------------------------------------------------------------------


def test_free_text_has_no_worst_case(tiny_model, tokenizer):
    game = get_game("kuhn")
    with pytest.raises(NoDistribution, match="style='direct'"):
        exact.worst_case(game, LanguageModel(tiny_model, tokenizer, game, style="reasoned"))


def test_a_missing_row_is_named_if_it_can_be_met():
    game = get_game("kuhn")
    rows = {key: list(row.values()) for key, row in exact.policy_table(game, uniform(game)).items()}
    without = {key: row for key, row in rows.items() if key != "Kpb"}
    with pytest.raises(ValueError, match="the table has no row for state 'Kpb'"):
        exact.worst_case(game, tabular(game, without))
    always_bets_kings = tabular(game, {**without, "K": (0, 1)})
    exact.worst_case(game, always_bets_kings)


class Stating(Policy):
    """States whatever it is told to."""

    name = "stating"

    def __init__(self, row) -> None:
        self.row = row

    def distributions(self, seen):
        return [np.array(self.row)] * len(seen)


@pytest.mark.parametrize("row", [(0.5, 0.4), (1.5, -0.5), (np.nan, 1.0), (1.0,), (0.2, 0.3, 0.5)])
@pytest.mark.parametrize("question", [exact.terms, exact.worst_case])
def test_what_is_no_distribution_is_refused(question, row):
    with pytest.raises(ValueError, match="stating must give 2 probabilities >= 0 that sum to 1 at 'start'"):
        question("ipd", Stating(row))


def test_too_few_distributions_are_refused():
    agent = Stating((0.5, 0.5))
    agent.distributions = lambda seen: []
    with pytest.raises(ValueError, match="one distribution per state"):
        exact.terms("ipd", agent)


@pytest.mark.parametrize("game_id", ["auction", "negotiation_v2"])
def test_a_tree_too_large_names_the_alternatives(game_id):
    game = get_game(game_id)
    message = rf"{game_id} has more than 3000 states; raise max_states, .*sk.exact.worst_case_bounds"
    with pytest.raises(exact.TooLarge, match=message):
        exact.worst_case(
            game, scripted(game, "grim-trigger" if game_id == "auction" else "fair"), max_states=3000
        )


def test_the_limit_is_exact_and_can_be_raised():
    """8 rounds of 4 outcomes: 1 + 4 + ... + 4 ** 7 positions."""
    game = get_game("ipd")
    agent = uniform(game)
    assert exact.worst_case(game, agent, max_states=21_845).advantage == pytest.approx(2.5)
    with pytest.raises(exact.TooLarge):
        exact.worst_case(game, agent, max_states=21_844)
    assert exact.worst_case(game, agent).advantage == pytest.approx(2.5)


def test_an_adversary_that_forgets_is_refused(monkeypatch):
    """Hands of poker that are no longer independent: the seat would have to remember them."""
    game = toys.shorten(monkeypatch, kuhn, rounds=2)
    monkeypatch.setattr(type(game), "spec", replace(game.spec, independent_rounds=False))
    with pytest.raises(exact.Forgets, match="does not tell what its own seat did before"):
        exact.worst_case(game, uniform(game))
    assert find_worst_case(game, uniform(game), "quick").how == "unknown"
    assert fitted(game, explored(game, uniform(game), 20), agent=uniform(game)).name == "fitted to uniform"


def test_so_is_one_that_cannot_tell_how_many_moves_were_made_but_only_where_play_leads_there():
    game = toys.Look()
    goes, looks = (tabular(game, {"0: GO, LOOK": p, "0: A, B": (0.5, 0.5)}) for p in ((1.0, 0.0), (0.0, 1.0)))
    for _ in range(2):  # the tree that both share has grown in between
        assert exact.worst_case(game, goes).advantage == exact.worst_case(game, looks).advantage == 1.0
        with pytest.raises(exact.Forgets, match="is met after more moves of others or fewer"):
            exact.worst_case(game, uniform(game))
    assert evaluate(uniform(game), game, 4).worst_case.how == "unknown"
    assert glimpse(game, uniform(game), 0, 1, explored(game, uniform(game), 20)) > 0
    found = find_worst_case(game, uniform(game), "search")
    assert (found.low, found.how) == (1.0, "found")


def test_with_memory_rounds_that_are_independent_are_each_solved():
    game = toys.Picks(toys.PENNIES, rounds=4, independent_rounds=True)
    agent = tabular(game, {"pick": (0.75, 0.25)})
    found = exact.worst_case(game, agent, memory="key")
    assert found.advantage == exact.worst_case(game, agent).advantage == 1.0
    assert exact.against(game, agent, found.adversary).advantage == 1.0


@pytest.mark.parametrize(
    "row",
    [
        (0.5, 0.4),
        (1.0,),
        (float("nan"), 1.0),
        (float("nan"),) * 2,
        (1.5, -0.5),
        (0, 0),
        (3, 1),
        (0.2, 0.3, 0.5),
        1.0,
    ],
)
def test_what_is_no_distribution_is_refused_wherever_it_is_stated(row):
    class Wrong(Policy):
        name = "wrong"

        def distributions(self, seen):
            return [np.array(row) for _ in seen]

    for ask in (
        lambda: exact.worst_case("ipd", Wrong(), memory="label"),
        lambda: exact.worst_case("ipd", Wrong()),
        lambda: exact.against("ipd", scripted("ipd", "always-cooperate"), Wrong()),
        lambda: exact.policy_table("ipd", Wrong()),
        lambda: exact.worst_case_bounds("ipd", Wrong()),
        lambda: fitted("ipd", explored("ipd", uniform("ipd"), 10), agent=Wrong()),
        lambda: sk.evaluate(Wrong(), "ipd", 1, worst_case="none"),
        lambda: sk.play("ipd", Wrong(), "tit-for-tat", 1),
        lambda: sk.play("ipd", uniform("ipd"), Wrong(), 1),
        lambda: simulate("ipd", Wrong(), "tit-for-tat", 2),
        lambda: simulate("ipd", uniform("ipd"), Wrong(), 2),
        lambda: Sitting(get_game("ipd"), Wrong()).act("COOPERATE"),
    ):
        with pytest.raises(ValueError, match="wrong must give 2 probabilities >= 0 that sum to 1"):
            ask()


def test_against_takes_ids_strategies_and_policies():
    game = get_game("ipd")
    agent = scripted(game, "tit-for-tat")
    by_id = exact.against("ipd", agent, "always-defect")
    assert by_id == exact.against(game, agent, game.strategy("always-defect"))
    assert by_id == exact.against(game, agent, scripted(game, "always-defect"))
    assert by_id.advantage == 5 / 8
    with pytest.raises(ValueError, match="unknown strategy 'always-late'"):
        exact.against(game, agent, "always-late")
