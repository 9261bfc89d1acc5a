"""One training step, whoever learns: the matches it plays, what its decisions earn, the weights of the next one.

The trainer of language models (``training/rollouts.py``) and that of tables (``study/tabular.py``) take their steps
here; who plays the matches, and what is done with the advantages, is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from sepo_kit.engine.episode import Episode
from sepo_kit.games.base import Game, Pools, Weights
from sepo_kit.objective.credit import Credit, assign_credit, check_mode, training_matches
from sepo_kit.objective.limits import DualAscent
from sepo_kit.objective.terms import Terms, results_of, terms_of


def check_numbers(settings: object, positive: Sequence[str], not_negative: Sequence[str] = ()) -> None:
    """ValueError unless the named fields are finite numbers in their range, and whole where declared ``int``."""
    for declared in fields(settings):
        name, value = declared.name, getattr(settings, declared.name)
        if name not in (*positive, *not_negative):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
        if value < 0 or (value == 0 and name in positive):
            raise ValueError(f"{name} must be {'> 0' if name in positive else '>= 0'}, got {value!r}")
        if declared.type == "int" and not isinstance(value, int):
            raise ValueError(f"{name} must be a whole number, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What a training step plays, and how it pays.

    Attributes
    ----------
    rollouts, groups
        Episodes per group (the n of GRPO), which share all draws but the agent's; groups per opponent, each with its
        own draws.
    mode, horizon
        As in ``assign_credit``; ``horizon`` None for the mode's own.
    common_random_numbers
        Whether the rollouts of a group share the draws of nature and of the opponent.
    weights
        Penalty weights; None for the game's own.
    limits, dual_rate
        Instead of fixed weights what the penalties may at most be, as in ``DualAscent``, which starts from ``weights``.
    pools
        Who sits opposite, by names of the grammar of opponents; None for the game's own pools.

    Raises
    ------
    ValueError
        A value is out of its range or not known.
    """

    rollouts: int = 8
    groups: int = 1
    mode: str = "credited"
    horizon: str | None = None
    common_random_numbers: bool = True
    weights: Weights | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    dual_rate: float = 0.5
    pools: Pools | None = None

    def __post_init__(self) -> None:
        check_numbers(self, ("rollouts", "groups"))
        if self.rollouts < 2:
            raise ValueError(f"rollouts must be >= 2, got {self.rollouts}: a baseline needs another rollout")
        if self.weights is not None and not isinstance(self.weights, Weights):
            raise ValueError(f"weights must be a Weights or None for the game's own, got {self.weights!r}")
        if self.pools is not None and not isinstance(self.pools, Pools):
            raise ValueError(f"pools must be a Pools or None for the game's own, got {self.pools!r}")
        check_mode(self.mode, self.horizon)
        if not isinstance(self.common_random_numbers, bool):
            raise ValueError(
                f"common_random_numbers must be True or False, got {self.common_random_numbers!r}"
            )
        DualAscent(
            self.limits, self.weights or Weights(0.0, 0.0, 0.0), self.dual_rate
        )  # checks its arguments


class TrainingStep:
    """The steps of one training, taken one after the other.

    Attributes
    ----------
    spec
        The game's, with the pools of the settings: what is paid is paid by it.
    matches
        What each step plays, groups consecutive.
    weights
        Penalty weights of the next step; ``charged`` those of the last one.
    episodes, credit, terms
        What the last step played, what its decisions earned, and what its terms came to; None before the first.
    """

    def __init__(self, game: Game, settings: StepSettings) -> None:
        self.game = game
        self.settings = settings
        self.spec = game.spec if settings.pools is None else replace(game.spec, pools=settings.pools)
        self.matches = training_matches(
            game, settings.mode, settings.rollouts, settings.groups, self.spec.pools
        )
        self.weights = self.charged = game.spec.weights if settings.weights is None else settings.weights
        self.dual = DualAscent(settings.limits, self.weights, settings.dual_rate) if settings.limits else None
        self.episodes: list[Episode] = []
        self.credit: Credit | None = None
        self.terms: Terms | None = None

    @property
    def opponents(self) -> tuple[str, ...]:
        """The names of all who sit opposite, each once."""
        return tuple(dict.fromkeys(match.opponent for match in self.matches))

    def learn(self, episodes: Sequence[Episode]) -> Credit:
        """Pay the decisions of a step that was played, and move the weights where limits do.

        Parameters
        ----------
        episodes
            Those of ``matches``, in the same order.
        """
        self.episodes = list(episodes)
        self.charged = self.weights
        self.credit = assign_credit(
            self.spec, self.episodes, self.charged, self.settings.mode, self.settings.horizon
        )
        self.terms = terms_of(self.spec, results_of(self.episodes))
        if self.dual is not None:
            self.weights = self.dual.update(self.terms)
        return self.credit

    def go_on_with(self, weights: Weights) -> None:
        """Take up the weights that dual ascent had reached when the training was stopped; fixed ones stay."""
        if self.dual is not None:
            self.weights = self.dual.weights = weights
