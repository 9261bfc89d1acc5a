"""What the kit must know of a game beside its rules: labels, demonstrators, its size, where the study starts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sepo_kit.games.base import InformationState, Mixture, State, Strategy, StudyStart
from sepo_kit.games.check.frame import TOLERANCE, finite, short
from sepo_kit.games.check.states import StateChecks

FEW = 2000  # information states at which a language model can still be asked one by one
POSITIONS = 200_000  # of a tree that is enumerated
RECORDS = 100  # fewer demonstrations are too few to be split


class KitChecks(StateChecks):
    """Checks of ``Game.mixture``, ``Game.study_start`` and of what the spec says of the game's size."""

    def mixture(self) -> None:
        mixture = self.game.mixture
        if mixture is None:
            return
        self.require(
            isinstance(mixture, Mixture),
            f"mixture is {short(mixture)}",
            "Give a Mixture(...), or None where nobody demonstrates the game",
        )
        pairs = mixture.demonstrators
        self.require(
            bool(pairs)
            and all(len(pair) == 2 and isinstance(pair[0], Strategy) and finite(pair[1]) for pair in pairs)
            and all(weight > 0 for _, weight in pairs)
            and abs(sum(weight for _, weight in pairs) - 1) < 1e3 * TOLERANCE,
            f"mixture.demonstrators is {short(pairs)}",
            "Give pairs (Strategy, weight), weights > 0 that sum to 1",
        )
        ids = [strategy.id for strategy, _ in pairs]
        self.require(
            len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) for name in ids),
            f"mixture.demonstrators have the ids {', '.join(map(repr, ids))}",
            "Give each its own id: lower-case letters, digits, '-' and '.'",
        )
        self.require(
            isinstance(mixture.records, int) and mixture.records >= RECORDS,
            f"mixture.records is {mixture.records!r}",
            f"Give a whole number >= {RECORDS}: the decisions of the corpus",
        )
        self.opponents(mixture)

    def opponents(self, mixture: Mixture) -> None:
        ids, strategies = mixture.opponents, self.game.strategies
        unknown = [name for name in ids if name not in strategies]
        self.require(
            not unknown,
            f"mixture.opponents names {', '.join(map(repr, unknown))}, which is not in game.strategies",
            f"Known: {', '.join(strategies)}",
        )
        self.require(
            bool(ids) and len(set(ids)) == len(ids),
            f"mixture.opponents is {ids!r}",
            "Name at least one opponent, each once",
        )
        both = [name for name in ids if name in self.game.spec.pools.shift]
        self.require(
            not both,
            f"{', '.join(both)} stands in mixture.opponents and in pool 'shift'",
            "Keep shift strategies out of the demonstrations: they must be new to the agent",
        )

    # --- after play -------------------------------------------------------------------------------

    def sizes(self) -> None:
        """Whether the game is as small as the spec says."""
        if not self.game.spec.few_states:
            return
        self.require(
            len(self.seen) <= FEW,
            f"play reaches {len(self.seen)} information states",
            f"spec.few_states is for games of at most {FEW}; set it to False",
        )
        self.require(
            self.positions() <= POSITIONS,
            f"its tree has more than {POSITIONS} positions",
            "spec.few_states is for games that are evaluated exactly; set it to False, or leave out of the states what "
            "decides nothing later, so that positions which play on alike are equal",
        )

    def positions(self) -> int:
        """How many positions the game's tree has, those apart in which seat 1 did not do the same last, as far as they
        are counted."""
        spec, count, depth = self.game.spec, 0, 0
        trees = spec.rounds if spec.independent_rounds else 1
        layer: set[tuple[State, object]] = {(self.game.initial_state(), None)}
        while layer and count <= POSITIONS:
            count += trees * len(layer)
            below = set()
            for state, last in layer:
                theirs = state.information(1) if 1 in state.actors else None
                for kind, what in self.moves(state):
                    after = state.apply_chance(what) if kind == "nature" else state.apply(what)
                    if not after.is_terminal and not (after.outcome and spec.independent_rounds):
                        below.add((after, (depth, theirs, what[-1]) if theirs else last))
            layer, depth = below, depth + 1
        return count

    def rows(self) -> None:
        """Whether the attributes that name the rows of tables are texts, and fit one set of actions each."""
        self.row("label", "label")
        if self.game.spec.reference_row is not None:
            self.row("spec.reference_row", self.game.spec.reference_row)
        start = self.game.study_start
        if start is None:
            return
        self.require(
            isinstance(start, StudyStart) and isinstance(start.table, Mapping),
            f"study_start is {short(start)}",
            "Give a StudyStart(row, table), or None to start uniform",
        )
        for label, actions in self.row("study_start.row", start.row).items():
            self.start(start.table, label, actions)

    def row(self, what: str, attribute: str) -> dict[str, tuple[str, ...]]:
        """The rows that ``attribute`` names, each with its legal actions."""
        found: dict[str, InformationState] = {}
        for seen in self.seen:
            label = self.call(what, lambda s: getattr(s, attribute), seen)
            self.require(
                isinstance(label, str) and bool(label),
                f"{what} gives {label!r} in {short(seen)}",
                "It names a row of a table: return a short text, as key does",
            )
            other = found.setdefault(label, seen)
            self.require(
                other.legal_actions == seen.legal_actions,
                f"{what} gives {label!r} both to {short(other)} and to {short(seen)}, which have other legal actions",
                "One row holds one set of probabilities: put into it what tells the two apart",
            )
        return {label: seen.legal_actions for label, seen in found.items()}

    def start(self, table: Mapping[str, Sequence[float]], label: str, actions: tuple[str, ...]) -> None:
        row = table.get(label)
        self.require(
            row is not None
            and len(row) == len(actions)
            and all(finite(p) and p >= 0 for p in row)
            and abs(sum(row) - 1) < TOLERANCE,
            f"study_start.table has {short(row)} for {label!r}",
            f"Give probabilities of {short(actions)}, in this order",
        )
