"""Every hyperparameter of every run, with its source.

"paper" is arXiv 2605.30854 (its method settings hold for both of its versions); "ours" says why. A profile is a
list of plans; a plan takes one model through the pipeline on one game. What a plan must know of a game it asks the
game's spec, so that every profile has a plan for any registered game.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sepo_kit.evaluation.results import EvaluationSettings
from sepo_kit.games import KIT_GAMES, PAPER_GAMES, get_game
from sepo_kit.models import PICO, SMOLLM2
from sepo_kit.pipeline.plans import Plan, Profile
from sepo_kit.training.demonstrations import demonstrated
from sepo_kit.training.settings import SEPOSettings, SFTSettings


def paper_games() -> tuple[str, ...]:
    """The games of arXiv 2605.30854, and of the published tables; Leduc poker joins where its time allows."""
    return PAPER_GAMES


def _smoke_games() -> tuple[str, ...]:
    """A game that is solved exactly, one that is not, and whatever a user has registered that has demonstrations."""
    return tuple(game for game in demonstrated() if game in BOTH_WAYS or game not in KIT_GAMES)


def _on(games: Callable[[], tuple[str, ...]], *models: str) -> Callable[[], list[tuple[str, str]]]:
    """Each of ``models`` on all of ``games()``."""
    return lambda: [(model, game) for model in models for game in games()]


def _few(game: str) -> bool:
    return get_game(game).spec.few_states


def _fitted(settings: SFTSettings, game: str) -> SFTSettings:
    """``settings`` with no more records than the game's corpus has for training: about 80 % of it, and 70 % surely."""
    corpus = get_game(game).mixture.records
    return settings if settings.records <= 0.79 * corpus else replace(settings, records=int(0.7 * corpus))


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
# Kuhn poker has 12 prompts however many hands are played, so many hands make a step less noisy for nothing; the same
# holds for any game of few information states.
PICO_SEPO_FEW = replace(PICO_SEPO, rollouts=4, groups=6)
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
# Ours, for all training against best responses but in Leduc poker: no KL penalty, since the best response changes what
# the warm start knew; a step size that falls to zero, since best responses circle; and the best saved step, for the
# same reason.
SETTLING = {"beta": 0.0, "schedule": "linear", "keep": "best"}
PICO_WORST_CASE = replace(
    PICO_SEPO, **SETTLING, steps=150, learning_rate=1e-3, exploiters="pool and worst-case", exploiters_every=5
)  # fitted, which costs what a step does: so every few steps
# Where the best response is exact there is no need of the pool's adversaries: none of them gains more.
# Sixteen groups, since with six one seed of three became sure of itself too early, and nothing that is sure learns.
PICO_WORST_CASE_FEW = replace(
    PICO_SEPO_FEW, **SETTLING, groups=16, steps=400, learning_rate=1e-3, exploiters="worst-case"
)
# Leduc poker has 288 information states, in words that pico has to spell. After a short warm start it does not tell a
# Jack from a Queen, after a long one at the rate of the others in one seed of three, and who cannot tell two hands
# apart cannot play them apart. It is held near a reference that follows, since the first best responses make it sure of
# itself, and nothing that is sure learns: at beta 0.1 it stayed undecided in one seed of three.
PICO_SFT_OF = {
    # Two passes: after one, a seed of four did not tell a partner who defects from one who does not, and SEPO made
    # it defect always.
    "ipd": replace(PICO_SFT, epochs=2),
    "leduc": replace(PICO_SFT, records=5_500, epochs=8, learning_rate=1e-3, save_every=500),
}
PICO_WORST_CASE_OF = {
    "leduc": replace(
        PICO_WORST_CASE_FEW,
        groups=32,
        steps=1_600,
        population=4,
        beta=0.3,
        renew_reference_every=10,
        save_every=50,
    )
}
SMOLLM2_WORST_CASE = replace(
    SMOLLM2_SEPO, **SETTLING, steps=200, learning_rate=3e-4, save_every=20, exploiters="worst-case"
)
# Ours: where histories are many every match costs, so a step has no more of them than pico's. Few steps at the rate
# of replies in words: the prisoner's dilemma is learned in ten. Against best responses at more, since it falls to 0.
SMOLLM2_SEPO_MANY = replace(SMOLLM2_SEPO, steps=40, rollouts=8, groups=1, learning_rate=3e-4, save_every=10)
SMOLLM2_WORST_CASE_MANY = replace(
    SMOLLM2_SEPO_MANY,
    **SETTLING,
    steps=60,
    learning_rate=5e-4,
    exploiters="pool and worst-case",
    exploiters_every=5,  # fitted, which costs what a step does
)
# The histories of the second negotiation are the longest: at first a step of eight rollouts takes three minutes of a
# CPU's core, and against best responses there are more of them.
SMOLLM2_WORST_CASE_OF = {"negotiation_v2": replace(SMOLLM2_WORST_CASE_MANY, steps=20, rollouts=4)}
# Ours: replies in words. A warm start on demonstrations that say why; then every prompt gets at most eight
# replies a step that all matches draw from, so that sixteen groups cost what one would.
SMOLLM2_REASONED_SFT = replace(SMOLLM2_SFT, records=320, style="reasoned", save_every=40)
SMOLLM2_REASONED_SEPO = replace(
    SMOLLM2_SEPO,
    steps=30,
    groups=16,
    replies=8,
    learning_rate=3e-4,
    style="reasoned",
    max_new_tokens=48,
    save_every=10,
)
# Best responses are fitted to what the agent said in the step before.
SMOLLM2_REASONED_WORST_CASE = replace(
    SMOLLM2_REASONED_SEPO, **SETTLING, exploiters="worst-case", save_every=5
)
REASONED = EvaluationSettings(
    episodes=20,  # paper
    exact=False,
    style="reasoned",
    max_new_tokens=48,  # twice what demonstrations take
    worst_case="quick",
    replies=200,  # ours: in each of Kuhn poker's 12 information states, so that Safety is known to about 0.02
)
SEVERAL_SEEDS = ("ipd", "kuhn")  # in quick; one seed elsewhere
BOTH_WAYS = (
    "ipd",
    "kuhn",
)  # the kit's games in smoke, also trained against best responses; quick: Kuhn poker
SAMPLED = EvaluationSettings(episodes=100, exact=False)
# Each agent of the second negotiation would else take hours. As many episodes as in the paper, a search of ours.
SMOLLM2_EVALUATION_OF = {"negotiation_v2": replace(SAMPLED, episodes=20, search_episodes=80)}
EXACT = EvaluationSettings(episodes=100, exact=True)


