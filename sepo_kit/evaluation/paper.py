"""The published numbers as tables, checked against their own formula.

Source: arXiv 2605.30854 (CC BY 4.0), "P1", and the authors' later draft, "P2", as copied into ``data/paper/``; what
each file holds and where it cannot be compared with this kit stands in ``data/paper/README.md``. Our own results
are read by ``results.py``.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from sepo_kit import exact
from sepo_kit.engine.policy import Policy
from sepo_kit.games import get_game
from sepo_kit.games.base import Weights
from sepo_kit.objective.terms import TERMS, coefficients
from sepo_kit.runs.project import PACKAGE, is_checkout, source_of

PAPER = source_of("data/paper")
VERSIONS = ("P1", "P2")
NAMES = ("game", "model", "condition", "checkpoint")
NUMBERS = ("payoff", "exploit", "collusion", "externality", "safety", "nra")
# P1's table and P1's own files disagree on these three rates; the printed Safety follows from the files.
RELEASED_EXTERNALITY = {
    ("P1", "negotiation_v2", "gemma-4-E4B-it", "base"): 0.650,
    ("P1", "negotiation_v2", "gemma-4-E4B-it", "sft"): 0.225,
    ("P1", "negotiation_v2", "gemma-4-E4B-it", "sepo"): 0.4125,
}
# P2 states no weights for these games. Under the game's own, its Safety needs collusion rates outside [0, 1]; under
# those that P1's files fit, it does not.
P2_WEIGHTS = dict.fromkeys(("auction", "negotiation_v2"), Weights(2.4, 2.4, 2.4))
REPRODUCED, POSSIBLE, IMPOSSIBLE = "reproduced", "needs a collusion rate", "no collusion rate fits"


class PaperError(ValueError):
    """A published table cannot be read; the message says why."""


def put_back(path: Path | str) -> str:
    """The advice that brings a published file back; "" outside a checkout, which has no other copy of it."""
    inside = is_checkout() and Path(path).resolve().is_relative_to(PACKAGE.parent)
    return f"put it back: git checkout {path}" if inside else ""


# --- reading --------------------------------------------------------------------------------------


def published(version: str = "P1", folder: Path | str = PAPER) -> pd.DataFrame:
    """The table of results of one version, as printed.

    Returns
    -------
    DataFrame
        One row per game, model, condition (base, sft, sepo) and checkpoint ("" where there is only one; a step, or
        "final"). payoff, exploit: game's unit per round; collusion, externality: 0 to 1; safety: scaled payoff;
        NaN where not reported. ``weight_*``: the weights Safety was computed with, which are often not those that
        the text states. ``*_step``: unit of the last digit a number was printed with, 0 where it was not.

    Raises
    ------
    PaperError
        Unknown version; the file is missing, or lacks a column, or holds text where a number belongs.
    """
    if version not in VERSIONS:
        raise PaperError(f"version must be one of {', '.join(VERSIONS)}, got {version!r}")
    rows = _rows(folder, f"{version.lower()}_results.csv", (*NAMES, "payoff", "exploit", "safety"))
    tidy = []
    for row in rows:
        numbers = {name: row.number(name) for name in NUMBERS}
        steps = {f"{name}_step": row.step(name) for name in NUMBERS}
        weights = (
            _fitted(row)
            if "lambdas_fit" in row
            else P2_WEIGHTS.get(row["game"], get_game(row["game"]).spec.eval_weights)
        )
        tidy.append({**{name: row[name] for name in NAMES}, **numbers, **_columns(weights), **steps})
    return pd.DataFrame(tidy).assign(version=version)


def kuhn_frequencies(folder: Path | str = PAPER) -> pd.DataFrame:
    """P2's action frequencies in Kuhn poker by card, both seats together; one row per condition and checkpoint."""
    columns = tuple(f"{move}_{card}" for move in ("bet", "call") for card in "jqk")
    rows = _rows(folder, "p2_kuhn_frequencies.csv", ("condition", "checkpoint", *columns))
    return pd.DataFrame(
        [
            {"condition": r["condition"], "checkpoint": r["checkpoint"], **{c: r.number(c) for c in columns}}
            for r in rows
        ]
    )


def compute(folder: Path | str = PAPER) -> pd.DataFrame:
    """P1's cost: stage, run, gpu_hours (A40), vram_gb (GB); training stages are whole runs."""
    rows = _rows(folder, "compute.csv", ("stage", "run", "gpu_hours", "vram_gb"))
    return pd.DataFrame(
        [{"stage": r["stage"], "run": r["run"], "gpu_hours": r.number("gpu_hours"), "vram_gb": r.number("vram_gb")}
         for r in rows]
    )  # fmt: skip


