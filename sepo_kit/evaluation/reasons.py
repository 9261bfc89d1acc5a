"""What a reasoned reply says beside what it does: whether its reason is true here and speaks for its action.

The corpus of the warm start pairs every action with the reason that its demonstrator has for it, and a model that was
trained on it goes on to give such reasons. One is true of a situation if some strategy of the game would give it there,
and speaks for the actions that such a strategy would take. Training the action alone leaves the reason behind: an agent
may act well and say something else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from sepo_kit.engine.confidence import quantile
from sepo_kit.engine.tables import EPISODE
from sepo_kit.games.base import Game, InformationState
from sepo_kit.training.demonstrations import demonstrations

READINGS = (
    "true, for its action",  # some strategy says so here, and does what the reply does
    "true, for another action",  # some strategy says so here, and does something else
    "false here",  # the corpus says so in other situations only
    "of its own",  # no sentence of the corpus
    "none",  # nothing but the action
)
KNOWN = 2_000  # records of the corpus whose sentences are known


def reason_of(reply: str) -> str:
    """What a reply says before its last line.

    >>> reason_of("My King cannot lose, so I call.\\nCALL")
    'My King cannot lose, so I call.'
    """
    *said, _ = [" ".join(line.split()) for line in reply.splitlines() if line.strip()] or [""]
    return " ".join(said)


@lru_cache(maxsize=4096)  # agents meet the same situations again and again
def reasons_at(game: Game, seen: InformationState) -> dict[str, frozenset[str]]:
    """The reasons that strategies of ``game`` have in the situation ``seen``, and the actions each is given for."""
    shown = game.mixture.demonstrators if game.mixture is not None else ()
    found: dict[str, set[str]] = {}
    for strategy in [*(strategy for strategy, _ in shown), *game.strategies.values()]:
        for action, probability in strategy.distribution(seen).items():
            if probability > 0:
                found.setdefault(strategy.explain(seen, action), set()).add(action)
    return {reason: frozenset(actions) for reason, actions in found.items()}


def read_reason(game: Game, seen: InformationState, reply: str, action: str) -> str:
    """Which of ``READINGS`` a reply is, given in the situation ``seen``, with ``action`` for what was played."""
    reason = reason_of(reply)
    if not reason:
        return "none"
    here = reasons_at(game, seen)
    if reason in here:
        return "true, for its action" if action in here[reason] else "true, for another action"
    return "false here" if reason in _corpus(game) else "of its own"


def named_in(reply: str, legal_actions: Sequence[str], action: str) -> str:
    """Whether the reason of ``reply`` names ``action``, only "another" of the legal ones, or "none".

    >>> named_in("My Queen beats a bluff, so I call.\\nCALL", ("FOLD", "CALL"), "CALL")
    'its action'
    """
    reason = reason_of(reply)
    named = [a for a in legal_actions if re.search(rf"\b{re.escape(a)}\b", reason, re.IGNORECASE)]
    return "its action" if action in named else ("another" if named else "none")


@lru_cache(maxsize=8)
def _corpus(game: Game) -> frozenset[str]:
    return frozenset(demonstrations(game, KNOWN)["reason"]) if game.mixture is not None else frozenset()


def shares(found: pd.DataFrame) -> pd.DataFrame:
    """Of ``archive.reasons_in``: how often each reading occurs, with its 95 % interval over episodes, by Student's t.

    Returns
    -------
    DataFrame
        reading, share, low, high, replies: one row for each of ``READINGS``; empty where there are no replies.
    """
    if found.empty:
        return pd.DataFrame(columns=["reading", "share", "low", "high", "replies"])
    episodes = [found[column] for column in EPISODE]
    size = found.groupby(episodes, sort=False).size()
    free = len(size) - 1  # one episode says nothing of others
    reach = quantile(free) * math.sqrt(len(size) / free) if free else math.nan
    rows = []
    for reading in READINGS:
        count = (found["reading"] == reading).groupby(episodes, sort=False).sum()
        share = count.sum() / size.sum()
        # A ratio of sums over episodes: its error by linearisation.
        half = reach * math.sqrt(((count - share * size) ** 2).sum()) / size.sum()
        low, high = np.clip([share - half, share + half], 0.0, 1.0)
        rows.append((reading, share, low, high, len(found)))
    return pd.DataFrame(rows, columns=["reading", "share", "low", "high", "replies"])
