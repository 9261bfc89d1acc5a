"""Settings that travel as a file: nothing is lost on the way, and every mistake is one line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sepo_kit.games import Weights
from sepo_kit.games.base import Pools
from sepo_kit.pipeline.profiles import PROFILES
from sepo_kit.pipeline.settings_file import changed, read_settings, write_settings
from sepo_kit.training.settings import SEPOSettings, SFTSettings

SEPO = {"steps": 3, "rollouts": 4, "learning_rate": 1e-3, "beta": 0.1}


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_the_settings_of_every_plan_come_back(profile, tmp_path):
    for plan in profile.plans:
        weighed = replace(plan.sepo, weights=Weights(1, 0.5, 2), limits={"exploit": 0.1}, beta=0.25)
        pools = Pools(("nash",), ("self",), (), ())
        seated = replace(plan.sepo, pools=pools, report_to=("tensorboard",))
        for settings in (plan.sft, plan.sepo, weighed, seated):
            write_settings(tmp_path / "settings.json", settings)
            assert read_settings(tmp_path / "settings.json", type(settings)) == settings


def test_what_is_left_out_is_the_default(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps(SEPO))
    assert read_settings(tmp_path / "settings.json", SEPOSettings) == SEPOSettings(**SEPO)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {**SEPO, "stepz": 3, "lr": 1},
            r"unknown setting lr, stepz; known: rollouts, groups, mode, ",
        ),
        ({"steps": 3, "beta": 1}, "rollouts, learning_rate missing"),
        ({**SEPO, "steps": "3"}, "steps must be a number, got '3'"),
        ({**SEPO, "steps": 2.5}, "steps must be a whole number, got 2.5"),
        ({**SEPO, "steps": True}, "steps must be a number, got True"),
        ({**SEPO, "steps": None}, "steps must be a number, got None"),
        ({**SEPO, "beta": -1}, "beta must be >= 0, got -1"),
        ({**SEPO, "pools": {"train": []}}, "pools must be an object with train, exploit, collusive, shift"),
        ({**SEPO, "report_to": "wandb"}, "report_to must be a list with some of tensorboard, trackio, wandb"),
        ({**SEPO, "gradient_checkpointing": "no"}, "gradient_checkpointing must be true or false, got 'no'"),
        ({**SEPO, "style": 3}, "style must be a text, got 3"),
        ({**SEPO, "style": "rude"}, "rude"),
        ({**SEPO, "mode": "best"}, "best"),
        ({**SEPO, "horizon": 1}, "horizon must be a text or null, got 1"),
        (
            {**SEPO, "weights": [1, 2, 3]},
            "weights must be an object with exploit, collusion and externality or null",
        ),
        (
            {**SEPO, "weights": {"exploit": 1}},
            "weights must be an object with exploit, collusion and externality",
        ),
        (
            {**SEPO, "weights": {"exploit": -1, "collusion": 0, "externality": 0}},
            "weights.exploit must be >= 0",
        ),
        ({**SEPO, "limits": 3}, "limits must be an object, got 3"),
        ([1], "must hold an object with the fields of SEPOSettings"),
    ],
)
def test_every_mistake_is_one_line_that_names_the_file(tmp_path, values, said):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=said) as error:
        read_settings(file, SEPOSettings)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_settings_of_the_other_stage_are_refused(tmp_path):
    write_settings(tmp_path / "sft.json", SFTSettings(records=1, epochs=1, learning_rate=1e-3))
    with pytest.raises(ValueError, match="unknown setting accumulation, batch, epochs"):
        read_settings(tmp_path / "sft.json", SEPOSettings)


@pytest.mark.parametrize("text", [None, "{", ""])
def test_a_file_that_is_missing_or_broken_is_one_line(tmp_path, text):
    if text is not None:
        (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match=r"settings\.json is (missing|not valid JSON)"):
        read_settings(tmp_path / "settings.json", SEPOSettings)


# --- from the command line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (
            {"steps": "60", "mode": "shared", "exploiters": "worst-case", "learning_rate": "1e-4"},
            {"steps": 60, "mode": "shared", "exploiters": "worst-case", "learning_rate": 1e-4},
        ),
        ({"limits": '{"exploit": 0.1}'}, {"limits": {"exploit": 0.1}}),
        ({"weights": "{exploit: 1, collusion: 0, externality: 2}"}, {"weights": Weights(1, 0, 2)}),
        ({"weights": "none", "horizon": "None"}, {"weights": None, "horizon": None}),
        ({"horizon": "round", "common_random_numbers": "false"}, {"horizon": "round", "common_random_numbers": False}),
        ({"report_to": "tensorboard,wandb"}, {"report_to": ("tensorboard", "wandb")}),
    ],
)  # fmt: skip
def test_settings_can_be_changed_by_words(given, values):
    before = SEPOSettings(**SEPO, weights=Weights(1, 1, 1))
    assert changed(before, given) == replace(before, **values)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stepz": "3"}, "unknown setting stepz; known: rollouts, groups, mode, "),
        ({"steps": "many"}, "steps must be a whole number, got 'many'"),
        ({"steps": "None"}, "steps must be a whole number, got 'None'"),
        ({"steps": "-1"}, "steps must be > 0, got -1"),
        ({"common_random_numbers": "no"}, "common_random_numbers must be True or False, got 'no'"),
        ({"limits": "0.1"}, "limits must be an object, as in {\"exploit\": 0.1}, got '0.1'"),
        ({"weights": '{"exploit": 1}'}, "weights must be an object with exploit, collusion and externality"),
        ({"report_to": "paper"}, "report_to must be a list with some of tensorboard"),
        ({"mode": "odd"}, "odd"),
    ],
)
def test_what_no_setting_can_be_is_refused_by_name(given, said):
    with pytest.raises(ValueError) as error:
        changed(SEPOSettings(**SEPO), given)
    assert said in str(error.value) and "\n" not in str(error.value)
