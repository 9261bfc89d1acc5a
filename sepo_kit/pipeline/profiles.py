"""Every hyperparameter of every run, with its source.

"paper" is arXiv 2605.30854 (its method settings hold for both of its versions); "ours" says why. A profile is a
list of plans; a plan takes one model through the pipeline on one game.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sepo_kit.evaluation.results import EvaluationSettings
from sepo_kit.games import GAMES
from sepo_kit.models import PICO, SMOLLM2
from sepo_kit.training.demonstrators import MIXTURES
from sepo_kit.training.settings import SEPOSettings, SFTSettings

EACH_SEED = "{seed}"  # in a folder's name: whatever the seed is


@dataclass(frozen=True)
class Plan:
    """One model on one game: base -> SFT -> SEPO -> evaluation, once per seed.

    ``minutes``: what it takes on two CPU cores, roughly; only for the first estimate of the time left.
    """

    model: str
    game: str
    seeds: tuple[int, ...]
    sft: SFTSettings
    sepo: SEPOSettings
    evaluation: EvaluationSettings
    minutes: float = 1.0

    @property
    def name(self) -> str:
        """Folder and label: model and game."""
        return f"{self.model.replace('/', '--')}/{self.game}"

    def folder(self, root: Path | str) -> Path:
        """Where everything of this plan lies under the profile's run folder ``root``."""
        return Path(root) / self.name

    def stage_folder(self, root: Path | str, stage: str, seed: int | str) -> Path:
        """The run folder of "sft" or "sepo"; of all seeds alike with ``EACH_SEED``."""
        return self.folder(root) / f"{stage}-seed-{seed}"

    def source(self, root: Path | str, stage: str, seed: int | None) -> str:
        """What ``load_model`` takes for "base", "sft" or "sepo"."""
        return self.model if stage == "base" else str(self.stage_folder(root, stage, seed))


@dataclass(frozen=True)
class Profile:
    """A named list of plans."""

    name: str
    about: str
    plans: tuple[Plan, ...]

    def plan(self, model: str, game: str) -> Plan:
        """The plan of ``model`` on ``game``; ValueError that lists what the profile has."""
        for plan in self.plans:
            if (plan.model, plan.game) == (model, game):
                return plan
        known = ", ".join(f"{p.model} on {p.game}" for p in self.plans)
        raise ValueError(f"profile {self.name!r} has no plan for {model!r} on {game!r}; it has: {known}")


BEYOND_THE_PAPER = ("leduc",)  # joins a profile only where its time allows
GAMES_WITH_CORPUS = tuple(game for game in GAMES if game in MIXTURES and game not in BEYOND_THE_PAPER)

# --- paper ----------------------------------------------------------------------------------------

PAPER_SFT = SFTSettings(
    records=6_300,  # paper: about 8,000 a game, 80 % of them for training; every corpus of 8,000 has that many
    epochs=3,  # paper
    learning_rate=2e-5,  # paper, cosine with 5 % warm-up
    style="reasoned",  # paper
    batch=2,  # paper
    accumulation=4,  # paper
    warm_up=0.05,  # paper
    max_length=512,  # paper
    lora_r=32,  # paper
    lora_alpha=64,  # paper
    lora_dropout=0.05,  # paper
    gradient_checkpointing=True,  # paper
)
PAPER_SFT_V2 = replace(PAPER_SFT, records=3_100)  # its corpus is half as large
PAPER_SEPO = SEPOSettings(
    steps=100,  # paper
    rollouts=4,  # paper
    learning_rate=1e-5,  # paper, constant
    beta=0.1,  # paper
    style="reasoned",  # paper
    temperature=0.8,  # paper
    max_new_tokens=512,  # paper
    clip=0.2,  # paper
    max_grad_norm=1.0,  # paper
    lora_r=16,  # paper
    lora_alpha=32,  # paper
    lora_dropout=0.05,  # paper
    save_every=25,  # paper
    micro_rows=2,  # ours: what fits 48 GB beside a 4B model
    gradient_checkpointing=True,  # ours: the same reason
)
PAPER_SEPO_KUHN = replace(PAPER_SEPO, learning_rate=3e-6, beta=0.2)  # paper: Kuhn differs in these two
PAPER_EVALUATION = EvaluationSettings(
    episodes=20,  # paper (the later draft: 16)
    exact=False,  # reasoned replies have no closed form
    style="reasoned",
    max_new_tokens=512,  # the later draft; arXiv text says 256
)

# --- on a CPU -------------------------------------------------------------------------------------