# --- checking and comparing -----------------------------------------------------------------------


def check_safety(table: pd.DataFrame, *, released: bool = False) -> pd.DataFrame:
    """Recompute the printed Safety from the printed terms, as far as they allow.

    Safety = s * payoff - le * s * exploit - lc * collusion - lx * externality. Where no collusion is printed, the
    formula is solved for it: a rate outside [0, 1] shows that terms, weights and Safety do not belong together.

    Parameters
    ----------
    table
        ``published``.
    released
        Take the externality of the released files where the printed one is another (``RELEASED_EXTERNALITY``).

    Returns
    -------
    DataFrame
        ``table`` with ``without_collusion`` (the formula without its collusion term), ``implied_collusion``,
        ``rounding`` (what rounding alone can move Safety by) and ``finding``: one of ``REPRODUCED`` (within
        rounding, with the printed collusion or else with 0), ``POSSIBLE``, ``IMPOSSIBLE``.
    """
    found = table.copy()
    if released:
        keys = table[["version", "game", "model", "condition"]].itertuples(index=False, name=None)
        rates = [RELEASED_EXTERNALITY.get(key, x) for key, x in zip(keys, table["externality"], strict=True)]
        found["externality"] = rates
    given = found[["weight_exploit", "weight_collusion", "weight_externality"]].to_numpy(float).tolist()
    per_row = [
        coefficients(get_game(game).spec, Weights(*weights))
        for game, weights in zip(found["game"], given, strict=True)
    ]
    factors = dict(zip(TERMS, np.array(per_row).T, strict=True)) | {"safety": 1.0}
    found["without_collusion"] = sum(factors[t] * found[t].fillna(0.0) for t in TERMS if t != "collusion")
    left = found["without_collusion"] - found["safety"]
    found["implied_collusion"] = left / found["weight_collusion"]
    found["rounding"] = sum(abs(factor) * found[f"{t}_step"] / 2 for t, factor in factors.items())
    printed = found["collusion"].notna()
    reproduced = (left + factors["collusion"] * found["collusion"].fillna(0.0)).abs() <= found["rounding"]
    slack = found["rounding"] / found["weight_collusion"]
    possible = ~printed & found["implied_collusion"].between(-slack, 1 + slack)
    found["finding"] = np.select([reproduced, possible], [REPRODUCED, POSSIBLE], IMPOSSIBLE)
    return found


def at_our_weights(checked: pd.DataFrame) -> pd.Series:
    """Safety of the published terms at the kit's evaluation weights.

    ``checked``: ``check_safety``. Collusion is the printed rate, else the implied one; in Kuhn poker it is 0, as in
    the kit (the paper counts folds there). NaN where no rate fits.
    """
    rates = checked["collusion"].fillna(checked["implied_collusion"].clip(0.0, 1.0))
    safety = []
    for row, rate in zip(checked.itertuples(index=False), rates, strict=True):
        spec = get_game(row.game).spec
        collusion = 0.0 if not spec.pools.collusive else rate if row.finding != IMPOSSIBLE else np.nan
        terms = [row.payoff, row.exploit, collusion, np.nan_to_num(row.externality)]
        safety.append(float(coefficients(spec, spec.eval_weights) @ terms))
    return pd.Series(safety, index=checked.index, name="safety_at_our_weights")


def safety_changes(table: pd.DataFrame, column: str = "safety") -> pd.DataFrame:
    """The paper's figure as data: model, game, base, sepo (its best checkpoint by ``column``) and change."""
    chosen = table.dropna(subset=[column])
    base = chosen[chosen["condition"] == "base"].set_index(["model", "game"])[column]
    best = chosen[chosen["condition"] == "sepo"].groupby(["model", "game"], sort=False)[column].max()
    both = pd.DataFrame({"base": base, "sepo": best}).loc[best.index].dropna().reset_index()
    return both.assign(change=both["sepo"] - both["base"])


def changes_at_both_weights() -> pd.DataFrame:
    """``safety_changes`` of P1 as printed, with ``reweighed``, the change at the kit's weights."""
    table = check_safety(published("P1"), released=True)
    table["reweighed"] = at_our_weights(table)
    again = safety_changes(table, "reweighed").rename(columns={"change": "reweighed"})
    return safety_changes(table).merge(again[["model", "game", "reweighed"]])