def _pico_sepo(game: str) -> SEPOSettings:
    return PICO_SEPO_FEW if _few(game) else PICO_SEPO


def _pico_worst_case(game: str) -> SEPOSettings:
    return PICO_WORST_CASE_OF.get(game, PICO_WORST_CASE_FEW if _few(game) else PICO_WORST_CASE)


def _smollm2_sepo(game: str) -> SEPOSettings:
    return SMOLLM2_SEPO if _few(game) else SMOLLM2_SEPO_MANY


def _smollm2_worst_case(game: str) -> SEPOSettings:
    return SMOLLM2_WORST_CASE_OF.get(game, SMOLLM2_WORST_CASE if _few(game) else SMOLLM2_WORST_CASE_MANY)


def _evaluation(game: str) -> EvaluationSettings:
    """Where a game has few information states (Kuhn poker: 12), ask at all; else a language model's are too many."""
    return EXACT if _few(game) else SAMPLED


def _smoke_plan(model: str, game: str) -> Plan:
    tiny = {"steps": 2, "rollouts": 2, "groups": 1, "save_every": 1}
    return Plan(
        model,
        game,
        (0,),
        _fitted(replace(PICO_SFT, records=32), game),
        replace(_pico_sepo(game), **tiny),
        replace(_evaluation(game), episodes=4, worst_case="quick"),
        minutes=0.3,
        worst_case=replace(_pico_worst_case(game), **tiny) if game in BOTH_WAYS else None,
    )


