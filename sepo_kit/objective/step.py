"""One training step, whoever learns: the matches it plays, what its decisions earn, the weights of the next one.

The trainer of language models (``training/rollouts.py``) and that of tables (``study/tabular.py``) take their steps
here; who plays the matches, and what is done with the advantages, is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from sepo_kit.engine.episode import Episode
from sepo_kit.games.base import POOLS, Game, GameSpec, Pools, Weights
from sepo_kit.games.numbers import is_finite
from sepo_kit.objective.credit import Credit, assign_credit, check_mode, training_matches
from sepo_kit.objective.limits import DualAscent
from sepo_kit.objective.terms import Terms, results_of, terms_of

WORST_CASE = "worst-case"
ANSWERS = (WORST_CASE, "fitted")  # opponents that answer the agent as it is at the time
SCHEDULES = ("constant", "linear")  # of the learning rate; linear: to zero at the last step
EXPLOITERS = ("pool", WORST_CASE, f"pool and {WORST_CASE}")


def check_numbers(settings: object, positive: Sequence[str], not_negative: Sequence[str] = ()) -> None:
    """ValueError unless the named fields are finite numbers in their range, and whole where declared ``int``."""
    for declared in fields(settings):
        name, value = declared.name, getattr(settings, declared.name)
        if name not in (*positive, *not_negative):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
        if value < 0 or (value == 0 and name in positive):
            raise ValueError(f"{name} must be {'> 0' if name in positive else '>= 0'}, got {value!r}")
        if declared.type == "int" and not isinstance(value, int):
            raise ValueError(f"{name} must be a whole number, got {value!r}")


def check_flag(settings: object, name: str) -> None:
    """ValueError unless the named field is true or false."""
    if not isinstance(value := getattr(settings, name), bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_schedule(schedule: str) -> None:
    """ValueError unless ``schedule`` names one of the learning rate."""
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")


def check_renewal(every: int, beta: float) -> None:
    """ValueError where a reference is to be renewed every so many steps that does not pull."""
    if every and not beta:
        raise ValueError(
            f"renew_reference_every={every} needs beta > 0, got beta={beta!r}: without it no reference pulls"
        )


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
    exploiters
        Who is in the exploit pool: "pool" (arXiv 2605.30854); "worst-case", the best response to the agent as it is
        now, whose gain is the worst case and whose gradient is the worst case's own (Danskin; exploitability descent,
        Lockhart et al. 2019, arXiv 1903.05614); or "pool and worst-case".
    exploiters_every
        Steps between two best responses.
    population
        How many of the last best responses are in the exploit pool (double oracle, McMahan et al. 2003; PSRO, Lanctot
        et al. 2017, arXiv 1711.00832).

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
    exploiters: str = "pool"
    exploiters_every: int = 1
    population: int = 1

    def __post_init__(self) -> None:
        check_numbers(self, ("rollouts", "groups", "exploiters_every", "population", "dual_rate"))
        if self.rollouts < 2:
            raise ValueError(f"rollouts must be >= 2, got {self.rollouts}: a baseline needs another rollout")
        if self.weights is not None and not isinstance(self.weights, Weights):
            raise ValueError(f"weights must be a Weights or None for the game's own, got {self.weights!r}")
        if self.pools is not None and not isinstance(self.pools, Pools):
            raise ValueError(f"pools must be a Pools or None for the game's own, got {self.pools!r}")
        for pool in POOLS if self.pools else ():
            if stale := [name for name in ANSWERS if name in self.pools[pool]]:
                raise ValueError(
                    f"pools.{pool} has {stale[0]!r}, an answer to the agent as it was before training; set "
                    f"exploiters={WORST_CASE!r}, which is answered anew as it learns"
                )
        check_mode(self.mode, self.horizon)
        if self.exploiters not in EXPLOITERS:
            raise ValueError(f"exploiters must be one of {', '.join(EXPLOITERS)}, got {self.exploiters!r}")
        start = self.weights or Weights(0.0, 0.0, 0.0)
        DualAscent(self.limits, start, self.dual_rate)  # checks its arguments
        if "worst_case" in self.limits and not self.best_responses:
            raise ValueError(
                "limits on worst_case need exploiters='worst-case' or 'pool and worst-case', got exploiters='pool'"
            )
        check_flag(self, "common_random_numbers")

    @property
    def best_responses(self) -> tuple[str, ...]:
        """Names in the exploit pool of the last best responses, the newest first; () where there are none."""
        if self.exploiters == "pool":
            return ()
        return (WORST_CASE, *(f"{WORST_CASE}, {age} before" for age in range(1, self.population)))

    def pools_of(self, spec: GameSpec) -> Pools:
        """Who sits opposite in the game of ``spec``."""
        pools = spec.pools if self.pools is None else self.pools
        if not self.best_responses:
            return pools
        own = pools.exploit if self.exploiters != WORST_CASE else ()
        return replace(pools, exploit=(*own, *self.best_responses))


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
        self.spec = replace(game.spec, pools=settings.pools_of(game.spec))
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

    def learn(self, episodes: Sequence[Episode], worst_case: float | None = None) -> Credit:
        """Pay the decisions of a step that was played, and move the weights where limits do.

        Parameters
        ----------
        episodes
            Those of ``matches``, in the same order.
        worst_case
            What the newest best response gains per round, where it was computed; else what it gained in the episodes
            is taken.
        """
        self.episodes = list(episodes)
        self.charged = self.weights
        with np.errstate(over="ignore", invalid="ignore"):  # which is said below
            self.credit = assign_credit(
                self.spec, self.episodes, self.charged, self.settings.mode, self.settings.horizon
            )
        if not np.isfinite(self.credit.advantage).all():
            raise FloatingPointError(
                f"{self.spec.id}: what decisions earn under {self.charged} is not finite; lower the weights"
            )
        results = results_of(self.episodes)
        if worst_case is None and self.settings.best_responses:
            worst_case = results["exploit", WORST_CASE].advantage
        self.terms = replace(terms_of(self.spec, results), worst_case=worst_case)
        if self.dual is not None:
            self.weights = self.dual.update(self.terms)
        return self.credit

    def go_on_with(self, weights: Weights) -> None:
        """Take up the weights that dual ascent had reached when the training was stopped; fixed ones stay."""
        if self.dual is not None:
            self.weights = self.dual.weights = weights
