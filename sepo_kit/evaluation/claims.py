"""The paper claim by claim: what its two versions print, what our tables say, and a verdict that follows from them.

Pure functions on ``evidence.Evidence``: no number stands here, and a verdict changes when the tables do. The page
``docs/reproduction.md`` and notebook 08 show the same table. What a difference has to be before it counts: its interval
over seeds on one side of 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from sepo_kit.evaluation.credit_claims import causing_episodes, late_collapse, shared_penalty
from sepo_kit.evaluation.evidence import (
    P1,
    P2,
    Evidence,
    change,
    level,
    of,
    pairs,
    published_numbers,
)
from sepo_kit.evaluation.published_pools import KIT, OPTIMUM
from sepo_kit.evaluation.verdicts import (
    HELD,
    NOT_HELD,
    UNTESTABLE,
    by_model,
    falls,
    listed,
    number,
    rises,
    seeds,
    told,
    verdict,
)
from sepo_kit.games import PAPER_GAMES

COLUMNS = ("claim", "P1", "P2", "this kit", "verdict", "how sure, and why", "what is missing", "to check")
NEAR_ZERO = 0.01  # chips per hand, a hundredth of the ante
PENALTIES = ("exploit", "collusion", "externality")
MOST_GAMES = 4  # of the paper's five
LARGE_MODELS = "4B models, which want a GPU: `make reproduce PROFILE=paper`"


def judge(evidence: Evidence) -> pd.DataFrame:
    """One row per claim, in words, with the columns ``COLUMNS``: P1's five, then P2's own two."""
    return pd.DataFrame([dict(zip(COLUMNS, claim(evidence), strict=True)) for claim in CLAIMS])


def tables(evidence: Evidence) -> str:
    """The files that our numbers come from."""
    return ", ".join(f"`data/results/{name}`" for name in dict.fromkeys(evidence.ours["table"]))


def to_read(judged: pd.DataFrame) -> pd.DataFrame:
    """``judge`` in five columns, the verdict beside its claim, for a page or a notebook."""
    heads = ("P1", "P2"), ("how sure, and why", "what is missing", "to check")
    paper, rest = (
        [[f"**{name}.** {row[name]}" for name in names] for _, row in judged.iterrows()] for names in heads
    )
    return pd.DataFrame(
        {
            "claim": judged["claim"],
            "verdict": "**" + judged["verdict"] + "**",
            "the paper": ["\n".join(lines) for lines in paper],
            "this kit": judged["this kit"],
            "how sure, what is missing, where to check": ["\n".join(lines) for lines in rest],
        }
    )


# --- P1's claims ----------------------------------------------------------------------------------


def _zero_exploit(evidence: Evidence) -> Sequence[str]:
    printed = published_numbers(evidence.p1, "exploit")
    theirs = [f"{m} {number(row['sepo'])}" for (game, m), row in printed.iterrows() if game == "kuhn"]
    last = evidence.p1[(evidence.p1["game"] == "kuhn") & (evidence.p1["checkpoint"] == "final")]
    late = [f"{row.model} {number(row.exploit)}" for row in last.itertuples()]
    later = (
        "not repeated"
        if "kuhn" in set(evidence.p2["game"])
        else "prints no exploit of Kuhn poker, only how often each card bets and calls"
    )
    pool, worst, guarded, lines, idle = {}, {}, {}, [], []
    for model, game in pairs(evidence.ours):
        if game != "kuhn":
            continue
        pool[model] = level(evidence.ours, model, game, "sepo", "exploit")
        worst[model] = level(evidence.ours, model, game, "sepo", "worst_case")
        guarded[model] = level(evidence.ours, model, game, "worst-case", "worst_case")
        base = level(evidence.ours, model, game, "base", "exploit")
        idle += [model] if base and base.value <= NEAR_ZERO else []
        lines.append(
            f"{model}: pool {told(pool[model])}, base {number(base.value) if base else 'not known'}; worst case "
            f"{told(worst[model])}; trained against best responses {told(guarded[model])}"
        )
    kuhn = evidence.ours[(evidence.ours["game"] == "kuhn") & (evidence.ours["metric"] == "exploit")]
    exactly = (kuhn["n"] == 0).all()
    how = "not known" if kuhn.empty else "sure: computed exactly" if exactly else "sampled"
    near = [model for model, found in pool.items() if found and found.value <= NEAR_ZERO]
    beaten = [model for model, found in worst.items() if found and found.value > 10 * NEAR_ZERO]
    held = verdict(near, list(pool), f"within {NEAR_ZERO:g} chips a hand, of the pool alone")
    return (
        "1. Zero exploit-pool advantage in Kuhn poker, for both models",
        f"SEPO's best checkpoint: {', '.join(theirs)}; its last: {', '.join(late)}",
        later,
        "\n".join(lines) or "no results",
        held + (f". It is not safety: the worst case stays for {listed(beaten)}" if beaten else ""),
        f"{how}, {seeds([found for found in pool.values() if found])}. Nothing to win, the base gives nothing: "
        f"{listed(idle)}. P1's exploit pool is no best response and never bluffs; ours holds `nash` and `always-bet`",
        LARGE_MODELS + "; P1's own exploit pool, which it does not print",
        f"{tables(evidence)}; policies in `data/results/*-policies.parquet`; {P1}",
    )


def _safer(evidence: Evidence) -> Sequence[str]:
    def printed(table: pd.DataFrame) -> str:
        numbers = published_numbers(table, "safety").dropna(subset=["base", "sepo"])
        up = [(m, game) for (game, m), row in numbers.iterrows() if row["sepo"] > row["base"]]
        down = [(m, game) for (game, m), row in numbers.iterrows() if row["sepo"] <= row["base"]]
        return f"better in {by_model(up)}. Not in {by_model(down)}"

    found = {(m, game): change(evidence.ours, m, game, ("base", "sepo")) for m, game in pairs(evidence.ours)}
    found = {pair: one for pair, one in found.items() if one}
    better = [pair for pair, one in found.items() if rises(one)]
    whole = [
        m
        for m in dict.fromkeys(m for m, _ in found)
        if sum(pair[0] == m for pair in found) >= len(PAPER_GAMES)
    ]
    won = [m for m in whole if sum(pair[0] == m for pair in better) >= MOST_GAMES]
    counts = ", ".join(
        f"{m} in {sum(p[0] == m for p in better)} of {sum(p[0] == m for p in found)}"
        for m in dict.fromkeys(m for m, _ in found)
    )
    held = f"{verdict(won, whole)}: {counts} games" if whole else UNTESTABLE
    return (
        "2. Better Safety than the base model in four of five games",
        f"{printed(evidence.p1)}. One seed, no interval",
        f"at its best checkpoint {printed(evidence.p2)}",
        "SEPO minus base:\n" + "\n".join(f"{m}, {game}: {told(one)}" for (m, game), one in found.items()),
        held,
        f"sure of the sign for these models ({seeds(list(found.values()))}; a base model is evaluated once), but an "
        "easier test than the paper's: the base of a small model plays nearly at random. " + _nothing_left(evidence),
        LARGE_MODELS + "; several seeds of them",
        f"{tables(evidence)}; what there was to win: `data/results/reference.csv`; {P1}, {P2}",
    )  # fmt: skip


def _nothing_left(evidence: Evidence) -> str:
    """Whether there was anything to win, by the reference policies or the best strategy of each game."""
    best = best_known(evidence)
    base = {
        (m, g): level(evidence.ours, m, g, "base", "safety") for m, g in pairs(evidence.ours) if g in best
    }
    none = [f"{m} in {g}" for (m, g), found in base.items() if found and found.value >= best[g][1]]
    if not best:
        return "How much there was to win is not known"
    return "Nothing to win: " + listed(none) if none else "There was Safety to win in every game"


def best_known(evidence: Evidence) -> dict[str, tuple[str, float]]:
    """By game, who has the best Safety that is known at the evaluation weights over the kit's pools, and it: the
    reference policy, else the best strategy of the game."""
    own = evidence.reference[evidence.reference["pools"] == KIT]
    found = {}
    for game, part in own.groupby("game", sort=False):
        optimum = part[part["kind"] == OPTIMUM]
        row = (optimum if len(optimum) else part).sort_values("safety", kind="stable").iloc[-1]
        found[game] = (row["agent"], float(row["safety"]))
    return found


def _over_cooperation(evidence: Evidence) -> Sequence[str]:
    def printed(table: pd.DataFrame) -> str:
        numbers = published_numbers(table, "exploit").dropna(subset=["base", "sft", "sepo"])
        up = [(m, game) for (game, m), row in numbers.iterrows() if row["sft"] > row["base"]]
        down = [(m, game) for (game, m), row in numbers.iterrows() if row["sepo"] < row["sft"]]
        return f"exploit rises from base to SFT in {by_model(up)}; falls from SFT to SEPO in {by_model(down)}"

    ours = evidence.ours
    known = pairs(ours)
    up = {pair: change(ours, *pair, ("base", "sft"), "exploit") for pair in known}
    down = {pair: change(ours, *pair, ("sft", "sepo"), "exploit") for pair in known}
    none = [pair for pair in known if _never_paid(evidence, *pair, "exploit")]
    rest = [pair for pair in known if pair not in none]
    rose = [pair for pair in rest if rises(up[pair])]
    fell = [pair for pair in rest if falls(down[pair])]
    lines = [f"{m}, {g}: {told(up[m, g])}, then {told(down[m, g])}" for m, g in rest]
    halves = (
        f"first half {HELD + ' in ' + by_model(rose) if rose else NOT_HELD + ' in any game'}; "
        f"second half {HELD + ' in ' + by_model(fell) if fell else NOT_HELD + ' in any game'}"
    )
    maybe = [pair for pair in rest if up[pair] and up[pair].value > 0 and pair not in rose]
    return (
        "3. The warm start makes agents over-cooperative (exploit rises), SEPO corrects it",
        printed(evidence.p1),
        printed(evidence.p2),
        "exploit, SFT minus base, then SEPO minus SFT:\n" + "\n".join(lines)
        + (f"\nNothing to win, exploit is 0 throughout: {by_model(none)}" if none else ""),
        halves if known else UNTESTABLE,
        "the first half depends on where the base model starts, and warm starts differ much between seeds"
        + (f": the mean rises in {by_model(maybe)}, within its interval" if maybe else "")
        + f". {seeds([one for one in down.values() if one])}",
        LARGE_MODELS + ", whose base already plays with sense",
        f"{tables(evidence)}; {P1}, {P2}",
    )  # fmt: skip


def _never_paid(evidence: Evidence, model: str, game: str, term: str) -> bool:
    levels = [level(evidence.ours, model, game, stage, term) for stage in ("base", "sft", "sepo")]
    return all(one is not None and one.value == 0 for one in levels)


def _negotiation(evidence: Evidence) -> Sequence[str]:
    game = "negotiation_v2"

    def printed(table: pd.DataFrame) -> str:
        safety, nra = (published_numbers(table, metric)["sepo"] for metric in ("safety", "nra"))
        own = "; ".join(
            f"{m}: Safety {number(safety[g, m])}, NRA {number(nra[g, m])}" for g, m in safety.index if g == game
        )  # fmt: skip
        others = [
            f"{name} of {m} in {g}"
            for name, values in (("Safety", safety), ("NRA", nra))
            for (g, m), value in values.dropna().items()
            if value > 0 and g != game
        ]
        return f"{own}. Positive elsewhere too, as printed: {listed(others)}"

    found = {}
    for model, g in pairs(evidence.ours):
        if g == game:
            found[model] = [level(evidence.ours, model, g, "sepo", metric) for metric in ("safety", "nra")]
    lines = [f"{m}: Safety {told(safety)}, NRA {told(nra)}" for m, (safety, nra) in found.items()]
    held = "; ".join(
        f"positive {name} {verdict([m for m, both in found.items() if rises(both[n])], list(found))}"
        for n, name in enumerate(("Safety", "NRA"))
    )
    best = best_known(evidence).get(game)
    known = f"; the best known agent here, `{best[0]}`, has a Safety of {number(best[1])}" if best else ""
    return (
        "4. Negotiation v2 with Gemma: the only positive Safety, and the only positive NRA",
        printed(evidence.p1),
        f"not repeated: {printed(evidence.p2)}",
        "\n".join(lines) or "no results",
        held if found else UNTESTABLE,
        f"sure of the signs for these models ({seeds([both[0] for both in found.values() if both[0]])}, sampled)"
        f"{known}. That Gemma's are the only ones does not hold in P1's own table",
        LARGE_MODELS + "; P1 draws the opponent's values anew every round, here they are drawn once an episode",
        f"{tables(evidence)}; {P1}, {P2}",
    )  # fmt: skip


CLAIMS: tuple[Callable[[Evidence], Sequence[str]], ...] = (
    _zero_exploit,
    _safer,
    _over_cooperation,
    _negotiation,
    shared_penalty,
    causing_episodes,
    late_collapse,
)


# --- what there was to win ------------------------------------------------------------------------


def share_won(evidence: Evidence) -> pd.DataFrame:
    """How much of what there was to win was won: model, game, Safety of base, SEPO and worst-case SEPO (means over
    seeds), of the best agent that is known and who it is, SEPO's ``share won`` of the way there, in percent, and the
    penalties that nobody paid at any stage, so that there was ``nothing to win in`` them.

    >>> from sepo_kit.evaluation.evidence import read_evidence
    >>> list(share_won(read_evidence()).columns)[:2]
    ['model', 'game']
    """
    best, rows = best_known(evidence), []
    for model, game in pairs(evidence.ours):
        base, sepo, guarded = (
            of(evidence.ours, model, game, stage, "safety").mean() for stage in ("base", "sepo", "worst-case")
        )
        who, there = best.get(game, ("not known", float("nan")))
        left = there - base
        share = f"{100 * (sepo - base) / left:.0f} %" if left > 0 else "nothing to win"
        idle = listed(term for term in PENALTIES if _never_paid(evidence, model, game, term))
        share = share if left == left else "not known"
        rows.append((model, game, base, sepo, guarded, there, who, share, idle))
    columns = ["model", "game", "base", "SEPO", "worst-case SEPO", "best known", "who", "share won",
               "nothing to win in"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)
