"""Plans: what takes a model through the pipeline on a game; and profiles, named lists of plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path

from sepo_kit.evaluation.results import EvaluationSettings
from sepo_kit.games import get_game
from sepo_kit.models import SHIPPED
from sepo_kit.training.settings import SEPOSettings, SFTSettings

MOST_THREADS = 2  # of a plan's notebooks
EACH_SEED = "{seed}"  # in a folder's name: whatever the seed is


@dataclass(frozen=True)
class Plan:
    """One model on one game: base -> SFT -> SEPO -> evaluation, once per seed.

    ``worst_case``: settings of a second SEPO from the same warm start, against best responses; None where the plan has
    none. ``minutes``: what it takes on two CPU cores, roughly, and ``shares``: of that the warm start's, SEPO's and the
    evaluation's; for the first estimate of the time left, and for which notebook goes first.
    """

    model: str
    game: str
    seeds: tuple[int, ...]
    sft: SFTSettings
    sepo: SEPOSettings
    evaluation: EvaluationSettings
    minutes: float = 1.0
    shares: tuple[float, float, float] = (0.4, 0.45, 0.15)
    worst_case: SEPOSettings | None = None

    def changed(
        self,
        *,
        seeds: Sequence[int] | None = None,
        steps: int | None = None,
        mode: str | None = None,
        exploiters: str | None = None,
        limits: Mapping[str, float] | None = None,
        learning_rate: float | None = None,
    ) -> Plan:
        """The plan with other seeds, or other settings of its SEPO stages; None, or nothing in it: as it is.

        With ``exploiters`` the plan has one SEPO stage, against these.

        Raises
        ------
        ValueError
            A seed or a setting is none.

        >>> from sepo_kit.pipeline.profiles import get_profile
        >>> plan = (
        ...     get_profile("quick")
        ...     .plan("pico", "kuhn")
        ...     .changed(seeds=[3], mode="shared", exploiters="worst-case")
        ... )
        >>> plan.seeds, plan.sepo.mode, plan.stages
        ((3,), 'shared', ('base', 'sft', 'sepo'))
        """
        plan = replace(self, seeds=check_seeds(seeds)) if seeds else self
        given = {
            "steps": steps,
            "mode": mode,
            "limits": dict(limits or {}) or None,
            "learning_rate": learning_rate,
        }
        given = {name: value for name, value in given.items() if value is not None}
        guarded = plan.worst_case and replace(plan.worst_case, **given)
        if exploiters:
            given, guarded = {**given, "exploiters": exploiters}, None
        return replace(plan, sepo=replace(plan.sepo, **given), worst_case=guarded)

    @property
    def trained(self) -> dict[str, SFTSettings | SEPOSettings]:
        """The stages that are trained, in their order, with their settings."""
        stages = {"sft": self.sft, "sepo": self.sepo, "worst-case": self.worst_case}
        return {stage: settings for stage, settings in stages.items() if settings is not None}

    @property
    def stages(self) -> tuple[str, ...]:
        """All stages, the base model first."""
        return ("base", *self.trained)

    @property
    def threads(self) -> int:
        """CPU threads of each of its notebooks. A sum in two halves is rounded otherwise than in one piece, so how many
        there are decides the last digits of a run: not the machine, nor what else runs there, but the plan says it.

        Ours: one for what a CPU trains, pico and SmolLM2: with two, SmolLM2's notebooks would need both cores of a
        small machine at once and wait until all others are done. Two for larger models, whose CPU feeds a GPU.
        """
        return 1 if self.model in SHIPPED else MOST_THREADS

    @property
    def name(self) -> str:
        """Folder and label: model and game."""
        return f"{self.model.replace('/', '--')}/{self.game}"

    def folder(self, root: Path | str) -> Path:
        """Where everything of this plan lies under the profile's run folder ``root``."""
        return Path(root) / self.name

    def stage_folder(self, root: Path | str, stage: str, seed: int | str) -> Path:
        """The run folder of a trained stage; of all seeds alike with ``EACH_SEED``."""
        return self.folder(root) / f"{stage}-seed-{seed}"

    def source(self, root: Path | str, stage: str, seed: int | None) -> str:
        """What ``load_model`` takes for a stage."""
        return self.model if stage == "base" else str(self.stage_folder(root, stage, seed))


@dataclass(frozen=True)
class Profile:
    """A named list of plans.

    ``make``: the plan of a model of the profile on a game, whatever the game is. ``batch``: the models and games that
    ``reproduce`` runs, asked anew each time, since games can be registered.
    """

    name: str
    about: str
    make: Callable[[str, str], Plan]
    batch: Callable[[], list[tuple[str, str]]]

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plans that ``reproduce`` runs, in their order."""
        return tuple(self.make(model, game) for model, game in self.batch())

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the profile has settings for."""
        return tuple(dict.fromkeys(model for model, _ in self.batch()))

    def only(self, models: Sequence[str] | None = None, games: Sequence[str] | None = None) -> Profile:
        """The profile with no other plans than those of ``models`` and ``games``; None: of all.

        Raises
        ------
        ValueError
            It has none of them.
        """
        for what, wanted, there in (("model", models, 0), ("game", games, 1)):
            known = dict.fromkeys(pair[there] for pair in self.batch())
            if unknown := [name for name in wanted or () if name not in known]:
                raise ValueError(
                    f"profile {self.name!r} runs no {what} {', '.join(map(repr, unknown))}; it runs: {', '.join(known)}"
                )

        def chosen() -> list[tuple[str, str]]:
            pairs = self.batch()
            return [(m, g) for m, g in pairs if (not models or m in models) and (not games or g in games)]

        if not chosen():
            raise ValueError(
                f"profile {self.name!r} has none of these models on any of these games; it has: "
                + ", ".join(f"{model} on {game}" for model, game in self.batch())
            )
        return replace(self, batch=chosen)

    def plan(self, model: str, game: str) -> Plan:
        """The plan of ``model`` on ``game``, any game that is known and has demonstrations.

        Raises
        ------
        ValueError
            The model is none of the profile's, the game is unknown, or nobody demonstrates it.
        """
        if model not in self.models:
            known = ", ".join(f"{p.model} on {p.game}" for p in self.plans)
            raise ValueError(
                f"profile {self.name!r} has no plan for {model!r} on {game!r}; it has: {known}, and its models on any "
                "other game that has demonstrations"
            )
        if get_game(game).mixture is None:
            raise ValueError(
                f"profile {self.name!r} has no plan for {game!r}, which has no demonstrations; give its Game a mixture"
            )
        return self.make(model, game)


def check_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Training seeds; ValueError where one is none, or is there twice."""
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**32:
            raise ValueError(f"seeds must be whole numbers from 0 to {2**32 - 1}, got {seed!r}")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must differ, got {list(seeds)}")
    return tuple(int(seed) for seed in seeds)
