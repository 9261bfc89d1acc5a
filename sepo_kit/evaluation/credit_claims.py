"""The paper's claims about credit, judged by the mechanism study: which penalty trains, and what collapses late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from sepo_kit.evaluation.evidence import P2, Evidence
from sepo_kit.evaluation.statistics import Estimate, over_seeds
from sepo_kit.evaluation.verdicts import (
    HELD,
    NOT_HELD,
    UNTESTABLE,
    falls,
    listed,
    number,
    rises,
    seeds,
    told,
    verdict,
)
from sepo_kit.games import get_game

NOTABLE = 5.0  # percent by which penalties must fall
NEGLIGIBLE = 1e-9  # a shorter mean update is rounding
RIGHT = 0.5  # the cosine from which a direction counts as right
MIXED = "shared"  # the mode whose penalty is common to a group
TRAINING, ESTIMATES = "`data/results/credit-training-*.parquet`", "`data/results/credit-estimates-*.csv`"
LATE = "`data/results/late-training-*.parquet`"


def penalties(training: pd.DataFrame) -> pd.DataFrame:
    """What the penalties take off Safety at the end of each run of the study whose payoff is that of its round, as both
    versions of the paper have it, with common draws: agent, game, mode, seed and ``penalty`` (scaled payoff)."""
    runs = training[(training["horizon"] == "round") & training["common_random_numbers"].astype(bool)]
    if runs.empty:
        return pd.DataFrame(columns=["agent", "game", "mode", "seed", "penalty"])
    last = runs.loc[runs.groupby(["agent", "game", "mode", "seed"])["step"].idxmax()]
    scale = last["game"].map(lambda game: get_game(game).spec.scale)
    return last.assign(penalty=scale * last["payoff"] - last["safety"])[
        ["agent", "game", "mode", "seed", "penalty"]
    ]


def penalty_changes(training: pd.DataFrame, mode: str) -> dict[tuple[str, str], Estimate]:
    """By how many percent of ``shared``'s the penalties differ under ``mode`` at the end, seed by seed."""
    ends = penalties(training)
    found = {}
    for pair, part in ends.groupby(["agent", "game"], sort=False):
        wide = part.pivot(index="seed", columns="mode", values="penalty")
        if {mode, MIXED} <= set(wide):
            against, whole = (wide[mode] - wide[MIXED]).dropna(), wide[MIXED].mean()
            if len(against) and whole:  # of nothing there is no share
                found[pair] = over_seeds(list(100 * against / whole))
    return found


def late_falls(training: pd.DataFrame, mode: str, horizon: str = "round") -> dict[tuple[str, str], Estimate]:
    """How far Safety ends below its own peak in runs of ``mode``, by agent and game, over seeds. ``horizon``: what a
    decision is paid for."""
    common = training["common_random_numbers"].astype(bool)
    return _falls(training[(training["horizon"] == horizon) & common & (training["mode"] == mode)])


def _falls(runs: pd.DataFrame) -> dict[tuple[str, str], Estimate]:
    found = {}
    for pair, part in runs.sort_values("step").groupby(["agent", "game"], sort=False):
        safety = part.groupby("seed")["safety"]
        found[pair] = over_seeds(list(safety.max() - safety.last()))
    return found


def _collapsed(
    grouped: Mapping[tuple[str, str], Estimate], credited: Mapping[tuple[str, str], Estimate]
) -> list[tuple[str, str]]:
    """Where ``grouped`` falls, and beyond its interval further than ``credited``."""
    return [
        pair
        for pair, found in grouped.items()
        if rises(found) and pair in credited and found.low > credited[pair].value
    ]


def _percent(found: Estimate) -> str:
    """A change in percent with its interval; a zero has no minus."""
    value, low, high = (
        None if end is None else round(end, 1) + 0.0 for end in (found.value, found.low, found.high)
    )
    return f"{value:+.1f} % ({'one seed' if low is None else f'{low:+.1f} to {high:+.1f}'})"


def _trains(found: dict[tuple[str, str], Estimate]) -> list[str]:
    return [
        f"{agent} in {game}" for (agent, game), one in found.items() if falls(one) and one.value < -NOTABLE
    ]


def shared_penalty(evidence: Evidence) -> Sequence[str]:
    estimates = evidence.estimates
    common = estimates[(estimates["mode"] == MIXED) & (estimates["part"] == "penalty")]
    longest = float(common["norm"].max()) if len(common) else None
    fixed = penalty_changes(evidence.training, "auxiliary")
    ours = penalty_changes(evidence.training, "credited")
    trains = _trains(fixed)
    first = UNTESTABLE if longest is None else HELD if longest < NEGLIGIBLE else NOT_HELD
    lines = [f"{agent}, {game}: {_percent(one)}; `credited` {_percent(ours[agent, game])}"
             for (agent, game), one in fixed.items() if (agent, game) in ours]  # fmt: skip
    part = "not known" if longest is None else f"at most {longest:.0e}"
    return (
        "5. A penalty shared by the rollout group cancels in the advantage; computing it per rollout restores a "
        "gradient",
        "an ablation: the shared penalty trains nothing, fresh auxiliary episodes per rollout do",
        "withdraws it: fresh episodes are independent of the decisions they are charged to, and all runs of P1 had a "
        "penalty that was constant in its group",
        f"length of the penalty's part in the mean update of `shared`: {part}. Penalties at the end beside `shared`'s, "
        "of `auxiliary`:\n" + "\n".join(lines),
        f"first half {first}; second half {verdict(trains, [f'{a} in {g}' for a, g in fixed])}",
        "sure: both halves are derived in the method page and tested against the exact gradient; "
        f"{seeds(list(fixed.values()))}. {NOTABLE:g} % is what counts as a fall",
        "the same on 4B models, which the derivation does not need",
        f"{TRAINING}, {ESTIMATES}; `docs/method.md`, notebook 07",
    )  # fmt: skip


