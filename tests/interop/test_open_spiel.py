"""The games in OpenSpiel, by OpenSpiel's own tests and algorithms."""

from __future__ import annotations

import pickle
import subprocess
import sys
import unittest

import numpy as np
import pytest
from every_game import each_game, each_hiding, same_seen

from sepo_kit import interop
from sepo_kit.games import get_game
from sepo_kit.games.kuhn import KuhnPoker

pyspiel = pytest.importorskip("pyspiel", reason="the extra openspiel is not installed")

from absl import flags
from open_spiel.integration_tests import api_test
from open_spiel.python import policy
from open_spiel.python.algorithms import cfr, exploitability, generate_playthrough
from open_spiel.python.tests import games_sim_test


def run_case(base: type, **fields) -> unittest.TestResult:
    """One of OpenSpiel's test classes, with its game filled in."""
    case = type("Case", (base,), fields)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert not result.errors and not result.failures, [*result.errors, *result.failures]
    return result


@each_game
def test_random_simulation(game, capsys):
    np.random.seed(0)
    theirs = interop.to_open_spiel(game)
    for _ in range(3):
        games_sim_test.GamesSimTest().sim_game(theirs)
    assert capsys.readouterr().out.count("terminated with") == 3
    pyspiel.random_sim_test(theirs, 5, True, False)


@each_game
def test_a_simultaneous_game_played_in_turns(game):
    theirs = interop.to_open_spiel(game)
    if theirs.get_type().dynamics == pyspiel.GameType.Dynamics.SIMULTANEOUS:
        theirs = pyspiel.convert_to_turn_based(theirs)
    np.random.seed(0)
    games_sim_test.GamesSimTest().sim_game(theirs)


@each_game
def test_the_interface_on_states_of_the_tree(game):
    theirs = interop.to_open_spiel(game)
    run = run_case(api_test.EnforceAPIOnPartialTreeBase, game=theirs, game_name=game.spec.id)
    assert run.testsRun == 5


def test_the_interface_on_the_whole_tree_of_one_hand(monkeypatch):
    # Nature deals both cards at once here, so that it has 1 node where OpenSpiel's game has 4.
    monkeypatch.setitem(api_test.TOTAL_NUM_STATES, "one hand", (1, 24, 30))
    monkeypatch.setitem(api_test.PERFECT_RECALL_NUM_STATES, "one hand", 12)
    run = run_case(
        api_test.EnforceAPIOnFullTreeBase, game=interop.to_open_spiel("kuhn", 1), game_name="one hand"
    )
    assert run.testsRun == 8


def test_perfect_recall_over_hands():
    """Two hands of Kuhn poker, whose key forgets the first."""
    recall = api_test._assert_is_perfect_recall(interop.to_open_spiel("kuhn", 2))
    assert len(recall) > 12


@each_game
def test_playthrough(game, tmp_path):
    flags.FLAGS.mark_as_parsed()  # its code reads a command line, and there is none
    text = generate_playthrough.playthrough(str(interop.to_open_spiel(game)), None, seed=3)
    path = tmp_path / "playthrough.txt"
    path.write_text(text)
    expected, actual = generate_playthrough.replay(str(path))
    assert expected == actual
    assert "IsTerminal() = True" in text


@each_game
def test_returns_are_the_sum_of_payoffs(game):
    rng, state, total = np.random.default_rng(0), interop.to_open_spiel(game).new_initial_state(), [0, 0]
    before = None
    while not state.is_terminal():
        if state.is_chance_node():
            state.apply_action(int(rng.choice([number for number, _ in state.chance_outcomes()])))
        elif state.is_simultaneous_node():
            state.apply_actions([int(rng.choice(state.legal_actions(seat))) for seat in (0, 1)])
        else:
            state.apply_action(int(rng.choice(state.legal_actions())))
        if state.kit_state is not before and state.kit_state.outcome:
            total = np.add(total, state.kit_state.outcome.payoffs)
        before = state.kit_state
    assert state.returns() == pytest.approx(total.tolist())


@pytest.mark.parametrize("solver", [cfr.CFRSolver, cfr.CFRPlusSolver])
def test_one_hand_is_open_spiels_kuhn_poker(solver):
    ours, theirs = interop.to_open_spiel("kuhn", 1), pyspiel.load_game("kuhn_poker")
    uniform = [exploitability.nash_conv(game, policy.UniformRandomPolicy(game)) for game in (ours, theirs)]
    assert uniform == pytest.approx([11 / 12, 11 / 12])
    solvers = [solver(game) for game in (ours, theirs)]
    for _ in range(50):
        for each in solvers:
            each.evaluate_and_update_policy()
    conv = [exploitability.nash_conv(game, s.average_policy()) for game, s in zip((ours, theirs), solvers)]
    assert conv[0] == pytest.approx(conv[1], abs=1e-12) and conv[0] < 0.1


def test_two_rounds_of_the_prisoners_dilemma_are_solved():
    game = pyspiel.convert_to_turn_based(interop.to_open_spiel("ipd", 2))
    solver = cfr.CFRSolver(game)
    for _ in range(60):
        solver.evaluate_and_update_policy()
    assert exploitability.nash_conv(game, solver.average_policy()) < 0.2
    both_defect = interop.to_open_spiel("ipd", 2).new_initial_state()
    for _ in range(2):
        both_defect.apply_actions([1, 1])
    assert both_defect.is_terminal() and both_defect.returns() == [2, 2]


@each_hiding
def test_nothing_hidden_is_seen(game):
    for seat, states in same_seen(game):
        shown = set()
        for kit_state in states:
            state = interop.to_open_spiel(game).new_initial_state()
            state.kit_state = kit_state
            shown.add(
                (
                    state.information_state_string(seat),
                    tuple(state.information_state_tensor(seat)),
                    state.observation_string(seat),
                    tuple(state.observation_tensor(seat)),
                    tuple(state.legal_actions(seat)),
                )
            )
        assert len(shown) == 1


def test_it_is_found_by_name_and_pickled():
    game = interop.to_open_spiel("kuhn", 2)
    assert str(game) == "sepo_kit_kuhn(rounds=2)"
    assert str(pyspiel.load_game("sepo_kit_kuhn(rounds=2)")) == str(pickle.loads(pickle.dumps(game)))
    assert game.max_utility() == 4 and game.num_distinct_actions() == 4


def test_another_game_of_the_same_name_takes_its_place():
    mine = KuhnPoker()
    assert interop.to_open_spiel(mine).kit is mine
    assert interop.to_open_spiel("kuhn").kit is get_game("kuhn")


@pytest.mark.parametrize("rounds", [0, 7, 1.0, True, "2"])
def test_unsuitable_rounds(rounds):
    with pytest.raises(ValueError, match="rounds must be a whole number from 1 to 6 in kuhn, got"):
        interop.to_open_spiel("kuhn", rounds)


def test_a_process_that_used_it_ends_well():
    """The library holds what was registered until after Python has ended."""
    code = "from sepo_kit import interop; interop.to_open_spiel('kuhn'); interop.to_open_spiel('ipd')"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