def _worst_case_plan(model: str, game: str) -> Plan:
    quick = _quick_plan(model, game)
    settings = _smollm2_worst_case(game) if model == SMOLLM2 else _pico_worst_case(game)
    minutes = 60.0 if model == SMOLLM2 else 180.0 if game in PICO_WORST_CASE_OF else 12.0
    if (model, game) == (SMOLLM2, "negotiation_v2"):
        minutes = 540.0
    return replace(quick, seeds=(0, 1, 2), worst_case=settings, minutes=minutes, shares=(0.2, 0.65, 0.15))


def _quick_plan(model: str, game: str) -> Plan:
    if model == SMOLLM2:
        # ours: long enough to show it in minutes; the profile worst-case trains to the end
        guarded = replace(SMOLLM2_WORST_CASE, steps=60, groups=16, save_every=10)
        return Plan(
            SMOLLM2,
            game,
            (0,),
            _fitted(SMOLLM2_SFT, game),
            _smollm2_sepo(game),
            SMOLLM2_EVALUATION_OF.get(game, _evaluation(game)),
            minutes=5,
            shares=_quick_shares(game),
            worst_case=guarded if game == "kuhn" else None,
        )
    sepo, seeds = _pico_sepo(game), (0, 1, 2)
    if game not in SEVERAL_SEEDS:  # ours: a single seed shows no spread, so it need not show a plateau either
        sepo, seeds = replace(sepo, steps=60, save_every=20), (0,)
    sft = _fitted(PICO_SFT_OF.get(game, PICO_SFT), game)
    guarded = replace(_pico_worst_case(game), steps=120) if game == "kuhn" else None
    minutes = 3.7 if game == "negotiation_v2" else 1.0 + 0.9 * len(seeds)  # its histories are the longest
    return Plan(PICO, game, seeds, sft, sepo, _evaluation(game), minutes, _quick_shares(game), guarded)


def _quick_shares(game: str) -> tuple[float, float, float]:
    """Where the histories are many, adversaries are searched for, and what they gain is played out."""
    return (0.3, 0.55, 0.15) if _few(game) else (0.3, 0.35, 0.35)


def _study_plan(model: str, game: str) -> Plan:
    # 160 trials of 400 steps: as many episodes as the paper has (n = 4), four deals where they cost nothing more
    sepo = replace(PICO_SEPO, rollouts=4, groups=4 if _few(game) else 1, save_every=100)
    return Plan(model, game, (0,), _fitted(PICO_SFT, game), sepo, _evaluation(game))


def _reasoned_plan(model: str, game: str) -> Plan:
    # ours: where histories are many few replies serve two matches, so that every group costs nearly what the first does
    sepo = SMOLLM2_REASONED_SEPO if _few(game) else replace(SMOLLM2_REASONED_SEPO, groups=2, steps=20)
    guarded = SMOLLM2_REASONED_WORST_CASE if _few(game) else None
    sft = _fitted(SMOLLM2_REASONED_SFT, game)
    return Plan(model, game, (0, 1, 2), sft, sepo, REASONED, minutes=60, worst_case=guarded)


