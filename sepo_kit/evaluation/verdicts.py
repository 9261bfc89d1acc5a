"""The words of a verdict: numbers with intervals, lists, and whether a claim holds for all, for some or for none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from sepo_kit.evaluation.statistics import Estimate

HELD, NOT_HELD, ONLY_FOR, UNTESTABLE = "held", "not held", "held only for", "not testable here"


def verdict(held: Sequence[str], tried: Sequence[str], how: str = "") -> str:
    """Held for all that were tried, for some, for none; not testable where there are none."""
    if not tried:
        return UNTESTABLE
    if not held:
        return NOT_HELD
    how = f" ({how})" if how else ""
    return f"{HELD}{how} for {listed(held)}" if set(held) == set(tried) else f"{ONLY_FOR} {listed(held)}{how}"


def markdown(table: pd.DataFrame) -> str:
    """A table of words and numbers as Markdown; lines of a cell stay apart."""

    def row(cells: Iterable[object]) -> str:
        return "| " + " | ".join(_cell(cell) for cell in cells) + " |"

    rule = "|" + "".join("---:|" if pd.api.types.is_numeric_dtype(table[c]) else "---|" for c in table)
    return "\n".join([row(table.columns), rule, *map(row, table.itertuples(index=False))])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if pd.isna(value) else number(value)
    return str(value).replace("|", "\\|").replace("\n", "<br>")


def number(value: float) -> str:
    """To three decimals, without a minus in front of a zero."""
    return f"{round(float(value), 3) + 0.0:.3f}"


def told(found: Estimate | None) -> str:
    """A mean with its interval over seeds; of one seed, that there is none.

    >>> from sepo_kit.evaluation.statistics import over_seeds
    >>> told(over_seeds([1.0, 2.0, 3.0])), told(over_seeds([0.5]))
    ('2.000 (-0.484 to 4.484)', '0.500 (one seed)')
    """
    if found is None:
        return "not known"
    if found.low is None or found.n < 2:
        return f"{number(found.value)} (one seed)"
    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def seeds(found: Sequence[Estimate]) -> str:
    """How many seeds stand behind some means, in words."""
    counts = sorted({one.n for one in found})
    if not counts:
        return "no seeds"
    return f"{' or '.join(map(str, counts))} seed{'' if counts == [1] else 's'}"


def listed(names: Iterable[str]) -> str:
    """Names with commas between, each once; "none"."""
    return ", ".join(dict.fromkeys(names)) or "none"


def by_model(found: Iterable[tuple[str, str]]) -> str:
    """Games by model: "pico: ipd, kuhn; ..."."""
    games: dict[str, list[str]] = {}
    for model, game in found:
        games.setdefault(model, []).append(game)
    return "; ".join(f"{model}: {listed(names)}" for model, names in games.items()) or "none"


def rises(found: Estimate | None) -> bool:
    """Whether a difference is above 0 with its whole interval; of one seed nothing is sure."""
    return found is not None and found.low is not None and found.n > 1 and found.low > 0


def falls(found: Estimate | None) -> bool:
    """Whether it is below 0 with its whole interval."""
    return found is not None and found.high is not None and found.n > 1 and found.high < 0
