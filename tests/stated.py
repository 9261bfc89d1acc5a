"""What the README and the pages state, and where each number comes from.

A sentence stands here with a # for each of its results, and the recipe that finds them in a file. Numbers that are no
results stand below by what they are: settings, rules of games, machines, versions. Whoever changes a sentence changes
its line here; whoever adds a result adds a recipe.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

import pandas as pd

from sepo_kit import exact
from sepo_kit.engine.policy import StrategyPolicy
from sepo_kit.engine.tables import read_table, rounds_file
from sepo_kit.evaluation.episode_means import EpisodeMeans
from sepo_kit.evaluation.published_pools import printed_nash
from sepo_kit.evaluation.results import by_reason
from sepo_kit.evaluation.statistics import over_seeds
from sepo_kit.games import get_game
from sepo_kit.objective.terms import objective
from sepo_kit.pipeline.profiles import SMOLLM2_EVALUATION_OF
from sepo_kit.runs import read_lines

ROOT = Path(__file__).parents[1]
SMOLLM2 = "smollm2-135m"
Numbers = Callable[[], Sequence[float]]

# --- recipes --------------------------------------------------------------------------------------


@lru_cache
def table(name: str) -> pd.DataFrame:
    """A table of ``data/results``, with its ending or as CSV."""
    path = ROOT / "data" / "results" / (name if "." in name else f"{name}.csv")
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


@lru_cache
def benchmark(name: str) -> pd.DataFrame:
    """The rows of a benchmark's file."""
    return pd.DataFrame(json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["rows"])


