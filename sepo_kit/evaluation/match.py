"""One match of a sitting, told and scored: who may sit opposite, what happened round by round, what it came to."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pandas as pd

from sepo_kit import exact
from sepo_kit.adversaries.opponents import resolve_agent
from sepo_kit.engine.policy import Policy
from sepo_kit.engine.sitting import Sitting
from sepo_kit.evaluation.archive import find_runs
from sepo_kit.exact.ascent import OpenTable
from sepo_kit.games.base import Game
from sepo_kit.models.endpoints_file import read_endpoints
from sepo_kit.objective.terms import results_of
from sepo_kit.runs import WEIGHTS, adapter_of

REFERENCE = "reference policy"
MOST_SHOWN = 4  # probabilities; the others are small or too many


def opponents(game: Game, runs: Path | str | None = None) -> dict[str, str]:
    """Who can sit opposite, label -> what ``opponent`` takes: strategies, the reference policy, models that runs have
    trained and kept, endpoints of the user's own file."""
    pools = {name: [] for name in game.strategies}
    for pool, name in game.opponents:
        pools[name].append(pool)
    found = {name + (f" ({', '.join(roles)})" if roles else ""): name for name, roles in pools.items()}
    if game.spec.reference_row:
        found[REFERENCE] = REFERENCE
    if runs is not None:
        trained = find_runs(runs)
        trained = trained[(trained["game"] == game.spec.id) & (trained["status"] == "done")]
        # Neither tables that learned to attack nor mere recordings.
        kept = [run for run in trained.itertuples() if (adapter_of(run.path) / WEIGHTS).is_file()]
        found |= {f"{run.run} ({run.model} after {run.stage})": str(run.path) for run in kept}
    # A file that is broken or cannot be read hides nobody else; naming an endpoint says what is wrong with it.
    with suppress(ValueError, OSError):
        found |= {f"{name} (endpoint)": f"endpoint:{name}" for name in read_endpoints()}
    return found


def opponent(game: Game, name: str) -> Policy:
    """The policy called ``name``: ``REFERENCE``, a name of the grammar of opponents, or anything ``load_model`` takes.

    Only a model needs torch.

    Raises
    ------
    ValueError, OSError
        Nothing is called so, or the model cannot be loaded.
    """
    if name == REFERENCE:
        found = exact.optimise(game, row=game.spec.reference_row or "label").policy
        # A person goes where no opponent of the pools does: it plays at random there.
        return OpenTable(found.name, found.table, found.row)
    return resolve_agent(game, name)


def transcript(sitting: Sitting) -> pd.DataFrame:
    """What happened, one row per round that has begun.

    Columns: round (from 1); you, opponent: their moves in order; own, their: payoffs, NaN in a round that is not over;
    probabilities, reason: what the opponent states of its moves, "" before its round is over, since it may tell what
    is hidden.
    """
    rows = []
    spec = sitting.game.spec
    for number in range(min(sitting.round + 1, spec.rounds)):
        turns = [turn for turn in sitting.turns if turn.round == number]
        mine = [turn.action for turn in turns if turn.seat == sitting.seat]
        theirs = [turn for turn in turns if turn.seat != sitting.seat]
        over = number < len(sitting.rounds)
        payoffs = sitting.rounds[number].outcome.payoffs if over else (float("nan"), float("nan"))
        rows.append(
            {
                "round": number + 1,
                "you": ", ".join(mine),
                "opponent": ", ".join(turn.action for turn in theirs),
                "own": payoffs[sitting.seat],
                "their": payoffs[1 - sitting.seat],
                "probabilities": "; ".join(
                    stated(t.probabilities) for t in theirs if t.probabilities and over
                ),
                "reason": " ".join(turn.reason for turn in theirs if turn.reason and over),
            }
        )
    return pd.DataFrame(rows)


def stated(probabilities: dict[str, float]) -> str:
    """Probabilities in words, the largest first where there are many.

    >>> stated({"PASS": 2 / 3, "BET": 1 / 3})
    'PASS 0.67, BET 0.33'
    """
    shown = list(probabilities.items())
    if len(shown) > MOST_SHOWN:
        shown = sorted(shown, key=lambda pair: -pair[1])[:MOST_SHOWN]
    text = ", ".join(f"{action} {p:.2f}" for action, p in shown)
    return text + (", ..." if len(shown) < len(probabilities) else "")


def score(sitting: Sitting) -> pd.DataFrame:
    """What the finished rounds came to for either seat, by the terms of the objective; means per round.

    Columns: who, payoff, exploit (how much more the other earned, at least 0), collusion, externality.

    Raises
    ------
    ValueError
        No round is over yet.
    """
    if not sitting.rounds:
        raise ValueError(f"no {sitting.game.spec.unit} is over yet: there is nothing to score")
    rows = []
    for who, seat in (("you", sitting.seat), (sitting.opponent.name, 1 - sitting.seat)):
        (found,) = results_of([sitting.episode(seat)]).values()
        rows.append(
            {"who": who, "payoff": found.own, "exploit": max(0.0, found.advantage), "collusion": found.collusion,
             "externality": found.externality}
        )  # fmt: skip
    return pd.DataFrame(rows)
