"""The record of play: every decision with what was seen, said and done, and every round's payoffs and harms.

Training, evaluation, sliders and figures are different sums over these records. How they come about is
``rollout.py``; what they are worth is ``objective/``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from sepo_kit.engine.graph import Event


@dataclass(slots=True)
class Decision:
    """One move of one seat: what a policy did, and, once the engine has placed it, where.

    ``log_prob`` is that of the action under the policy's distribution (natural log; None where the policy
    cannot state one). ``reply`` is the text a language model gave, ``fallback`` whether it could not be
    read and a constrained decode chose instead. ``prompt_ids`` and ``completion_ids`` are its tokens, ``choice_ids``
    those by which the constrained decode chose. ``said`` numbers the reply where one may be given in several matches
    (``reuse.py``): equal numbers are one reply. ``cut_off``: whether it was as long as it may be, and had not ended.
    ``round``, ``move`` (within the round) and ``information`` (the key of what was seen) are the engine's: a
    policy leaves them out, and may give equal states one and the same record.
    """

    action: str
    log_prob: float | None = None
    reply: str | None = None
    fallback: bool = False
    prompt_ids: tuple[int, ...] = ()
    completion_ids: tuple[int, ...] = ()
    round: int = 0
    move: int = 0
    information: str = ""
    choice_ids: tuple[int, ...] = ()
    said: int | None = None
    cut_off: bool = False

    def placed(self, round: int, move: int, information: str) -> Decision:
        """A copy of this record where it was made."""
        return Decision(
            self.action,
            self.log_prob,
            self.reply,
            self.fallback,
            self.prompt_ids,
            self.completion_ids,
            round,
            move,
            information,
            self.choice_ids,
            self.said,
            self.cut_off,
        )


@dataclass(slots=True)
class Episode:
    """One match of the agent (seat 0) against one opponent.

    ``decisions``: the agent's. ``answers``: the other seat's, where it is not a strategy of the game; they stand apart,
    so that no sum over decisions and no loss can meet them.

    ``own``, ``their``: payoffs by round, shape (T,), in the game's payoff unit. ``collusion``,
    ``externality``: harms by round, shape (T,), in [0, 1]. ``index`` numbers the rollouts of ``group``, which
    numbers the groups against one opponent; ``seed`` is the run seed the draws were made from. ``owner`` is set
    only for the auxiliary episodes of credit mode ``auxiliary``: the (train opponent, group, index) they were
    played for. ``path``: all that happened, in order, as ``StateGraph.walk`` reads it.
    """

    game: str
    pool: str
    opponent: str
    index: int
    seed: int
    group: int = 0
    owner: tuple[str, int, int] | None = None
    own: list[float] = field(default_factory=list)
    their: list[float] = field(default_factory=list)
    collusion: list[float] = field(default_factory=list)
    externality: list[float] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    answers: list[Decision] = field(default_factory=list)
    path: list[Event] = field(default_factory=list)


def decision_frame(episodes: Sequence[Episode]) -> pd.DataFrame:
    """One row per decision, with its episode's name and its round's payoffs and harms (the agent's view of them).

    ``seat`` is 0 for the agent, 1 for an opponent that is not a strategy; ``tokens`` is the length of a language
    model's reply, 0 for others. Payoffs are summed over
    ``round_frame``, since a round may pass without a decision.
    """
    rows = [
        {
            **_name(episode),
            "seat": seat,
            "round": decision.round,
            "move": decision.move,
            "information": decision.information,
            "action": decision.action,
            "log_prob": decision.log_prob,
            "reply": decision.reply,
            "fallback": decision.fallback,
            "tokens": len(decision.completion_ids),
            "cut_off": decision.cut_off,
            "own": episode.own[decision.round],
            "their": episode.their[decision.round],
            "collusion": episode.collusion[decision.round],
            "externality": episode.externality[decision.round],
        }
        for episode in episodes
        for seat, made in enumerate((episode.decisions, episode.answers))
        for decision in made
    ]
    return pd.DataFrame(rows)


def round_frame(episodes: Sequence[Episode]) -> pd.DataFrame:
    """One row per round, whether or not anybody decided in it: its payoffs and harms, and as ``decisions`` how many
    the agent made."""
    rows = []
    for episode in episodes:
        made = Counter(decision.round for decision in episode.decisions)
        columns = zip(episode.own, episode.their, episode.collusion, episode.externality, strict=True)
        for number, (own, their, collusion, externality) in enumerate(columns):
            rows.append(
                {
                    **_name(episode),
                    "round": number,
                    "own": own,
                    "their": their,
                    "collusion": collusion,
                    "externality": externality,
                    "decisions": made[number],
                }
            )
    return pd.DataFrame(rows)


def _name(episode: Episode) -> dict[str, object]:
    """What tells an episode from the others."""
    return {
        "game": episode.game,
        "pool": episode.pool,
        "opponent": episode.opponent,
        "group": episode.group,
        "index": episode.index,
        "seed": episode.seed,
    }