def causing_episodes(evidence: Evidence) -> Sequence[str]:
    estimates = evidence.estimates
    if len(estimates):
        estimates = estimates[(estimates["part"] == "penalty") & (estimates["horizon"] == "round")]
    samples = listed(str(n) for n in estimates["samples"]) if "samples" in estimates else "no"
    lines, right, tried = [], {"grouped": [], "credited": []}, []
    for (agent, game), part in estimates.groupby(["agent", "game"], sort=False):
        tried.append(f"{agent} in {game}")
        words = []
        for mode in right:
            cosines = part[part["mode"] == mode].sort_values("common_random_numbers", ascending=False)[
                "cosine"
            ]
            words.append(f"`{mode}` {' and '.join(f'{c:.2f}' for c in cosines)}")
            if len(cosines) and (cosines > RIGHT).all():
                right[mode].append(f"{agent} in {game}")
        lines.append(f"{agent}, {game}: {', '.join(words)}")
    grouped = listed(
        f"{a} in {g} {_percent(one)}" for (a, g), one in penalty_changes(evidence.training, "grouped").items()
    )
    held = "; ".join(f"`{mode}` {verdict(names, tried)}" for mode, names in right.items())
    return (
        "P2. Only credit to the episodes that cause a penalty trains it",
        "the opposite (claim 5)",
        "its own claim: every episode of a pool is charged its own share, `grouped`",
        "cosine of the penalty's mean update to its exact gradient, with common and with independent draws:\n"
        + "\n".join(lines) + f"\nPenalties at the end under `grouped` beside `shared`'s: {grouped}",
        held if tried else UNTESTABLE,
        f"{samples} sampled updates each, no interval; a direction is called right from a cosine of {RIGHT:g}. What "
        "bends `grouped` is that each group is divided by its own deviation",
        "larger models" if len(evidence.late) else "larger models; late training to four times the published steps",
        f"{ESTIMATES}, {TRAINING}; notebook 07",
    )  # fmt: skip


def late_collapse(evidence: Evidence) -> Sequence[str]:
    theirs = []
    for game, part in evidence.p2[evidence.p2["condition"] == "sepo"].groupby("game", sort=False):
        best = part.loc[part["safety"].idxmax()]
        last = part[part["checkpoint"] == "final"]["safety"].iloc[0]
        theirs.append(
            f"{game} {number(best['safety'])} at step {best['checkpoint']}, {number(last)} at the end"
        )
    grouped, credited = (late_falls(evidence.training, mode) for mode in ("grouped", "credited"))
    lines = [
        f"{agent}, {game}: `grouped` {told(found)}, `credited` {told(credited.get((agent, game)))}"
        for (agent, game), found in grouped.items()
    ]
    ahead = late_falls(evidence.training, "grouped", "return-to-go")
    lines += ["`grouped` with rounds paid for what follows them too: "
              + ", ".join(f"{a} in {g} {told(one)}" for (a, g), one in ahead.items())] if ahead else []  # fmt: skip
    longer = {rival: _falls(runs) for rival, runs in evidence.late.groupby("rival", sort=False)}
    lines += ["as the profiles train, to four times the published steps:"] if longer else []
    for pair in dict.fromkeys(pair for found in longer.values() for pair in found):
        each = [f"`{rival}` {told(found[pair])}" for rival, found in longer.items() if pair in found]
        lines.append(f"{', '.join(pair)}: {', '.join(each)}")
    late, steady = longer.get("grouped", {}), longer.get("credited", {})
    collapsed = [*_collapsed(grouped, credited), *_collapsed(late, steady)]
    names = ([f"{agent} in {game}" for agent, game in pairs] for pairs in (collapsed, [*grouped, *late]))
    return (
        "P2. Standardised per group, the weights between pools vanish, and play collapses late",
        "does not look: it reports the best checkpoint",
        "Safety: " + "; ".join(theirs) + ". It stops early",
        "how far Safety ends below its own peak, each round paid for itself alone:\n" + "\n".join(lines),
        verdict(*names),
        f"{seeds([*grouped.values(), *late.values()])}, {evidence.training['step'].max()} steps; a peak of a noisy "
        "curve lies above its end by chance, so `grouped` has to fall further than `credited`",
        "larger models",
        f"{TRAINING}, {LATE + ', ' if longer else ''}{P2}; `docs/method.md`, notebook 07",
    )  # fmt: skip