def where(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows of ``frame`` with these values; there is at least one."""
    for column, value in values.items():
        frame = frame[frame[column] == value]
    assert len(frame), f"no row has {values}"
    return frame


def seeds(name: str, model: str, game: str, stage: str, metric: str) -> list[float]:
    """A metric of one stage by seed."""
    part = where(table(name), model=model, game=game, stage=stage, metric=metric)
    return part.sort_values("seed")["value"].tolist()


def mean(*keys: str) -> float:
    """Its mean over seeds."""
    found = seeds(*keys)
    return sum(found) / len(found)


def extremes(values: Sequence[float]) -> list[float]:
    return [min(values), max(values)]


def wordings(stage: str, *names: str) -> list[float]:
    """The worst case of SmolLM2 at a stage in Kuhn poker in some wordings, the least and the largest over seeds."""
    rows = where(table("wordings-worst-case"), model=SMOLLM2, game="kuhn", stage=stage, metric="worst_case")
    return extremes(rows.loc[rows["wording"].isin(names), "value"].tolist())


def step(model: str, game: str, column: str = "seconds") -> float:
    return where(benchmark("step"), model=model, game=game, mode="credited")[column].item()


def lockstep(game: str) -> list[float]:
    """How many times as fast SmolLM2 plays in lockstep as alone: direct, reasoned."""
    rows = where(benchmark("rollout"), model=SMOLLM2, game=game)
    return [where(rows, style=style)["ratio"].item() for style in ("direct", "reasoned")]


def question(game: str, question: str, column: str, **values: object) -> float:
    return where(benchmark("exact"), game=game, question=question, **values)[column].item()


def noise(game: str, common: bool) -> float:
    """Of the payoff part of ``credited`` in the table of estimates."""
    rows = where(
        table("credit-estimates-tabular"), game=game, mode="credited", part="payoff", horizon="return-to-go"
    )
    return where(rows, common_random_numbers=common)["noise"].item()  # fmt: skip


def killed() -> list[float]:
    rows = benchmark("kills")
    return [rows["runs"].sum(), rows["kills"].sum(), rows["the same"].sum()]


def reused(groups: int, most: int | None) -> list[float]:
    """A row of the table of replies that are used often."""
    rows = where(benchmark("reuse"), groups=groups)
    row = rows[rows["most"].isna() if most is None else rows["most"] == most].iloc[0]
    return [row["replies"], row["noise"], row["share"]]


def command(name: str, column: str = "seconds") -> float:
    """Of a command of a fresh clone."""
    return where(benchmark("commands"), command=f"make {name}")[column].item()


def damaged() -> list[float]:
    rows = benchmark("corrupt")
    return [rows["damaged"].sum(), rows["stack traces"].sum()]


def rival(name: str) -> Numbers:
    """A row of the table of exploiters."""

    def found() -> list[float]:
        ends = where(table("exploiters-ends-tabular"), rival=name).groupby("game").mean(numeric_only=True)
        kuhn, ipd = ends.loc["kuhn"], ends.loc["ipd"]
        return [kuhn["worst_case"], kuhn["late_peak"], kuhn["payoff"],
                ipd["worst_case"], ipd["late_peak"], ipd["payoff"], ipd["guaranteed"]]  # fmt: skip

    return found


def tables_start_in_leduc() -> float:
    """The worst case of uniform play."""
    rows = where(table("exploiters-training-tabular.parquet"), game="leduc", step=0)["worst_case"]
    assert rows.nunique() == 1
    return rows.iloc[0]


def tables_end_in_leduc(rival: str) -> float:
    """The worst case of a table trained so, the mean over seeds."""
    return where(table("exploiters-ends-tabular"), game="leduc", rival=rival)["worst_case"].mean()


def ablation(rival: str, metric: str) -> float:
    """Where pico's trainings in Kuhn poker with one setting changed end, the mean over seeds."""
    return where(table("ablations-ends-pico"), game="kuhn", rival=rival)[metric].mean()


def late(rival: str, metric: str, game: str, agent: str = "pico") -> list[float]:
    """Where the trainings of four times the steps end, by seed."""
    rows = where(table(f"late-ends-{agent}"), game=game, rival=rival)
    return rows.sort_values("seed")[metric].tolist()


def late_at(step: int, rival: str, game: str) -> list[float]:
    """Their Safety after a step, the least and the largest of the seeds."""
    return extremes(
        where(table("late-training-pico.parquet"), game=game, rival=rival, step=step)["safety"].tolist()
    )


def late_in_kuhn(rival: str, metric: str) -> list[float]:
    """The least and the largest of SmolLM2's seeds at the end."""
    return extremes(late(rival, metric, "kuhn", SMOLLM2))


def late_fall() -> float:
    """The farthest that Safety ends below its own peak in any of them."""
    runs = (
        table("late-training-pico.parquet").sort_values("step").groupby(["game", "rival", "seed"])["safety"]
    )
    return (runs.max() - runs.last()).max()


def learned(game: str) -> list[float]:
    """What a fresh learner gains on worst-case SEPO less what it gains on pool SEPO, paired by seed, with interval."""
    rows = where(table("learned-worst-case"), game=game).set_index("seed")
    gains = [where(rows, stage=stage)["gain"] for stage in ("worst-case", "sepo")]
    found = over_seeds((gains[0] - gains[1]).tolist())
    return [found.value, found.low, found.high]


def strangers() -> list[float]:
    """What the worst of Axelrod's strategies gains on the seeds of SEPO, the most, and the most on all others."""
    rows = where(table("held-out-worst-case"), game="ipd")
    worst = rows[rows["stage"].isin(["sepo", "worst-case"])].groupby(["stage", "seed"])["gain"].max()
    return sorted(worst, reverse=True)[:2]


def leduc(stage: str) -> list[float]:
    return seeds("worst-case-leduc", "pico", "leduc", stage, "worst_case")


def corpus() -> int:
    """How many demonstrations there are of the paper's games."""
    counts = pd.read_csv(ROOT / "data" / "sft" / "counts.csv")
    return counts[counts["game"] != "leduc"]["records"].sum()


def cfr() -> float:
    return where(benchmark("leduc"), what="CFR, a table")["worst_case"].item()


def sampled_cfr() -> list[float]:
    return extremes(where(benchmark("leduc"), what="MCCFR, a table")["worst_case"].tolist())


def table_in_leduc() -> list[float]:
    """Where tables trained against best responses end in Leduc poker, by seed."""
    return where(benchmark("leduc"), what="SEPO, a table").sort_values("seed")["worst_case"].tolist()


def jack_from_queen() -> list[float]:
    """By how much worst-case SEPO's play with the two cards differs at most before the public card, by seed."""
    found = []
    policies = where(table("worst-case-leduc-policies.parquet"), stage="worst-case")
    for _, rows in policies.groupby("seed"):
        chances = rows.set_index(["information", "action"])["probability"]
        first = [(key, action) for key, action in chances.index if key[0] == "J" and "/" not in key]
        found.append(max(abs(chances[key, action] - chances[f"Q{key[1:]}", action]) for key, action in first))
    return found


IN_WORDS = ROOT / "data" / "results" / "reasoned" / SMOLLM2
REASONED = IN_WORDS / "kuhn"


def reasoned(stage: str, metric: str, game: str = "kuhn") -> float:
    return mean("reasoned", SMOLLM2, game, stage, metric)


@lru_cache
def readings(game: str) -> pd.DataFrame:
    return by_reason(sorted((IN_WORDS / game / "results").glob("s*.json")))


def reasons(stage: str, reading: str = "true, for its action", game: str = "kuhn") -> list[float]:
    """In per cent of the replies of each seed: how many were read so."""
    rows = where(readings(game), stage=stage, reading=reading)
    return (100 * rows.sort_values("seed")["share"]).tolist()


def trained_in_words(game: str) -> list[list[dict]]:
    """The steps of SEPO of each seed."""
    return [read_lines(IN_WORDS / game / f"sepo-seed-{seed}" / "metrics.jsonl") for seed in range(3)]


def different_replies() -> list[float]:
    """In a step of SEPO, the mean of each seed."""
    return extremes([sum(row["sepo/replies"] for row in log) / len(log) for log in trained_in_words("kuhn")])


def says_and_does_otherwise() -> list[float]:
    """How many replies of the third seed promise to cooperate and defect: after SEPO, of how many, and before."""
    files = [IN_WORDS / "ipd" / "results" / f"{stage}-seed-2.parquet" for stage in ("sepo", "sft")]
    replies = [pd.read_parquet(file)["reply"] for file in files]
    after, before = (
        said.str.contains("never defected, so I cooperate.\nDEFECT", regex=False).sum() for said in replies
    )
    return [after, len(replies[0]), before]


def prompts_of_the_dilemma() -> list[float]:
    """Different ones in a step of SEPO, the least and the most of all seeds."""
    return extremes([row["sepo/prompts"] for log in trained_in_words("ipd") for row in log])


def changed(name: str, game: str, stage: str, minus: str) -> list[float]:
    """Safety of SmolLM2 at a stage less that at another, with interval."""
    found = where(table(f"{name}-differences"), game=game, stage=stage, minus=minus, metric="safety")
    return found[["value", "low", "high"]].iloc[0].tolist()


def changed_by_sepo(game: str = "kuhn") -> list[float]:
    return changed("reasoned", game, "sepo", "sft")


def risen() -> list[float]:
    """By how much SEPO raised Safety in the first two seeds."""
    before, after = (seeds("reasoned", SMOLLM2, "kuhn", stage, "safety") for stage in ("sft", "sepo"))
    return [new - old for old, new in zip(before[:2], after[:2], strict=True)]


def in_words(stage: str) -> Numbers:
    """A row of the table of agents that answer in words."""
    return lambda: [reasoned(stage, metric) for metric in ("payoff", "exploit", "worst_case", "safety")]


def dilemma_in_words(stage: str) -> Numbers:
    """A row of the table of agents that answer the prisoner's dilemma in words."""
    metrics = ("payoff", "exploit", "collusion", "externality", "safety", "robust")
    return lambda: [reasoned(stage, metric, "ipd") for metric in metrics]


def of_smollm2(game: str, stage: str) -> Numbers:
    """A row of the table of SmolLM2 that answers with an action alone."""
    metrics = (
        "payoff", "exploit", "worst_case", "collusion", "externality", "safety", "guaranteed", "robust",
    )  # fmt: skip
    return lambda: [mean("smollm2", SMOLLM2, game, stage, metric) for metric in metrics]


def step_in_words() -> list[float]:
    """A step of SmolLM2 in words in Kuhn poker: speed and memory on token trees beside padded rows, and, where replies
    are used again, how many and the speed."""
    rows = where(benchmark("reasoned"), model=SMOLLM2, game="kuhn").set_index("way")
    trees, padded, reused = (
        rows.loc[w] for w in ("token trees", "padded", "token trees, replies used again")
    )
    return [trees["times"], trees["peak_mib"] / padded["peak_mib"], reused["replies"], reused["times"]]


def of_published_agent(metric: str) -> float:
    """A metric of the agent whose weights are published."""
    file = ROOT / "data/results/smollm2/smollm2-135m/kuhn/results/worst-case-seed-0.json"
    (found,) = (m["value"] for m in json.loads(file.read_text())["metrics"] if m["metric"] == metric)
    return found


def rows_of_smollm2() -> Iterator[tuple[str, str, str, str]]:
    """Game, stage, how the table names it, and what stands before its worst case: nothing where that is exact."""
    stages = {
        "base": "before training",
        "sft": "after SFT",
        "sepo": "after SEPO",
        "worst-case": "after worst-case SEPO",
    }
    for game in ("ipd", "auction", "negotiation_v1", "negotiation_v2"):
        for stage, title in stages.items():
            yield game, stage, title, "" if (game, stage) == ("ipd", "base") else "≥ "


def reference(game: str, agent: str, metric: str) -> float:
    """Of what there was to win over our opponents: a strategy's, or that of the reference policy."""
    return where(table("reference"), game=game, agent=agent, pools="this kit")[metric].item()


def played_in_words(stage: str) -> float:
    """Safety by the episodes that were played, the mean over seeds."""
    spec, found = get_game("kuhn").spec, []
    for file in sorted((REASONED / "results").glob(f"{stage}-seed-?.parquet")):
        means = EpisodeMeans.of_tables(spec, read_table(rounds_file(file)), read_table(file))
        found.append(objective(spec, means.terms()[0], spec.eval_weights))
    return sum(found) / len(found)


# --- results --------------------------------------------------------------------------------------

KUHN = ("worst-case", SMOLLM2, "kuhn")
DILEMMA = ("smollm2", SMOLLM2, "ipd")
ITEMS = ("smollm2", SMOLLM2, "negotiation_v2")
IPD, V2 = ("worst-case", "pico", "ipd"), ("worst-case", "pico", "negotiation_v2")
STATED: dict[str, list[tuple[str, Numbers]]] = {
    "README.md": [
        (
            "(seed 0), with a worst case of # and a payoff of #.",
            lambda: [of_published_agent(metric) for metric in ("worst_case", "payoff")],
        ),
        (
            "SmolLM2 gives its pool # chips a hand and its worst adversary #",
            lambda: [mean(*KUHN, "sepo", "exploit"), mean(*KUHN, "sepo", "worst_case")],
        ),
        (
            "trained against best responses, #, # and # in its three seeds, with a payoff of # to #",
            lambda: (
                sorted(seeds(*KUHN, "worst-case", "worst_case"))
                + extremes(seeds(*KUHN, "worst-case", "payoff"))
            ),
        ),
        (
            "after four times the steps against the pool the worst case is # to #, and pico's # to #",
            lambda: [
                *late_in_kuhn("credited", "worst_case"),
                *extremes(late("credited", "worst_case", "kuhn")),
            ],
        ),
        (
            "the equilibrium `nash` earns #",
            lambda: [where(table("reference"), agent="nash")["payoff"].item()],
        ),
        (
            "one loses at least # a round to its worst adversary (guaranteed Safety at most #) with a pool exploit of "
            "# like the others, and none that was trained against fitted ones more than #",
            lambda: [
                max(seeds(*IPD, "sepo", "worst_case")),
                min(seeds(*IPD, "sepo", "guaranteed")),
                max(seeds(*IPD, "sepo", "exploit")),
                max(seeds(*IPD, "worst-case", "worst_case")),
            ],
        ),
        (
            "in negotiation v2 it falls from # to #",
            lambda: [mean(*V2, stage, "worst_case") for stage in ("sepo", "worst-case")],
        ),
        (
            "a table that is trained in # episodes for nothing but to gain on one agent",
            lambda: table("learned-worst-case")["episodes"].unique(),
        ),
        (
            "less pool SEPO # (# to #) in the auction, # (# to #) in negotiation v1 and # (# to #) in negotiation v2",
            lambda: learned("auction") + learned("negotiation_v1") + learned("negotiation_v2"),
        ),
        (
            "where a stranger of Axelrod's library gains # in ten episodes and on the "
            "other SEPO agents, pool and worst-case, # at most",
            strangers,
        ),
        ("pico's worst case is #, # and # chips a hand after the warm start", lambda: leduc("sft")),
        ("#, # and # after 60 steps of SEPO against the pool,", lambda: leduc("sepo")),
        (
            "and #, # and # after 1,600 larger steps of SEPO against the last four best",
            lambda: leduc("worst-case"),
        ),
        ("CFR, a table, is at #, its sampling variant at # to #", lambda: [cfr(), *sampled_cfr()]),
        ("and a table trained against the same best responses at # to #", lambda: extremes(table_in_leduc())),
        ("ends nowhere more than # below its own highest Safety (outside", lambda: [late_fall()]),
        (
            "only in the auction, where it has a Safety of # to # after 100 and # to # after 400",
            lambda: [*late_at(100, "credited", "auction"), *extremes(late("credited", "safety", "auction"))],
        ),
        (
            "in the dilemma # to # and then # to #, in negotiation v1 # to # and then # to # (",
            lambda: [
                number
                for game in ("ipd", "negotiation_v1")
                for number in (*late_at(100, "grouped", game), *extremes(late("grouped", "safety", game)))
            ],
        ),
        (
            "`credited` has a Safety of # to #, with a worst case of # to #, `grouped` one of # to #, with # to #, and "
            "against best responses the worst case is still on its way down, at # to #",
            lambda: [
                *late_in_kuhn("credited", "safety"),
                *late_in_kuhn("credited", "worst_case"),
                *late_in_kuhn("grouped", "safety"),
                *late_in_kuhn("grouped", "worst_case"),
                *late_in_kuhn("worst-case", "worst_case"),
            ],
        ),
        (
            "`credited` ends at tit-for-tat's Safety, #, with a worst case of #; `grouped`, and `credited` with best "
            "responses beside the pool, end at defecting always, at a Safety of # and #: nobody gains anything on "
            "them, and guaranteed Safety is # in the place of # (",
            lambda: [
                *(late("credited", metric, "ipd", SMOLLM2)[0] for metric in ("safety", "worst_case")),
                *(late(rival, "safety", "ipd", SMOLLM2)[0] for rival in ("grouped", "pool and worst-case")),
                *(
                    late(rival, "guaranteed", "ipd", SMOLLM2)[0]
                    for rival in ("pool and worst-case", "credited")
                ),
            ],
        ),
        (
            "ends at a Safety of # to # where `credited` has # to #",
            lambda: (
                extremes(late("grouped", "safety", "negotiation_v1"))
                + extremes(late("credited", "safety", "negotiation_v1"))
            ),
        ),
        (
            "gains # to # a round on `grouped`, and # to # on `credited`",
            lambda: (
                extremes(late("grouped", "worst_case", "negotiation_v1"))
                + extremes(late("credited", "worst_case", "negotiation_v1"))
            ),
        ),
        (
            "in Kuhn poker with a worst case of #, # and #",
            lambda: late("credited", "worst_case", "kuhn"),
        ),
        (
            "goes from at most # chips a hand to # to # in a formal wording and # to # in four others, where its base "
            "model has # to #",
            lambda: [
                wordings("worst-case", "own")[1],
                *wordings("worst-case", "formal"),
                *wordings("worst-case", "plain", "story", "terse", "renamed"),
                *wordings("base", "plain", "story", "terse", "renamed"),
            ],
        ),
        ("`make install` from nothing | # s", lambda: [command("install")]),
        (
            "`make test`, after the install | # min, # tests",
            lambda: [command("test") / 60, command("test", "tests")],
        ),
        ("`make reproduce`, after the install | # min", lambda: [command("reproduce") / 60]),
        (
            "pico # s in Kuhn poker, # to # s in negotiation v1, the prisoner's dilemma and the auction, # s in "
            "negotiation v2",
            lambda: [
                step("pico", "kuhn"),
                *extremes([step("pico", game) for game in ("negotiation_v1", "ipd", "auction")]),
                step("pico", "negotiation_v2"),
            ],
        ),
        (
            "Kuhn poker # s and # GB, the prisoner's dilemma # s and # GB",
            lambda: [
                number
                for game in ("kuhn", "ipd")
                for number in (step(SMOLLM2, game), step(SMOLLM2, game, "peak_mib") * 2**20 / 1e9)
            ],
        ),
        ("in lockstep against one at a time | # times (`direct`), # times", lambda: lockstep("kuhn")),
        ("the same in the prisoner's dilemma | # times and # times", lambda: lockstep("ipd")),
        (
            "beside OpenSpiel's NashConv | # ms; # ms in its Python, # ms in its C++",
            lambda: [
                question("kuhn", "worst_case", "again_ms", peer="OpenSpiel 2.0.2, Python"),
                *(
                    question("kuhn", "worst_case", "peer_ms", peer=f"OpenSpiel 2.0.2, {p}")
                    for p in ("Python", "C++")
                ),
            ],
        ),
        (
            "exactly, of a table with # rows | terms # ms, worst case # ms, once its trees are built (# to # s)",
            lambda: [
                21_845,  # one row for each history of fewer than eight rounds: sum of 4^t
                *(question("ipd", q, "again_ms", policy="21,845 rows") for q in ("terms", "worst_case")),
                *(
                    question("ipd", q, "first_ms", policy="21,845 rows") / 1000
                    for q in ("terms", "worst_case")
                ),
            ],
        ),
        (
            "in the penalty lab, # stored decisions | # ms, slowest # ms",
            lambda: [
                benchmark("lab")["decisions"].iloc[0],
                *(
                    where(benchmark("lab"), what=f"slider move, {w}")["ms"].item()
                    for w in ("median", "slowest")
                ),
            ],
        ),
        ("the corpus of the paper's games, # records", lambda: [corpus()]),
        (
            "Of the base model's replies # % cannot be read, after 320 demonstrations # %.",
            lambda: [100 * reasoned(stage, "fallback") for stage in ("base", "sft")],
        ),
        ("| base model | # | # | # | # |", in_words("base")),
        ("| SFT | # | # | # | # |", in_words("sft")),
        ("| SEPO | # | # | # | # |", in_words("sepo")),
        ("| worst-case SEPO | # | # | # | # |", in_words("worst-case")),
        ("(# to # different ones a step)", prompts_of_the_dilemma),
        ("and defects in # of # replies, in # before", says_and_does_otherwise),
        ("| base model, untrained | # | # | # | # | # | # |", dilemma_in_words("base")),
        ("| SFT, as demonstrated | # | # | # | # | # | # |", dilemma_in_words("sft")),
        ("| SEPO, 20 steps | # | # | # | # | # | # |", dilemma_in_words("sepo")),
        (
            "#, # and # become #, # and #, the mean by # (# to # over three seeds)",
            lambda: [
                *(v for stage in ("sft", "sepo") for v in seeds("reasoned", SMOLLM2, "ipd", stage, "safety")),
                *changed_by_sepo("ipd"),
            ],
        ),
        (
            "fall from #, # and # % to #, # and # %, those that are false of it rise to # % in the third seed, "
            "where they were # %",
            lambda: [
                *(share for stage in ("SFT", "SEPO") for share in reasons(stage, game="ipd")),
                *(reasons(stage, "false here", "ipd")[2] for stage in ("SEPO", "SFT")),
            ],
        ),
        *(
            (f"| {game} | {title} | # | # | {mark}# | # | # | # | # | # |", of_smollm2(game, stage))
            for game, stage, title, mark in rows_of_smollm2()
        ),
        (
            "warm starts (Safety #, # and #), which bid all three ways, but less than there was to win: the strategy "
            "`shaded`, which bids by the value, has #, `fictitious-play` #",
            lambda: [
                *seeds("smollm2", SMOLLM2, "auction", "sft", "safety"),
                *(reference("auction", agent, "safety") for agent in ("shaded", "fictitious-play")),
            ],
        ),
        (
            "the strategy `fair` (payoff #, Safety #), on which nobody who was tried gains more than # a round",
            lambda: [
                *(reference("negotiation_v1", "fair", metric) for metric in ("payoff", "safety")),
                max(
                    v
                    for stage in ("sepo", "worst-case")
                    for v in seeds("smollm2", SMOLLM2, "negotiation_v1", stage, "worst_case")
                ),
            ],
        ),
        (
            "the reference policy has a Safety of #. But it lets its worst adversary gain # a round.",
            lambda: [
                reference("negotiation_v1", "reference policy", metric) for metric in ("safety", "worst_case")
            ],
        ),
        (
            "Safety falls from # to #, # and #, and SEPO takes it to #, # and #. The first two seeds",
            lambda: [v for stage in ("base", "sft", "sepo") for v in seeds(*ITEMS, stage, "safety")],
        ),
        (
            "than any of the game's strategies (`fair`: #)",
            lambda: [
                max(
                    where(table("reference"), game="negotiation_v2", kind="strategy", pools="this kit")[
                        "safety"
                    ]
                )
            ],
        ),
        (
            "but the adversaries found gain #, # and # a round. The agents that met best responses had a quarter of "
            "the rollouts and are not done: Safety is #, # and #",
            lambda: seeds(*ITEMS, "sepo", "worst_case") + seeds(*ITEMS, "worst-case", "safety"),
        ),
        (
            "On two of them a search of # episodes found nobody that gains anything (# and #), on the third #.",
            lambda: [
                SMOLLM2_EVALUATION_OF["negotiation_v2"].search_episodes,
                *seeds(*ITEMS, "worst-case", "worst_case"),
            ],
        ),
        (
            "(Safety #, # and # become #, # and #)",
            lambda: seeds(*DILEMMA, "sft", "safety") + seeds(*DILEMMA, "sepo", "safety"),
        ),
        (
            "with a pool exploit of #, # and # the worst adversaries found gain #, # and # a round",
            lambda: seeds(*DILEMMA, "sepo", "exploit") + seeds(*DILEMMA, "sepo", "worst_case"),
        ),
        (
            "On the agents that met best responses they gain #, # and #",
            lambda: seeds(*DILEMMA, "worst-case", "worst_case"),
        ),
        (
            "guaranteed Safety is at most #, # and # where it was at most #, # and #",
            lambda: [
                *seeds(*DILEMMA, "worst-case", "guaranteed"),
                *seeds(*DILEMMA, "sepo", "guaranteed"),
            ],
        ),
        ("and Safety no different (by #, # to #)", partial(changed, "smollm2", "ipd", "worst-case", "sepo")),
        ("SEPO adds # to Safety (# to #): two seeds rise by # and #", lambda: [*changed_by_sepo(), *risen()]),
        (
            "ends at #, below the warm start in three seeds of three and below SEPO against the pool in two of them "
            "(in the other # beside #), and does not come near the # of the agent",
            lambda: [
                reasoned("worst-case", "worst_case"),
                *(
                    max(
                        zip(
                            seeds("reasoned", SMOLLM2, "kuhn", "worst-case", "worst_case"),
                            seeds("reasoned", SMOLLM2, "kuhn", "sepo", "worst_case"),
                            strict=True,
                        ),
                        key=lambda pair: pair[0] - pair[1],
                    )
                ),
                mean(*KUHN, "worst-case", "worst_case"),
            ],
        ),
        (
            "by those the Safety of the same agents is # after SFT and # after SEPO",
            lambda: [played_in_words("sft"), played_in_words("sepo")],
        ),
        (
            "without a warm start nothing is learned (Safety #)",
            lambda: [ablation("no warm start", "safety")],
        ),
        (
            "bring the worst case from # to # and #; no setting",
            lambda: [
                ablation(rival, "worst_case")
                for rival in ("as trained", "independent draws", "four times the groups")
            ],
        ),
        ("drawn in a step only # to # differ", different_replies),
        ("In the three seeds of SFT #, # and # % of the replies give a reason", lambda: reasons("SFT")),
        (
            "after SEPO #, # and # %, and at most # % one that speaks for another",
            lambda: [*reasons("SEPO"), max(reasons("SEPO", "true, for another action"))],
        ),
        (
            "# times as fast, in # of the memory; with eight times the matches on # replies # times |",
            step_in_words,
        ),
        (
            "payoffs only | # to # times the matches/s of Axelrod's library, # times OpenSpiel's",
            lambda: (
                extremes(where(benchmark("simulation"), how="simulated", peer="Axelrod")["ratio"].tolist())
                + where(benchmark("simulation"), how="simulated", peer="OpenSpiel")["ratio"].tolist()
            ),
        ),
        (
            "every decision recorded | # to # times Axelrod's library, # of OpenSpiel's",
            lambda: (
                extremes(where(benchmark("simulation"), how="recorded", peer="Axelrod")["ratio"].tolist())
                + where(benchmark("simulation"), how="recorded", peer="OpenSpiel")["ratio"].tolist()
            ),
        ),
    ],
    "docs/reproduction.md": [
        (
            "its worst adversary gains # chips a hand on it",
            lambda: [exact.worst_case("kuhn", StrategyPolicy(printed_nash())).advantage],
        ),
    ],
    "docs/runs.md": [
        (
            "of # trainings and batches killed # times, at operations on their files that were chosen in "
            "advance, # came to the same bytes",
            killed,
        ),
        ("read them read them: # damaged files, # stack traces", damaged),
    ],
    "docs/method.md": [
        (
            "is # with common and # with independent draws in the prisoner's dilemma, and # against # in Kuhn poker",
            lambda: [noise(game, common) for game in ("ipd", "kuhn") for common in (True, False)],
        ),
        ("| the pool | #, # | # | #, # | # | # |", rival("pool")),
        ("| best response, step falling to 0 | #, # | # | #, # | # | # |", rival("worst-case")),
        ("| best response, constant step | #, # | # | #, # | # | # |", rival("constant step")),
        ("| the last four best responses | #, # | # | #, # | # | # |", rival("population")),
        ("| best response, reference renewed | #, # | # | #, # | # | # |", rival("renewal")),
        ("| the pool and the best response | #, # | # | #, # | # | # |", rival("pool and worst-case")),
        ("| the pool, `alignment` | #, # | # | #, # | # | # |", rival("alignment")),
        ("| itself, reference renewed | #, # | # | #, # | # | # |", rival("self-play renewal")),
        (
            "goes from # to # against the best response and to # against the last four of them; against the pool it "
            "ends at #",
            lambda: [
                tables_start_in_leduc(),
                *map(tables_end_in_leduc, ("worst-case", "population", "pool")),
            ],
        ),
        ("pico begins at #, # and # and goes down", lambda: leduc("sft")),
        ("to #, # and # in 1,600 steps", lambda: leduc("worst-case")),
        ("from the same start, ends at #, # and #", lambda: leduc("sepo")),
        *(
            (f"| {groups} | {words} | # | # | # |", partial(reused, groups, most))
            for groups, words, most in (
                (1, "its own for every decision", None),
                (4, "its own for every decision", None),
                (1, "8", 8),
                (4, "8", 8),
                (16, "8", 8),
            )
        ),
        ("A table, which is told all, gets to #, # and # against the same best responses", table_in_leduc),
        (
            "differs by up to #, # and # before the public card",
            jack_from_queen,
        ),
    ],
}

# --- what is no result ----------------------------------------------------------------------------

EVERYWHERE = (
    r"arXiv:? \d{4}\.\d{5}",
    r"\[arXiv \d{4}\.\d{5}\]",
    r"\b(?:19|20)\d\d\b",  # years of books and papers
    r"\b(?:Python|Apache|BY|SLURM|TRL) \d+(?:\.\d+)*(?:,? (?:or|and) \d+\.\d+)?",  # versions, licences
)
# Pages without results: only rules of their example game, limits of what is accepted, codes of HTTP, settings.
NO_RESULTS = {
    "docs/audit.md", "docs/cluster.md", "docs/endpoints.md", "docs/export.md", "docs/game_file.md",
    "docs/several_processes.md", "docs/tour.md", "docs/your_game.md", "docs/howto/evaluate.md", "docs/howto/limits.md",
    "docs/howto/model.md", "docs/interop/pettingzoo.md", "docs/interop/verifiers.md",
}  # fmt: skip
CONSTANTS: dict[str, list[str]] = {
    "README.md": [
        r"(?:100|20) episodes per opponent",  # settings
        r"160 demonstrations, then 40 steps of SEPO against the pool, or 60 against",  # settings
        r"for 200 replies in each of the 12 information states|20 steps of two groups|SEPO, 20 steps",  # settings
        r"SmolLM2 200 steps beside 45, pico 400 beside 100|after 60 steps of SEPO|after 1,600 larger steps",  # settings
        r"at most 96 replies|seen every 100 steps",  # settings: 8 in each of 12 information states
        r"on one 48 GB GPU|one 48 GB GPU and access|n = 8|n = 4",
        r"`reasoned`, 24 tokens|a step of 18-token replies",
        r"24 GB, Python 3\.11",  # the machine
        r"140 to 660 s on an A40",  # the logs that the paper's authors released
        r"\| 2\.4 s",
    ],
    "docs/method.md": [
        r"\bsection 13\b",
        r"exploit at most 0\.05 per hand|\"worst_case\": 0\.05",  # an example of a limit
        r"where 400 steps of it do not",  # settings
        r"λe = 1\.5|On tables, 400 steps|in 1,600 steps|2,000 demonstrations|5,500 demonstrations",
        r"pool SEPO, 60 steps|0\.1 in place of 0\.3",  # settings
        r"cosine to the gradient 0\.99",  # derived: the second term vanishes
        r"400 updates each; a share is known to about 0\.02",
    ],
    "docs/api/command_line.md": [r"status 130"],
    "docs/reproduction.md": [
        r"forgives with 0\.25",  # the released code of the paper
        r"above 100 %",
    ],
}  # fmt: skip