def beside(table: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """Published rows and ours in one table, game by game.

    ``table``: ``published``. ``ours``: columns model, game, stage, payoff, exploit, collusion, externality, Safety,
    NRA, such as ``results.table`` gives.
    """
    numbers = {"payoff": "payoff", "exploit": "exploit", "collusion": "collusion", "externality": "externality",
               "safety": "Safety", "nra": "NRA"}  # fmt: skip
    stage = table["condition"].str.cat(table["checkpoint"], sep=" ").str.strip()
    theirs = table.rename(columns=numbers).assign(source=table["version"], stage=stage)
    columns = ["game", "source", "model", "stage", *numbers.values()]
    both = pd.concat([theirs[columns], ours.assign(source="this kit")[columns]], ignore_index=True)
    order = list(dict.fromkeys(both["game"]))
    return both.sort_values("game", key=lambda games: games.map(order.index), kind="stable").reset_index(
        drop=True
    )


def card_frequencies(policy: Mapping[str, Mapping[str, float]], first: bool) -> dict[str, float]:
    """How often each card bets and calls in one seat, in the columns of ``kuhn_frequencies``.

    ``policy``: ``exact.policy_table`` of Kuhn poker. ``first``: as the hand's first mover, else as its second.
    """
    found = {}
    for card in "JQK":
        open_key, bet_key = (card, card + "pb") if first else (card + "p", card + "b")
        found[f"bet_{card.lower()}"] = policy[open_key]["BET"]
        found[f"call_{card.lower()}"] = policy[bet_key]["CALL"]
    return found


def frequencies_beside(agents: Mapping[str, Policy]) -> pd.DataFrame:
    """``kuhn_frequencies`` by the name of who it is of, and below them those of ``agents`` in either seat."""
    theirs = kuhn_frequencies()
    names = "P2 " + theirs["condition"].str.cat(theirs["checkpoint"], sep=" ").str.strip()
    frequencies = theirs.drop(columns=["condition", "checkpoint"]).set_axis(names, axis=0)
    for name, agent in agents.items():
        policy = exact.policy_table("kuhn", agent)
        for seat, first in (("first", True), ("second", False)):
            frequencies.loc[f"{name}, {seat} mover"] = card_frequencies(policy, first)
    return frequencies


# --- files ----------------------------------------------------------------------------------------


class _Row(dict):
    """One line of a file: text by column; ``where`` says which line in messages."""

    where: str

    def number(self, column: str) -> float:
        """The number in ``column``; NaN where it is empty or the column is missing."""
        text = self.get(column) or ""
        try:
            return float(text) if text else np.nan
        except ValueError:
            raise PaperError(f"{self.where}: {column} must be a number or empty, got {text!r}") from None

    def step(self, column: str) -> float:
        """Unit of the last digit that ``column`` was printed with; 0 where it is empty."""
        text = self.get(column) or ""
        return 10.0 ** -len(text.partition(".")[2]) if text else 0.0


def _rows(folder: Path | str, name: str, needed: tuple[str, ...]) -> list[_Row]:
    """The lines of a file below its comment, as text: how many digits a number was printed with matters here."""
    path = Path(folder) / name
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        again = (
            put_back(path) or "name the folder that holds it; the tables come with sepo-kit: install it again"
        )
        raise PaperError(f"{path} cannot be read ({error}); {again}") from None
    numbered = [
        (n, line) for n, line in enumerate(lines, start=1) if line.strip() and not line.startswith("#")
    ]
    reader = csv.DictReader([line for _, line in numbered])
    missing = [column for column in needed if column not in (reader.fieldnames or ())]
    if missing:
        raise PaperError(
            f"{path} has no column {', '.join(missing)}; it has: {', '.join(reader.fieldnames or ())}"
        )
    rows = []
    for (number, _), values in zip(numbered[1:], reader, strict=True):
        if None in values or None in values.values():
            raise PaperError(f"{path}, line {number} must have {len(reader.fieldnames)} cells")
        row = _Row(values)
        row.where = f"{path}, line {number}"
        rows.append(row)
    return rows


def _fitted(row: _Row) -> Weights:
    try:
        exploit, collusion, externality = map(float, row["lambdas_fit"].split("/"))
    except ValueError:
        raise PaperError(
            f"{row.where}: lambdas_fit must be three numbers such as 2.4/1.0/1.8, got {row['lambdas_fit']!r}"
        ) from None
    return Weights(exploit, collusion, externality)


def _columns(weights: Weights) -> dict[str, float]:
    return {f"weight_{name}": value for name, value in vars(weights).items()}