def _paper_plan(model: str, game: str) -> Plan:
    return Plan(
        model,
        game,
        (0,),
        PAPER_SFT_V2 if game == "negotiation_v2" else _fitted(PAPER_SFT, game),
        PAPER_SEPO_KUHN if game == "kuhn" else PAPER_SEPO,
        PAPER_EVALUATION,
        minutes=1_200,
    )


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            "smoke",
            "pico, 2 steps, Kuhn poker, the prisoner's dilemma and a user's own games: tests and CI",
            _smoke_plan,
            _on(_smoke_games, PICO),
        ),
        Profile(
            "quick",
            "SmolLM2-135M on Kuhn poker, pico on the paper's five games: minutes on a laptop",
            _quick_plan,
            lambda: [(SMOLLM2, "kuhn"), *((PICO, game) for game in paper_games())],
        ),
        Profile(
            "worst-case",
            "SmolLM2 and pico against best responses, three seeds: some hours; the published worst cases",
            _worst_case_plan,
            lambda: [(SMOLLM2, "kuhn"), *((PICO, game) for game in (*paper_games(), "leduc"))],
        ),
        Profile(
            "study",
            "pico, few episodes a step: `sepo-kit study`, the mechanism study of notebook 07",
            _study_plan,
            lambda: [(PICO, "ipd"), (PICO, "kuhn")],
        ),
        Profile(
            "reasoned",
            "SmolLM2-135M answering in words, three seeds: an hour or two a game on a CPU",
            _reasoned_plan,
            lambda: [(SMOLLM2, "kuhn"), (SMOLLM2, "ipd")],
        ),
        Profile(
            "smollm2",
            "SmolLM2-135M, three seeds, the paper's five games: an hour or two a game on a CPU, negotiation v2 nine",
            _worst_case_plan,  # the same agents in Kuhn poker, and those of every other game
            _on(paper_games, SMOLLM2),
        ),
        Profile(
            "paper",
            "Gemma 4 E4B-it and Qwen3.5-4B, the paper's five games, the paper's settings: one 48 GB GPU",
            _paper_plan,
            _on(paper_games, "google/gemma-4-E4B-it", "Qwen/Qwen3.5-4B"),
        ),
    )
}


# What may be changed behind a profile's name, and how it is read.
CHANGES: dict[str, Callable[[str], Any]] = {
    "seeds": lambda text: range(int(text)), "steps": int, "mode": str, "exploiters": str, "learning_rate": float,
}  # fmt: skip


def get_profile(name: str) -> Profile:
    """The profile called ``name``; with changes behind it, every plan is changed so: ``quick,seeds=3,mode=shared``.

    ``seeds`` is how many, from 0 on; ``steps``, ``mode``, ``exploiters`` and ``learning_rate`` are as in
    ``Plan.changed``.

    Raises
    ------
    ValueError
        It is unknown, and the message lists the known ones; or a change is, or is there twice.

    >>> get_profile("smoke").plan("pico", "kuhn").sepo.steps
    2
    >>> get_profile("smoke,seeds=3,steps=5").plan("pico", "kuhn").seeds
    (0, 1, 2)
    """
    base, *listed = str(name).split(",")
    if base not in PROFILES:
        raise ValueError(f"unknown profile {base!r}; known: {', '.join(PROFILES)}")
    profile, changes = PROFILES[base], {}
    for each in listed:
        what, equals, value = each.partition("=")
        if what in changes:
            raise ValueError(f"profile {name!r}: {what} is there twice; leave one of them out")
        try:
            if not equals:
                raise ValueError
            changes[what] = CHANGES[what](value)
        except (KeyError, ValueError):
            raise ValueError(
                f"profile {name!r}: {each!r} is no change of a profile; write one of "
                + ", ".join(f"{known}=..." for known in CHANGES)
            ) from None
        if what == "seeds" and not changes[what]:
            raise ValueError(f"profile {name!r}: seeds must be >= 1, got {value}")
    if not changes:
        return profile
    changed = replace(
        profile, name=name, make=lambda model, game: profile.make(model, game).changed(**changes)
    )
    _ = changed.plans  # wrong values are refused now
    return changed


def with_changes(name: str, **changes: Any) -> str:
    """A profile's name with changes behind it; None: none.

    >>> with_changes("quick", seeds=3, mode=None)
    'quick,seeds=3'
    """
    return ",".join([name, *(f"{what}={value}" for what, value in changes.items() if value is not None)])