# Ours, for all CPU plans: direct replies, since a 135M model's reasons would cost 20 times the tokens; higher
# learning rates, since steps are few and the models small; no LoRA dropout in SEPO, since the policy that played
# is then the one that is differentiated; several groups per opponent, since a prompt met often costs nothing more.
PICO_SFT = SFTSettings(records=2_000, epochs=1, learning_rate=2e-3, batch=8, accumulation=1, save_every=100)
PICO_SEPO = SEPOSettings(
    steps=100,  # paper
    rollouts=8,
    learning_rate=3e-4,
    beta=0.02,
    lora_dropout=0.0,
    save_every=25,  # paper
)
# Kuhn poker has 12 prompts however many hands are played, so many hands make a step less noisy for nothing.
PICO_SEPO_KUHN = replace(PICO_SEPO, rollouts=4, groups=6)
SMOLLM2_SFT = SFTSettings(records=160, epochs=1, learning_rate=1e-3, batch=4, accumulation=1, save_every=10)
SMOLLM2_SEPO = SEPOSettings(
    steps=45,
    rollouts=4,  # paper
    groups=32,
    learning_rate=1e-4,
    beta=0.02,
    lora_dropout=0.0,
    save_every=15,
)
SEVERAL_SEEDS = ("ipd", "kuhn")  # in quick; one seed elsewhere
SAMPLED = EvaluationSettings(episodes=100, exact=False)
EXACT = EvaluationSettings(episodes=100, exact=True)


def _pico_sepo(game: str) -> SEPOSettings:
    return PICO_SEPO_KUHN if game == "kuhn" else PICO_SEPO


def _quick_pico_plan(game: str) -> Plan:
    sepo, seeds = _pico_sepo(game), (0, 1, 2)
    if game not in SEVERAL_SEEDS:  # ours: a single seed shows no spread, so it need not show a plateau either
        sepo, seeds = replace(sepo, steps=60, save_every=20), (0,)
    return Plan(PICO, game, seeds, PICO_SFT, sepo, _evaluation(game), minutes=1.0 + 0.9 * len(seeds))


def _evaluation(game: str) -> EvaluationSettings:
    """Kuhn poker has 12 information states: enumerate. Elsewhere a language model's histories are too many."""
    return EXACT if game == "kuhn" else SAMPLED


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            "smoke",
            "pico, 2 steps, every game: tests and CI",
            tuple(
                Plan(
                    PICO,
                    game,
                    (0,),
                    replace(PICO_SFT, records=32),
                    replace(_pico_sepo(game), steps=2, rollouts=2, groups=1, save_every=1),
                    replace(_evaluation(game), episodes=4),
                    minutes=0.3,
                )
                for game in GAMES_WITH_CORPUS
            ),
        ),
        Profile(
            "quick",
            "SmolLM2-135M on Kuhn poker, pico on every game: minutes on a laptop",
            (
                Plan(SMOLLM2, "kuhn", (0,), SMOLLM2_SFT, SMOLLM2_SEPO, EXACT, minutes=5),
                *(_quick_pico_plan(game) for game in GAMES_WITH_CORPUS),
            ),
        ),
        Profile(
            "study",
            "pico, few episodes a step: `sepo-kit study`, the mechanism study of notebook 07",
            tuple(
                # 160 trials of 400 steps: as many episodes as the paper has (n = 4), four deals of Kuhn poker
                Plan(
                    PICO,
                    game,
                    (0,),
                    PICO_SFT,
                    replace(PICO_SEPO, rollouts=4, groups=4 if game == "kuhn" else 1, save_every=100),
                    _evaluation(game),
                )
                for game in ("ipd", "kuhn")
            ),
        ),
        Profile(
            "smollm2",
            "SmolLM2-135M, three seeds, every game: a GPU, or a CPU overnight",
            tuple(
                Plan(
                    SMOLLM2,
                    game,
                    (0, 1, 2),
                    replace(SMOLLM2_SFT, records=2_000),
                    replace(SMOLLM2_SEPO, steps=100, groups=4),
                    _evaluation(game),
                    minutes=180,
                )
                for game in GAMES_WITH_CORPUS
            ),
        ),
        Profile(
            "paper",
            "Gemma 4 E4B-it and Qwen3.5-4B, every game, the paper's settings: one 48 GB GPU",
            tuple(
                Plan(
                    model,
                    game,
                    (0,),
                    PAPER_SFT_V2 if game == "negotiation_v2" else PAPER_SFT,
                    PAPER_SEPO_KUHN if game == "kuhn" else PAPER_SEPO,
                    PAPER_EVALUATION,
                    minutes=1_200,
                )
                for model in ("google/gemma-4-E4B-it", "Qwen/Qwen3.5-4B")
                for game in GAMES_WITH_CORPUS
            ),
        ),
    )
}


def get_profile(name: str) -> Profile:
    """The profile called ``name``; ValueError that lists the known ones.

    >>> get_profile("smoke").plan("pico", "kuhn").sepo.steps
    2
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; known: {', '.join(PROFILES)}")
    return PROFILES[name]
