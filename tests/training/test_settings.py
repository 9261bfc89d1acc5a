"""Settings are checked when they are made: one clear line, before anything is written."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from messages import message

from sepo_kit.games.base import Weights
from sepo_kit.training.settings import SEPOSettings, SFTSettings

SFT = SFTSettings(records=100, epochs=1.5, learning_rate=1e-4)
SEPO = SEPOSettings(steps=10, rollouts=4, learning_rate=1e-4, beta=0.1)

WHOLE = [
    *((SFT, name) for name in ("records", "batch", "accumulation", "max_length", "lora_r", "lora_alpha", "save_every")),
    *((SEPO, name) for name in ("steps", "rollouts", "groups", "max_new_tokens", "lora_r", "lora_alpha",
                                "save_every", "micro_rows", "pass_tokens")),
]  # fmt: skip
COUNTS = [*WHOLE, (SEPO, "renew_reference_every")]
POSITIVE = [
    *WHOLE, (SFT, "epochs"), (SFT, "learning_rate"),
    *((SEPO, name) for name in ("learning_rate", "temperature", "clip", "max_grad_norm")),
]  # fmt: skip
NOT_NEGATIVE = [(SFT, "lora_dropout"), (SFT, "warm_up"), (SEPO, "beta"), (SEPO, "lora_dropout"),
                (SEPO, "renew_reference_every"), (SEPO, "replies")]  # fmt: skip


@pytest.mark.parametrize(("settings", "name"), POSITIVE + NOT_NEGATIVE)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "3", None, True])
def test_numbers_must_be_finite_numbers(settings, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be a finite number, got {value!r}$"):
        replace(settings, **{name: value})


@pytest.mark.parametrize(("settings", "name"), POSITIVE)
@pytest.mark.parametrize("value", [0, -1])
def test_what_must_be_positive(settings, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be > 0, got {value}$"):
        replace(settings, **{name: value})


@pytest.mark.parametrize(("settings", "name"), NOT_NEGATIVE)
def test_what_may_be_zero(settings, name):
    assert getattr(replace(settings, **{name: 0}), name) == 0
    with pytest.raises(ValueError, match=rf"^{name} must be >= 0, got -0\.5$"):
        replace(settings, **{name: -0.5})


@pytest.mark.parametrize(("settings", "name"), COUNTS)
def test_counts_are_whole_numbers(settings, name):
    with pytest.raises(ValueError, match=rf"^{name} must be a whole number, got 2\.5$"):
        replace(settings, **{name: 2.5})


EVERY = [(settings, field.name) for settings in (SFT, SEPO) for field in fields(settings)]
# What is no mistake: what stands for the game's own, and what names nothing.
ALLOWED = {"horizon": [None], "weights": [None], "pools": [None], "limits": [{}], "report_to": [[]],
           "gradient_checkpointing": [True], "common_random_numbers": [True]}  # fmt: skip
ODD = [None, "", "x", True, [], ["x"], [None], {}, {"x": 1}, {1: 1, "x": 1}, object, b"x", float("nan")]


@pytest.mark.parametrize(("settings", "name"), EVERY, ids=lambda each: each if isinstance(each, str) else "")
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_every_setting_is_checked(settings, name, value):
    """Whatever its kind: one line that names the setting and says what it got."""
    if value in ALLOWED.get(name, []):
        replace(settings, **{name: value})
        return
    with pytest.raises(ValueError, match=rf"{name}.* must be .*, got .+") as error:
        replace(settings, **{name: value})
    message(error)


@pytest.mark.parametrize("settings", [SFT, SEPO])
def test_trackers_may_be_a_list_as_in_files(settings):
    assert replace(settings, report_to=["trackio"]).report_to == ("trackio",)


@pytest.mark.parametrize(
    ("settings", "name"), [(SFT, "lora_dropout"), (SFT, "warm_up"), (SEPO, "lora_dropout")]
)
def test_shares_are_below_one(settings, name):
    with pytest.raises(ValueError, match=f"^{name} must be < 1, got 1: it is a share$"):
        replace(settings, **{name: 1})


def test_replies_are_used_again_where_that_saves_something_and_credit_knows_it():
    reasoned = replace(SEPO, style="reasoned", replies=8)
    assert reasoned.replies == 8
    with pytest.raises(
        ValueError, match=r"^replies must be 0 or >= 2, got 1: a baseline needs another reply$"
    ):
        replace(reasoned, replies=1)
    for changes in ({"style": "direct"}, {"mode": "grouped"}):
        with pytest.raises(ValueError, match="replies=8 needs style='reasoned' and mode='credited'"):
            replace(reasoned, **changes)


def test_a_reference_is_renewed_only_where_it_pulls():
    assert replace(SEPO, renew_reference_every=20).renew_reference_every == 20
    with pytest.raises(
        ValueError, match=r"^renew_reference_every=20 needs beta > 0, got beta=0\.0: without it"
    ):
        replace(SEPO, renew_reference_every=20, beta=0.0)


@pytest.mark.parametrize("settings", [SFT, SEPO])
def test_unknown_style(settings):
    with pytest.raises(ValueError, match="reply style must be one of direct, reasoned, got 'terse'"):
        replace(settings, style="terse")


def test_sepo_needs_another_rollout_a_known_mode_and_true_weights():
    with pytest.raises(ValueError, match="rollouts must be >= 2, got 1: a baseline needs another rollout"):
        replace(SEPO, rollouts=1)
    with pytest.raises(ValueError, match="credit mode must be one of shared, auxiliary, grouped, credited"):
        replace(SEPO, mode="ppo")
    with pytest.raises(ValueError, match="weights must be a Weights or None for the game's own, got"):
        replace(SEPO, weights={"exploit": 1.0, "collusion": 0.0, "externality": 0.0})


def test_the_request_is_plain_and_tells_settings_apart():
    weighted = replace(SEPO, weights=Weights(1, 2, 3))
    assert weighted.as_request()["weights"] == {"exploit": 1.0, "collusion": 2.0, "externality": 3.0}
    assert weighted.as_request() != SEPO.as_request()
    assert SFT.as_request()["epochs"] == 1.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": "forever"}, "horizon must be one of round, return-to-go, got 'forever'"),
        ({"common_random_numbers": 1}, "common_random_numbers must be True or False, got 1"),
        (
            {"limits": {"greed": 0.1}},
            "limits must be on exploit, collusion, externality, worst_case, got 'greed'",
        ),
        ({"limits": {"exploit": -1.0}}, r"limits\['exploit'\] must be >= 0"),
        ({"limits": {"exploit": 0.1}, "dual_rate": 0.0}, "dual_rate must be > 0, got 0.0"),
    ],
)
def test_credit_and_limits_are_checked_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SEPO, **changes)


@pytest.mark.parametrize("name", ["learning_rate", "lora_alpha", "beta", "clip", "temperature"])
def test_numbers_that_float32_cannot_take_are_refused(name):
    value = 10**7 if name == "lora_alpha" else 1e7
    for settings in (each for each in (SFT, SEPO) if hasattr(each, name)):
        with pytest.raises(ValueError, match=rf"^{name} must be <= 1e\+06, got {value}$"):
            replace(settings, **{name: value})


def test_a_temperature_that_scores_cannot_be_divided_by_is_refused():
    assert replace(SEPO, temperature=1e-6).temperature == 1e-6
    with pytest.raises(ValueError, match=r"^temperature must be >= 1e-06, got 1e-40$"):
        replace(SEPO, temperature=1e-40)
