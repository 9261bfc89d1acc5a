"""``{published} METRIC GAME ...``: what arXiv 2605.30854 prints of a metric beside what ``data/results`` holds today.

Both are read from their files when the site is built, so the page follows the results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sepo_kit.evaluation.paper import published
from sepo_kit.evaluation.results import STAGE_NAMES

RESULTS = Path(__file__).parents[2] / "data" / "results"
PROFILES = ("quick", "worst-case", "smollm2", "paper")  # those whose tables are published, later ones count


class Published(SphinxDirective):
    required_arguments = 2
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        metric, games = self.arguments[0], self.arguments[1].split()
        for file in result_files():
            self.env.note_dependency(str(file))
        return self.parse_text_to_nodes("\n".join(lines(metric, games)))


def lines(metric: str, games: Sequence[str]) -> Iterator[str]:
    """The table as Markdown; '-' where nothing is reported."""
    yield f"| whose | game | model | {' | '.join(STAGE_NAMES.values())} |"
    yield "|---|---|---|" + "---:|" * len(STAGE_NAMES)
    for whose, frame in (("published", theirs(metric)), ("ours", ours(metric))):
        for (game, model), row in frame.iterrows():
            if game in games and row.notna().any():
                cells = (
                    "-" if pd.isna(row.get(stage)) else f"{row[stage] + 0.0:.3f}" for stage in STAGE_NAMES
                )
                yield f"| {whose} | {game} | {model} | {' | '.join(cells)} |"


def theirs(metric: str) -> pd.DataFrame:
    """P1's numbers, a stage a column; of several checkpoints the one with the best Safety, as the paper reports it."""
    table = published("P1").sort_values("safety", ascending=False, kind="stable")
    if metric not in table:  # the worst case is nobody's but ours
        return pd.DataFrame()
    best = table.drop_duplicates(["game", "model", "condition"])
    return best.pivot(index=["game", "model"], columns="condition", values=metric)


def ours(metric: str) -> pd.DataFrame:
    """Means over seeds, a stage a column; where two profiles have a plan, the later one's."""
    tables = [pd.read_csv(file) for file in result_files()]
    table = pd.concat(
        [t[t["metric"] == metric] for t in tables], keys=range(len(tables)), names=["profile", None]
    )
    means = (
        table.groupby(["profile", "game", "model", "stage"])["value"].mean().groupby(level=[1, 2, 3]).last()
    )
    return means.unstack("stage")


def result_files() -> list[Path]:
    return [file for name in PROFILES if (file := RESULTS / f"{name}.csv").exists()]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("published", Published)
    return {"parallel_read_safe": True}
