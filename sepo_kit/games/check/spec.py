"""The spec, the pools and the rules as text: what must hold before a game is played."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sepo_kit.games.base import POOLS, REPLY_STYLES, GameSpec, Pools, Strategy, Weights
from sepo_kit.games.check.frame import NO_ACTION, Check, finite, is_hashable, short

SHIFT_STRATEGIES = 3


class SpecChecks(Check):
    """Checks of the game's spec, pools and system prompts."""

    def spec(self) -> None:
        spec = getattr(self.game, "spec", None)
        self.require(
            isinstance(spec, GameSpec), f"game.spec is {spec!r}", "Set it to a GameSpec at the class's top"
        )
        self.require(
            re.fullmatch(r"[a-z][a-z0-9_]*", str(spec.id)) is not None,
            f"spec.id is {spec.id!r}",
            "Use lower-case letters, digits and _ only, a letter first",
        )
        for field in ("rounds", "moves_per_round", "chance_per_round"):
            value = getattr(spec, field)
            self.require(
                isinstance(value, int) and value >= 1,
                f"spec.{field} is {value!r}",
                "Give a whole number >= 1",
            )
        self.require(
            finite(spec.reference_payoff) and spec.reference_payoff > 0,
            f"spec.reference_payoff is {spec.reference_payoff!r}",
            "Give the cooperative payoff per round, a finite number > 0: payoffs are divided by it",
        )
        low_high = spec.payoff_bounds
        self.require(
            len(low_high) == 2 and all(map(finite, low_high)) and low_high[0] < low_high[1],
            f"spec.payoff_bounds is {low_high!r}",
            "Give (lowest, highest) payoff of one seat in one round, two finite numbers",
        )
        for field in ("weights", "eval_weights"):
            value = getattr(spec, field)
            self.require(isinstance(value, Weights), f"spec.{field} is {value!r}", "Give a Weights(...)")
        for field in ("zero_sum", "independent_rounds", "few_states", "label_suffices"):
            value = getattr(spec, field)
            self.require(isinstance(value, bool), f"spec.{field} is {value!r}", "Give True or False")
        self.require(
            spec.reference_row is None or isinstance(spec.reference_row, str),
            f"spec.reference_row is {spec.reference_row!r}",
            'Give "label", "key" or another attribute of the information states, or None',
        )
        words = [str(action).upper() for action in spec.actions]
        self.require(
            bool(words) and len(set(words)) == len(words),
            f"spec.actions is {short(spec.actions)}",
            "List every action word of the game once; case does not tell two apart",
        )

    def pools(self) -> None:
        strategies, pools = self.game.strategies, self.game.spec.pools
        self.require(
            isinstance(strategies, Mapping) and all(isinstance(s, Strategy) for s in strategies.values()),
            f"game.strategies is {short(strategies)}",
            "Give a mapping from strategy id to Strategy",
        )
        for label, strategy in strategies.items():
            self.require(
                label == strategy.id and re.fullmatch(r"[a-z0-9][a-z0-9.-]*", label) is not None,
                f"strategy {strategy.id!r} stands under {label!r} in game.strategies",
                "List each under its own id: lower-case letters, digits, '-' and '.'",
            )
        self.require(isinstance(pools, Pools), f"spec.pools is {pools!r}", "Give a Pools(...)")
        for pool in POOLS:
            ids = pools[pool]
            unknown = [i for i in ids if i not in strategies]
            self.require(
                not unknown,
                f"pool {pool!r} names {', '.join(map(repr, unknown))}, which is not in game.strategies",
                f"Known: {', '.join(strategies)}",
            )
        self.roles(pools)

    def roles(self, pools: Pools) -> None:
        for pool in ("train", "exploit"):
            self.require(bool(pools[pool]), f"pool {pool!r} is empty", "Name at least one opponent")
        self.require(
            len(pools.shift) >= SHIFT_STRATEGIES,
            f"pool 'shift' has {len(pools.shift)} strategies",
            f"Name at least {SHIFT_STRATEGIES}: Robust is measured on them",
        )
        for pool in ("train", "exploit", "collusive"):
            both = sorted(set(pools.shift) & set(pools[pool]))
            self.require(
                not both,
                f"{', '.join(both)} stands in pools 'shift' and {pool!r}",
                "Keep shift strategies out of every other pool: they must be new to the agent",
            )
        both = sorted(set(pools.exploit) & set(pools.collusive))
        self.require(
            not both,
            f"{', '.join(both)} stands in pools 'exploit' and 'collusive'",
            "A strategy is either an adversary or a partner that invites collusion; choose one",
        )

    def hashes(self) -> None:
        """Results are kept by game and by strategy: both must be hashable."""
        mixture = self.game.mixture
        shown = [strategy for strategy, _ in mixture.demonstrators] if mixture else []
        named = [(f"strategy {s.id!r}", s) for s in (*self.game.strategies.values(), *shown)]
        for what, thing in [("the game", self.game), ("spec", self.game.spec), *named]:
            self.require(
                is_hashable(thing),
                f"{what} ({type(thing).__name__}) is not hashable",
                "Make its class a @dataclass(frozen=True) that holds tuples, strings and numbers, or a "
                "@dataclass(eq=False); a class with an __eq__ of its own needs a __hash__ too",
            )

    def system_prompts(self) -> None:
        texts = {style: self.call("system_prompt", self.game.system_prompt, style) for style in REPLY_STYLES}
        for style, text in texts.items():
            self.require(
                isinstance(text, str) and bool(text.strip()),
                f"system_prompt({style!r}) is {text!r}",
                "Return the rules as text",
            )
        self.require(
            len(set(texts.values())) == len(texts),
            f"system_prompt is the same for the styles {', '.join(texts)}",
            "End it with answer_rule(style)",
        )
        self.refuses(
            "system_prompt", self.game.system_prompt, NO_ACTION, mend="End it with answer_rule(style)"
        )
