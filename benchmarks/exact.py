"""Exact questions: what they cost the first time, which builds the game's trees, and every time after that.

Kuhn poker's worst case side by side with OpenSpiel's NashConv, in Python and in C++, of the same table in the same run.
``limit_ms`` is what the kit promises of ``again_ms``; ``times_peer`` is ours over the peer's, below 1 where we
are faster.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from common import conclude, options, seconds

import sepo_kit as sk
from sepo_kit.exact import ascent, gradients, tree

MEMORY_ONE = ("start", "CC", "CD", "DC", "DD")


def forget() -> None:
    """Drop everything that is kept between questions."""
    for kept in (ascent._scripted, gradients._problem, tree._arena):
        kept.cache_clear()


def ask(game: str, question: str, policy: str, work: Callable[[], object], repeats: int, limit=None) -> dict:
    """One row: the first answer and the later ones, the quickest of several each, in milliseconds."""
    first = float("inf")
    for _ in range(min(repeats, 3)):
        forget()
        first = min(first, seconds(work, 1))
    again = seconds(work, repeats)
    return {
        "game": game,
        "question": question,
        "policy": policy,
        "first_ms": 1e3 * first,
        "again_ms": 1e3 * again,
        "limit_ms": limit,
    }


def nash_conv(table: dict[str, np.ndarray]) -> dict[str, Callable[[], float]]:
    """OpenSpiel's NashConv of ``table``, whose cards it calls 0, 1, 2: in Python and in C++."""
    import pyspiel
    from open_spiel.python import policy as policies
    from open_spiel.python.algorithms import exploitability

    game = pyspiel.load_game("kuhn_poker")
    renamed = {str("JQK".index(key[0])) + key[1:]: row for key, row in table.items()}
    cpp = pyspiel.TabularPolicy({key: list(enumerate(map(float, row))) for key, row in renamed.items()})
    python = policies.TabularPolicy(game)
    for key, row in renamed.items():
        python.policy_for_key(key)[:] = row
    version = metadata.version("open-spiel")
    return {
        f"OpenSpiel {version}, Python": lambda: exploitability.nash_conv(game, python),
        f"OpenSpiel {version}, C++": lambda: pyspiel.nash_conv(game, cpp),
    }


def main() -> None:
    smoke = options(__doc__).smoke
    few, many = (1, 1) if smoke else (7, 200)
    ipd, kuhn, rng = sk.get_game("ipd"), sk.get_game("kuhn"), np.random.default_rng(0)
    short = {label: rng.dirichlet([1, 1]) for label in MEMORY_ONE}
    full = {key: rng.dirichlet([1, 1]) for key in sk.exact.policy_table(ipd, sk.uniform(ipd))}
    hand = {key: rng.dirichlet([1, 1]) for key in sk.exact.policy_table(kuhn, sk.uniform(kuhn))}
    memory_one = sk.tabular(ipd, short, row="memory_one")
    every_history, card = sk.tabular(ipd, full), sk.tabular(kuhn, hand)
    steps = 10 if smoke else 300

    def climb(game: sk.Game, row: str) -> Callable[[], object]:
        return lambda: sk.exact.optimise(game, row=row, steps=steps)

    rows = [
        ask("ipd", "terms", "5 rows", lambda: sk.exact.terms(ipd, memory_one), few, 50),
        ask("ipd", "terms", "21,845 rows", lambda: sk.exact.terms(ipd, every_history), few),
        ask("ipd", "gradient", "5 rows", lambda: sk.exact.gradient(ipd, short, row="memory_one"), many),
        ask("ipd", "worst_case", "5 rows", lambda: sk.exact.worst_case(ipd, memory_one), few, 2000),
        ask("ipd", "worst_case", "21,845 rows", lambda: sk.exact.worst_case(ipd, every_history), few, 2000),
        ask("ipd", f"optimise, {steps} steps", "5 rows", climb(ipd, "memory_one"), few, 2000),
        ask("kuhn", "terms", "12 rows", lambda: sk.exact.terms(kuhn, card), many),
        ask("kuhn", "gradient", "12 rows", lambda: sk.exact.gradient(kuhn, hand), many),
        ask("kuhn", f"optimise, {steps} steps", "12 rows", climb(kuhn, "key"), few, 2000),
    ]
    ours = ask("kuhn", "worst_case", "12 rows", lambda: sk.exact.worst_case(kuhn, card), many)
    value = sk.exact.worst_case(kuhn, card).advantage
    for (peer, work), most in zip(nash_conv(hand).items(), (1.0, 3.0)):
        assert abs(work() - value) < 1e-9, f"{peer} says {work()}, we say {value}"
        peer_ms = 1e3 * seconds(work, many)
        ratio = ours["again_ms"] / peer_ms
        rows.append(
            {**ours, "limit_ms": most * peer_ms, "peer": peer, "peer_ms": peer_ms, "times_peer": ratio}
        )
    conclude("exact", rows, smoke)


if __name__ == "__main__":
    main()
