"""The paper's own opponents, as far as it says who they are, and what there was to win against them and against ours.

Two of them are known to differ: the paper's generous tit-for-tat forgives with 0.25, ours with 1/3; and what its later
draft prints as the equilibrium of Kuhn poker calls with the Queen at 1/3 in both seats, where the first mover's rate is
2/3.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from sepo_kit import exact
from sepo_kit.evaluation.contenders import scripted
from sepo_kit.evaluation.paper import PAPER, kuhn_frequencies
from sepo_kit.evaluation.policies import policies_of
from sepo_kit.evaluation.reference import reference
from sepo_kit.evaluation.reweigh import Contender
from sepo_kit.games import get_game
from sepo_kit.games.base import Game
from sepo_kit.games.ipd import GenerousTitForTat, IteratedPrisonersDilemma
from sepo_kit.games.kuhn import KuhnStrategy
from sepo_kit.objective.terms import TERMS, coefficients
from sepo_kit.runs import provenance, write_csv, write_sealed

FORGIVENESS = 0.25  # in the code that the paper's authors released
KIT, PUBLISHED = "this kit", "published"
OPTIMUM, STRATEGY = "reference policy", "strategy"
REFERENCE = ("game", "pools", "kind", "agent", *TERMS, "worst_case", "safety")
NASH = "nash"


class PublishedDilemma(IteratedPrisonersDilemma):
    """The prisoner's dilemma with the paper's generous tit-for-tat."""

    strategies = {
        **IteratedPrisonersDilemma.strategies,
        GenerousTitForTat.id: GenerousTitForTat(FORGIVENESS),
    }
    # A spec of its own, by which the exact solver knows its trees from the kit's.
    spec = replace(IteratedPrisonersDilemma.spec, title="Iterated prisoner's dilemma, published pool")


def what_there_was_to_win(games: list[str]) -> pd.DataFrame:
    """The best that is known of every game at its evaluation weights, over the kit's pools and the published ones.

    Returns
    -------
    DataFrame
        One row per game, pools and agent: every strategy of the game, and the reference policy where the game can be
        enumerated in a moment. ``safety`` is J at the evaluation weights; terms per round, unscaled; ``worst_case`` is
        empty where it takes long.
    """
    rows = []
    variants = [(get_game(game), KIT) for game in games]
    variants += [(PublishedDilemma(), PUBLISHED)] if "ipd" in games else []
    for game, pools in tqdm(variants, desc="what there was to win", unit="game"):
        rows += [_row(game, pools, STRATEGY, one) for one in scripted(game)]
        try:
            best = reference(game, game.spec.eval_weights)
        except ValueError:  # too large to be enumerated in a moment
            continue
        rows.append(_row(game, pools, OPTIMUM, replace(best.contender, name=OPTIMUM)))
    return pd.DataFrame(rows, columns=list(REFERENCE))


def _row(game: Game, pools: str, kind: str, agent: Contender) -> dict[str, object]:
    terms = dict(zip(TERMS, agent.terms.tolist(), strict=True))
    worst = None if agent.worst_case is None else agent.worst_case.value
    safety = float(coefficients(game.spec, game.spec.eval_weights) @ agent.terms)
    return {"game": game.spec.id, "pools": pools, "kind": kind, "agent": agent.name, **terms,
            "worst_case": worst, "safety": safety}  # fmt: skip


def write_reference(folder: Path | str, games: list[str]) -> list[Path]:
    """Write ``what_there_was_to_win`` as reference.csv, and what made it as reference.json, into ``folder``."""
    data, source = (Path(folder) / f"reference.{suffix}" for suffix in ("csv", "json"))
    write_csv(data, what_there_was_to_win(games))
    write_sealed(source, {"command": "sepo-kit reference", "provenance": provenance()}, [data])
    return [data, source]


def effect_of_pools(table: pd.DataFrame, game: str = "ipd") -> pd.DataFrame:
    """Safety of the same agents in both pools: agent, the kit's, the published, difference; the best in ours first.

    ``table``: ``what_there_was_to_win``.
    """
    wide = table[table["game"] == game].pivot(index="agent", columns="pools", values="safety")
    wide = wide.reindex(columns=[KIT, PUBLISHED]).dropna()
    wide["difference"] = wide[PUBLISHED] - wide[KIT]
    wide.columns.name = None
    return wide.sort_values(KIT, ascending=False).reset_index()


def printed_nash(folder: Path | str = PAPER) -> KuhnStrategy:
    """What P2 prints as the equilibrium of Kuhn poker, the same in both seats."""
    table = kuhn_frequencies(folder)
    row = table[table["condition"] == NASH].iloc[0]
    bet, call = (tuple(float(row[f"{move}_{card}"]) for card in "jqk") for move in ("bet", "call"))
    doc = "The equilibrium as arXiv 2605.30854's later draft prints it."
    return KuhnStrategy("printed-nash", doc, bet, bet, call, call)


def against_both_nash(policies: pd.DataFrame, folder: Path | str = PAPER) -> pd.DataFrame:
    """What our agents of Kuhn poker earn, and what is gained on them, against the kit's equilibrium and the printed
    one, exactly, per hand.

    ``policies``: ``policies.policy_frame``. One row per agent: model, stage, seed, ``payoff`` and ``gain`` against
    ours, ``printed_payoff`` and ``printed_gain`` against the printed one.
    """
    game, printed = get_game("kuhn"), printed_nash(folder)
    rows = []
    for (model, stage, seed), agent in policies_of(policies, game).items():
        ours, theirs = (exact.against(game, agent, who) for who in (NASH, printed))
        rows.append({"model": model, "stage": stage, "seed": seed, "payoff": ours.own, "gain": ours.advantage,
                     "printed_payoff": theirs.own, "printed_gain": theirs.advantage})  # fmt: skip
    return pd.DataFrame(rows)
