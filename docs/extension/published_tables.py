"""Tables that are read from ``data/paper`` and ``data/results`` when the site is built: pages follow the results.

``{published} METRIC GAME ...``: what arXiv 2605.30854 prints of a metric beside ours. ``{claims}``: its claims, judged.
``{to-win}``: what there was to win, and how much was won. ``{pools} GAME``: ours beside the published opponents.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import pandas as pd
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sepo_kit.evaluation.claims import judge, share_won, to_read
from sepo_kit.evaluation.evidence import RESULTS, our_means, our_results, published_numbers, read_evidence
from sepo_kit.evaluation.paper import PAPER, published
from sepo_kit.evaluation.published_pools import against_both_nash, effect_of_pools
from sepo_kit.evaluation.results import STAGE_NAMES
from sepo_kit.evaluation.verdicts import markdown


class Table(SphinxDirective, ABC):
    """A table in Markdown; the page is built anew where a table of ours or the paper's has changed."""

    def run(self) -> list[nodes.Node]:
        for file in [*RESULTS.glob("*"), *PAPER.glob("*.csv")]:
            self.env.note_dependency(str(file))
        return [nodes.container("", *self.parse_text_to_nodes(self.text()), classes=["wide"])]

    @abstractmethod
    def text(self) -> str:
        """Its Markdown."""


class Published(Table):
    required_arguments = 2
    final_argument_whitespace = True

    def text(self) -> str:
        return "\n".join(lines(self.arguments[0], self.arguments[1].split()))


class Claims(Table):
    def text(self) -> str:
        return markdown(to_read(judge(read_evidence())))


class ToWin(Table):
    def text(self) -> str:
        return markdown(share_won(read_evidence()))


class Pools(Table):
    required_arguments = 1

    def text(self) -> str:
        (game,) = self.arguments
        if game == "kuhn":
            agents = against_both_nash(pd.read_parquet(RESULTS / "worst-case-policies.parquet"))
            return markdown(
                agents.groupby(["model", "stage"], sort=False).mean().drop(columns="seed").reset_index()
            )
        return markdown(effect_of_pools(pd.read_csv(RESULTS / "reference.csv"), game))


def lines(metric: str, games: Sequence[str]) -> Iterator[str]:
    """The table of ``{published}`` as Markdown; '-' where nothing is reported."""
    yield f"| whose | game | model | {' | '.join(STAGE_NAMES.values())} |"
    yield "|---|---|---|" + "---:|" * len(STAGE_NAMES)
    both = (
        ("published", published_numbers(published("P1"), metric)),
        ("ours", our_means(our_results(), metric)),
    )
    for whose, frame in both:
        for (game, model), row in frame.iterrows():
            if game in games and row.notna().any():
                cells = (
                    "-" if pd.isna(row.get(stage)) else f"{row[stage] + 0.0:.3f}" for stage in STAGE_NAMES
                )
                yield f"| {whose} | {game} | {model} | {' | '.join(cells)} |"


def setup(app: Sphinx) -> dict[str, bool]:
    for name, directive in (
        ("published", Published),
        ("claims", Claims),
        ("to-win", ToWin),
        ("pools", Pools),
    ):
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
