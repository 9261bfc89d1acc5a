"""Leduc poker: how near to unexploitable an agent trained against best responses comes, beside counterfactual regret
minimisation after the same number of hands.

A row has the worst case, or OpenSpiel's NashConv, which is the same number. ``hands``: of ours, all that its training
against best responses played; of outcome sampling MCCFR, one an iteration; of CFR, all 5,520 ways a hand can go, an
iteration. Tables know every rule of the game and share nothing between states; a language model reads prompts. SEPO's
own tables begin with uniform play and take the steps, the groups and the best responses that pico takes; the response
itself is computed, which costs no hand.

Sources: Zinkevich et al. (2007) for CFR, Lanctot et al. (2009) for MCCFR, both as OpenSpiel has them in C++.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pandas as pd
import pyspiel
from common import conclude, options
from open_spiel.python import policy as policies

import sepo_kit as sk
from sepo_kit.objective.step import StepSettings, TrainingStep
from sepo_kit.study.tabular import TabularSettings, train_tabular

PUBLISHED = Path(__file__).parents[1] / "data" / "results" / "worst-case-leduc.csv"
SAMPLED = 0.6  # how often outcome sampling tries an action at random
SEEDS = (0, 1, 2)
RATE = 0.1  # learning rate of the tables, in nats


def terminals(state: pyspiel.State) -> int:
    """Ways a hand can go from ``state``."""
    return 1 if state.is_terminal() else sum(terminals(state.child(a)) for a in state.legal_actions())


def nash_conv(game: pyspiel.Game, average: object) -> float:
    """Of what ``average`` plays; uniform where it was never asked."""
    table = policies.TabularPolicy(game)
    for state in table.states:
        row = table.policy_for_key(state.information_state_string())
        row[:] = 0.0
        for action, share in average.action_probabilities(state).items():
            row[action] = share
    return pyspiel.nash_conv(game, policies.python_policy_to_pyspiel_policy(table))


def solved(game: pyspiel.Game, hands: int, per_iteration: int) -> list[dict]:
    """OpenSpiel's solvers after so many hands."""

    def after(solver: object, iterate: str, each: int) -> float:
        for _ in range(max(1, hands // each)):
            getattr(solver, iterate)()
        return nash_conv(game, solver.average_policy())

    cfr = after(pyspiel.CFRSolver(game), "evaluate_and_update_policy", per_iteration)
    rows = [{"what": "CFR, a table", "seed": None, "hands": hands, "worst_case": cfr}]
    for seed in SEEDS:
        found = after(pyspiel.OutcomeSamplingMCCFRSolver(game, SAMPLED, seed), "run_iteration", 1)
        rows.append({"what": "MCCFR, a table", "seed": seed, "hands": hands, "worst_case": found})
    return rows


def tables(steps: int, groups: int, population: int) -> list[dict]:
    """SEPO against best responses on a table, by seed."""
    rows = []
    for seed in SEEDS:
        settings = TabularSettings(
            steps=steps, groups=groups, rollouts=4, learning_rate=RATE, schedule="linear", exploiters="worst-case",
            population=population, log_every=steps,
        )  # fmt: skip
        worst = train_tabular("leduc", settings, seed).log["worst_case"].iloc[-1]
        rows.append({"what": "SEPO, a table", "seed": seed, "hands": hands_of(settings), "worst_case": worst})
    return rows


def hands_of(settings: StepSettings) -> int:
    """How many hands such a training plays."""
    game = sk.get_game("leduc")
    return settings.steps * len(TrainingStep(game, settings).matches) * game.spec.rounds


def trained(hands: int) -> list[dict]:
    """pico as published: base, SFT, SEPO and worst-case SEPO, by seed."""
    table = pd.read_csv(PUBLISHED)
    table = table[table["metric"] == "worst_case"]
    return [
        {
            "what": f"{row.model}, {row.stage}",
            "seed": row.seed,
            "hands": hands if row.stage == "worst-case" else None,
            "worst_case": row.value,
        }
        for row in table.itertuples()
    ]


def main() -> None:
    smoke = options(__doc__).smoke
    settings = sk.get_profile("worst-case").plan("pico", "leduc").worst_case
    hands = hands_of(settings)
    peer = pyspiel.load_game("leduc_poker")
    rows = trained(hands) + solved(peer, 1000 if smoke else hands, terminals(peer.new_initial_state()))
    rows += tables(2, 1, 1) if smoke else tables(settings.steps, settings.groups, settings.population)
    conclude("leduc", rows, smoke)


if __name__ == "__main__":
    main()
