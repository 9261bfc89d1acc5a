"""Who demonstrates in each game, how often, and against whom.

Weights and roles are those of the corpus of arXiv 2605.30854. Most demonstrators are strategies of the games; the
few below are not, because nobody plays against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sepo_kit.games import get_game, leduc
from sepo_kit.games.auction import HIGH, LOW, AuctionInformation
from sepo_kit.games.base import Strategy, UniformStrategy, surely
from sepo_kit.games.kuhn import KuhnStrategy
from sepo_kit.games.negotiation_v1 import DemandInformation
from sepo_kit.games.negotiation_v2 import NegotiationInformation, demand_of, is_deal, most_valued


@dataclass(frozen=True)
class Mixture:
    """Demonstrators with their weights, and the opponents they meet in turn."""

    demonstrators: tuple[tuple[Strategy, float], ...]
    opponents: tuple[str, ...]
    records: int = 8_000


class AggressiveValue(Strategy):
    """Bid LOW on a value of 2 and HIGH on a value of 4."""

    id = "aggressive-value"

    def distribution(self, seen: AuctionInformation) -> Mapping[str, float]:
        return surely(LOW if seen.value == 2 else HIGH)

    def explain(self, seen: AuctionInformation, action: str) -> str:
        if seen.value == 2:
            return "My value is only 2, so I risk no more than a LOW bid."
        return "My value is 4, so I bid HIGH to be sure of the item."


class EchoDemand(Strategy):
    """Tit-for-tat on the pie: open with half, then demand what the partner demanded last."""

    id = "tit-for-tat"

    def distribution(self, seen: DemandInformation) -> Mapping[str, float]:
        return surely(str(5 if seen.last is None else seen.last))

    def explain(self, seen: DemandInformation, action: str) -> str:
        if seen.last is None:
            return "I open with half of the pie."
        return f"My partner demanded {seen.last} last round, so I demand the same."


class Proportional(Strategy):
    """Of each item the share of the pool that its value is of the highest value, rounded down."""

    id = "proportional"

    def distribution(self, seen: NegotiationInformation) -> Mapping[str, float]:
        most = max(seen.values)
        return surely(demand_of(tuple(n * v // most for n, v in zip(seen.pool, seen.values, strict=True))))

    def explain(self, seen: NegotiationInformation, action: str) -> str:
        return "I demand more of what is worth more to me, in proportion to its value."


class Portion(Strategy):
    """The most valued items first, up to a fixed part of what the pool is worth."""

    def __init__(self, id: str, part: int, whole: int, reason: str) -> None:
        self.id = id
        self.__doc__ = f"The most valued items first, up to {part}/{whole} of what the pool is worth."
        self.part, self.whole, self.reason = part, whole, reason

    def distribution(self, seen: NegotiationInformation) -> Mapping[str, float]:
        return surely(demand_of(most_valued(seen, self.part, self.whole)))

    def explain(self, seen: NegotiationInformation, action: str) -> str:
        return self.reason


class AdaptiveDemand(Strategy):
    """Open with half of the pool's value; keep a demand that made a deal, else take what the partner left."""

    id = "adaptive"

    def distribution(self, seen: NegotiationInformation) -> Mapping[str, float]:
        if not seen.history:
            return surely(demand_of(most_valued(seen, 1, 2)))
        own, their = seen.history[-1]
        return surely(own if is_deal(seen.pool, own, their) else demand_of(seen.left))

    def explain(self, seen: NegotiationInformation, action: str) -> str:
        if not seen.history:
            return "I open with half of the pool's value, my best items first."
        if is_deal(seen.pool, *seen.history[-1]):
            return "My last demand made a deal, so I repeat it."
        return "The last round broke down, so I demand what my partner's demand left."


def _of(game_id: str, **weights: float) -> tuple[tuple[Strategy, float], ...]:
    game = get_game(game_id)
    return tuple((game.strategy(name.replace("_", "-")), weight) for name, weight in weights.items())


RANDOM = UniformStrategy()

MIXTURES: dict[str, Mixture] = {
    "ipd": Mixture(
        demonstrators=(
            *_of("ipd", tit_for_tat=0.33, always_defect=0.27, grim_trigger=0.22, generous_tit_for_tat=0.05),
            *_of("ipd", always_cooperate=0.05),
            (RANDOM, 0.08),
        ),
        opponents=("tit-for-tat", "grim-trigger", "mixed-0.5", "always-defect", "always-cooperate"),
    ),
    "auction": Mixture(
        demonstrators=(
            *_of("auction", shaded=0.44, adaptive=0.20),
            (AggressiveValue(), 0.28),
            (RANDOM, 0.08),
        ),
        opponents=("truthful", "conservative", "shaded", "adaptive", "aggressive"),
    ),
    "negotiation_v1": Mixture(
        demonstrators=(
            *_of("negotiation_v1", fair=0.32, balanced=0.27, concede=0.18),
            (EchoDemand(), 0.15),
            (RANDOM, 0.08),
        ),
        opponents=("fair", "balanced", "concede", "selfish", "hardball"),
    ),
    "negotiation_v2": Mixture(
        demonstrators=(
            (Proportional(), 0.35),
            (
                Portion(
                    "conservative",
                    1,
                    2,
                    "I keep to half of what the pool is worth to me, my best items first.",
                ),
                0.25,
            ),
            (AdaptiveDemand(), 0.25),
            (
                Portion("defensive", 1, 3, "I ask for a third of the pool's value, so that a deal is safe."),
                0.15,
            ),
        ),
        opponents=("fair", "tit-for-tat", "concede", "greedy", "hardball"),
        records=4_000,
    ),
    "kuhn": Mixture(
        demonstrators=(
            *_of("kuhn", nash=0.45),
            (
                KuhnStrategy(
                    "tight-value",
                    "Bets and calls with the King, calls with the Queen, never bluffs.",
                    first_bet=(0, 0, 1),
                    second_bet=(0, 0, 1),
                    first_call=(0, 1, 1),
                    second_call=(0, 1, 1),
                ),
                0.25,
            ),
            (
                KuhnStrategy(
                    "pot-control",
                    "King bets and calls, Queen passes and folds, Jack bluffs one time in five.",
                    first_bet=(0.2, 0, 1),
                    second_bet=(0.2, 0, 1),
                    first_call=(0, 0, 1),
                    second_call=(0, 0, 1),
                ),
                0.20,
            ),
            (RANDOM, 0.08),
            (
                KuhnStrategy(
                    "queen-passer",
                    "Plays the King for value and always passes or folds the Queen and the Jack.",
                    first_bet=(0, 0, 1),
                    second_bet=(0, 0, 1),
                    first_call=(0, 0, 1),
                    second_call=(0, 0, 1),
                ),
                0.02,
            ),
        ),
        opponents=("nash", "tight-passive", "loose-aggressive", "always-bet", "uniform"),
    ),
    "leduc": Mixture(leduc.DEMONSTRATORS, leduc.OPPONENTS),
}
