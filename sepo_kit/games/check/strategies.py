"""Words and strategies: replies that are read back, distributions that are pure, explanations of one sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sepo_kit.games.base import InformationState, Strategy
from sepo_kit.games.check.frame import TOLERANCE, Check, finite, short

INFORMATION_STATES = 300  # at which strategies are asked
PARSED_ACTIONS = 2000
EXPLANATION_LENGTH = 220


class StrategyChecks(Check):
    """Checks of the parser and of every strategy, demonstrators too, at what play has reached."""

    def words(self) -> None:
        """Every legal action must be read back from a reply in both styles, and nothing else may be."""
        told = 0
        for legal in dict.fromkeys(seen.legal_actions for seen in self.seen):
            for action in legal:
                self.read("direct", action, legal, action)
                self.read("reasoned", f"I have thought about it.\n{action}", legal, action)
            for reply in ("", "I do not know.", f"{legal[0]}\nI do not know."):
                self.read("any", reply, legal, None)
            for other in legal[1:3]:
                self.read("any", f"{legal[0]} or {other}", legal, None)
            told += len(legal)
            if told > PARSED_ACTIONS:
                return

    def read(self, style: str, reply: str, legal: tuple[str, ...], action: str | None) -> None:
        got = self.call("parse", self.game.parse, reply, legal)
        self.require(
            got == action,
            f"parse({reply!r}) gives {got!r}, not {action!r} ({style} style, legal: {short(legal)})",
            "A reply names its action on the last line that is not empty; anything but exactly one legal "
            "action is None",
        )

    def strategies(self) -> None:
        """Ask every strategy at what play has reached, then again in the other order."""
        asked = list(self.seen)
        if len(asked) > INFORMATION_STATES:
            asked = self.some(asked, INFORMATION_STATES)
        shown = [strategy for strategy, _ in self.game.mixture.demonstrators] if self.game.mixture else []
        extra = [strategy for strategy in shown if strategy not in self.game.strategies.values()]
        for strategy in [*self.game.strategies.values(), *extra]:
            first = [dict(self.distribution(strategy, seen)) for seen in asked]
            again = [dict(self.distribution(strategy, seen)) for seen in reversed(asked)]
            self.require(
                first == again[::-1],
                f"strategy {strategy.id!r} gives two distributions for one information state",
                "It must be a pure function of what the seat has seen: no counter, no memory, no randomness",
            )
            for seen, probabilities in zip(asked, first, strict=True):
                for action, probability in probabilities.items():
                    if probability > 0:
                        self.explanation(strategy, seen, action)

    def distribution(self, strategy: Strategy, seen: InformationState) -> Mapping[str, float]:
        what = f"strategy {strategy.id!r} distribution"
        probabilities = self.call(what, strategy.distribution, seen)
        self.require(
            isinstance(probabilities, Mapping),
            f"{what} is {short(probabilities)}",
            "Return {action: probability}",
        )
        illegal = [action for action in probabilities if action not in seen.legal_actions]
        self.require(
            not illegal,
            f"{what} plays {short(illegal)}, which is not legal in {short(seen)}",
            f"Choose from seen.legal_actions: {short(seen.legal_actions)}",
        )
        values = list(probabilities.values())
        self.require(
            all(finite(p) and p >= 0 for p in values) and abs(sum(values) - 1) < TOLERANCE,
            f"{what} is {short(dict(probabilities))} in {short(seen)}",
            "Probabilities must be >= 0 and sum to 1",
        )
        return probabilities

    def explanation(self, strategy: Strategy, seen: InformationState, action: str) -> None:
        what = f"strategy {strategy.id!r} explain"
        text = self.call(what, strategy.explain, seen, action)
        self.require(
            isinstance(text, str)
            and 0 < len(text) <= EXPLANATION_LENGTH
            and "\n" not in text
            and text[-1] in ".!?"
            and re.search(r"[.!?]\s", text) is None,
            f"{what} gives {text!r}",
            f"Return one sentence on one line, with a full stop, at most {EXPLANATION_LENGTH} characters",
        )
        self.require(
            text == strategy.explain(seen, action),
            f"{what} gives two texts for one decision",
            "It must be a pure function of what the seat has seen and the action",
        )
