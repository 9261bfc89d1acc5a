"""Profiles: what they promise, and unknown names."""

import re

import pytest

import sepo_kit as sk
from sepo_kit.games import PAPER_GAMES
from sepo_kit.pipeline.profiles import PROFILES, get_profile, paper_games
from sepo_kit.training.demonstrations import demonstrated, demonstrations


def test_the_profiles_of_the_design_exist():
    assert list(PROFILES) == ["smoke", "quick", "worst-case", "study", "reasoned", "smollm2", "paper"]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_plan_names_a_game_with_a_corpus_and_never_evaluates_on_a_training_seed(profile):
    assert profile.plans
    for plan in profile.plans:
        assert plan.game in demonstrated()
        assert plan.evaluation.seed not in plan.seeds


def test_the_paper_profile_has_the_papers_settings():
    plan = sk.get_profile("paper").plan("Qwen/Qwen3.5-4B", "ipd")
    kuhn = sk.get_profile("paper").plan("Qwen/Qwen3.5-4B", "kuhn")
    assert (plan.sepo.learning_rate, plan.sepo.beta, plan.sepo.rollouts) == (1e-5, 0.1, 4)
    assert (kuhn.sepo.learning_rate, kuhn.sepo.beta) == (3e-6, 0.2)
    assert (plan.sft.learning_rate, plan.sft.lora_r, plan.sft.epochs) == (2e-5, 32, 3)
    assert plan.sepo.style == plan.sft.style == plan.evaluation.style == "reasoned"


@pytest.mark.parametrize("game", paper_games())
def test_no_plan_asks_for_more_demonstrations_than_there_are(game):
    there = (demonstrations(game)["split"] == "train").sum()
    asked = [plan.sft.records for p in PROFILES.values() for plan in p.plans if plan.game == game]
    assert 0 < max(asked) <= there


def test_quick_trains_pico_on_three_seeds_and_smollm2_on_kuhn():
    quick = sk.get_profile("quick")
    assert quick.plan("pico", "ipd").seeds == quick.plan("pico", "kuhn").seeds == (0, 1, 2)
    assert quick.plan("pico", "ipd").sepo.steps == 100
    for game in ("auction", "negotiation_v1", "negotiation_v2"):
        assert (quick.plan("pico", game).seeds, quick.plan("pico", game).sepo.steps) == ((0,), 60)
    assert quick.plan("smollm2-135m", "kuhn").sepo.mode == "credited"


def test_what_costs_by_the_history_is_done_seldom_where_histories_are_many():
    worst = sk.get_profile("worst-case")
    many, few = (worst.plan("smollm2-135m", game).worst_case for game in ("ipd", "kuhn"))
    assert (many.groups, many.exploiters_every) == (1, 5) and (few.groups, few.exploiters_every) == (32, 1)


def test_smollm2_is_trained_both_ways_in_every_game_of_the_paper():
    every, worst = sk.get_profile("smollm2"), sk.get_profile("worst-case")
    assert [plan.game for plan in every.plans] == list(PAPER_GAMES)
    for plan in every.plans:
        assert plan == worst.plan("smollm2-135m", plan.game)
        assert plan.seeds == (0, 1, 2) and plan.stages == ("base", "sft", "sepo", "worst-case")
        assert (plan.worst_case.exploiters == "worst-case") == (plan.game == "kuhn")


def test_unknown_profile_and_plan_name_what_exists():
    with pytest.raises(ValueError, match="known: smoke, quick, worst-case, study, reasoned, smollm2, paper"):
        sk.get_profile("fast")
    with pytest.raises(ValueError, match="pico on kuhn"):
        sk.get_profile("smoke").plan("smollm2-135m", "kuhn")


def test_a_part_of_a_profile_is_chosen_by_models_and_games():
    quick = sk.get_profile("quick")
    assert quick.only(None, ["kuhn"]).batch() == [("smollm2-135m", "kuhn"), ("pico", "kuhn")]
    assert quick.only(["pico"], ["kuhn", "ipd"]).batch() == [("pico", "ipd"), ("pico", "kuhn")]
    assert quick.only().batch() == quick.batch()
    for chosen, said in (
        ((None, ["go"]), "runs no game 'go'; it runs: kuhn, ipd"),
        ((["gpt"], None), "runs no model 'gpt'"),
        (
            (["smollm2-135m"], ["ipd"]),
            "has none of these models on any of these games; it has: smollm2-135m on kuhn",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            quick.only(*chosen)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("quick,seed=1", "'seed=1' is no change of a profile; write one of seeds=..., steps=..., mode=..., "),
        ("quick,seeds", "'seeds' is no change"), ("quick,seeds=some", "'seeds=some' is no change"),
        ("quick,seeds=0", "seeds must be >= 1, got 0"), ("quick,mode=fair", "credit mode must be one of shared, "),
        ("quick,steps=-1", "steps must be"), ("fast,steps=1", "unknown profile 'fast'"),
        ("quick,steps=5,steps=7", "profile 'quick,steps=5,steps=7': steps is there twice; leave one of them out"),
    ],
)  # fmt: skip
def test_a_change_that_is_none_is_refused(name, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        get_profile(name)


def test_a_plan_is_changed_where_it_trains_sepo_and_nowhere_else():
    plan = get_profile("quick").plan("pico", "kuhn")
    changed = plan.changed(seeds=[5, 7], steps=3, limits={"exploit": 0.1}, learning_rate=1e-5)
    assert changed.seeds == (5, 7) and changed.sft == plan.sft and changed.evaluation == plan.evaluation
    assert (changed.sepo.steps, changed.worst_case.steps) == (3, 3)
    assert changed.worst_case.limits == {"exploit": 0.1} and changed.sepo.learning_rate == 1e-5
    assert plan.changed(seeds=[], mode=None, exploiters="", limits={}) == plan
    for seeds in ([-1], [True], [1.5], [2, 2], [2**32]):
        with pytest.raises(ValueError, match="seeds must "):
            plan.changed(seeds=seeds)
