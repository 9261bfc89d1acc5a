"""The penalty lab without a browser: its controls are moved in Python, and what it shows is what the library says."""

from __future__ import annotations

import html
import io
import re
import shlex
from copy import copy
from pathlib import Path

import nbformat
import numpy as np
import pytest
from finished import evaluation
from PIL import Image

import sepo_kit as sk
from sepo_kit.cli import parser
from sepo_kit.evaluation.contenders import scripted, stored
from sepo_kit.evaluation.reference import reference
from sepo_kit.evaluation.reweigh import ranking
from sepo_kit.pipeline.notebooks import NOTEBOOKS, check_parameters, find_notebook
from sepo_kit.pipeline.parameters import split_pairs
from sepo_kit.widgets.lab import ALL, NONE, PenaltyLab
from sepo_kit.widgets.table import Table
from sepo_kit.widgets.weight_slider import LOG_STEPS, WeightSlider

CELL = re.compile(r'data-agent="([^"]*)" data-metric="([^"]*)" data-value="([^"]*)"')
HOSTILE = "<img src=x onerror=alert(1)>$\\frac{1}{0}$"


def shown(lab) -> dict[tuple[str, str], float]:
    """The numbers of the lab's table by agent and metric."""
    return {
        (html.unescape(agent), metric): float(value) for agent, metric, value in CELL.findall(lab.table.value)
    }


def computed(lab, contenders) -> dict[tuple[str, str], float]:
    """The same from the library."""
    ranked = ranking(lab.spec, contenders, lab.weights)
    return {(row["agent"], "safety"): row["safety"] for row in ranked.to_dict("records")}


def assert_right(lab, contenders):
    numbers = shown(lab)
    expected = computed(lab, contenders)
    assert {key: value for key, value in numbers.items() if key[1] == "safety"} == expected


@pytest.fixture
def runs(tmp_path):
    evaluation(tmp_path / "quick", "ipd", "base", "uniform")
    evaluation(tmp_path / "quick", "ipd", "sepo", "tit-for-tat", 0)
    evaluation(tmp_path / "mine", "kuhn", "sepo", "nash", 0, exact=True)
    return tmp_path


@pytest.fixture
def empty(tmp_path):
    return PenaltyLab(tmp_path / "none")


def test_it_opens_at_the_games_evaluation_weights_with_every_agent(runs):
    lab = PenaltyLab(runs, "ipd", "quick")
    assert lab.weights == sk.get_game("ipd").spec.eval_weights
    assert_right(lab, [*scripted("ipd"), *stored([runs / "quick"], "ipd").contenders])
    assert ("pico SEPO", "safety") in shown(lab) and ("tit-for-tat", "safety") in shown(lab)
    assert "2 trained agents, " in lab.says.value and " stored decisions" in lab.says.value


def test_moving_a_slider_moves_all_numbers_and_all_pictures(runs):
    lab = PenaltyLab(runs, "ipd", "quick")
    contenders = [*scripted("ipd"), *stored([runs / "quick"], "ipd").contenders]
    for name, value in (("exploit", 0.4), ("collusion", 3.05), ("externality", 7.0)):
        before = (lab.table.value, lab.flips.value, *(p.value for p in lab.pictures.values()))
        lab.sliders[name].linear.value = value
        after = (lab.table.value, lab.flips.value, *(p.value for p in lab.pictures.values()))
        assert all(old != new for old, new in zip(before, after, strict=True))
        assert getattr(lab.weights, name) == value
        assert_right(lab, contenders)


def test_the_table_shows_what_is_guaranteed_and_follows_the_exploit_weight(empty):
    ranked = ranking(empty.spec, scripted("ipd"), empty.weights).set_index("agent")
    assert shown(empty)["tit-for-tat", "worst_case"] == ranked.loc["tit-for-tat", "worst_case"] == 0.625
    before = shown(empty)["tit-for-tat", "guaranteed"]
    empty.sliders["exploit"].linear.value = empty.weights.exploit + 1
    assert shown(empty)["tit-for-tat", "guaranteed"] == pytest.approx(before - 0.625)
    empty.game.value = "auction"
    assert np.isnan(shown(empty)["fictitious-play", "worst_case"])
    assert text_of(empty, "fictitious-play", "worst_case") == "–"


def text_of(lab, agent: str, metric: str) -> str:
    """What a cell of the lab's table reads."""
    return re.search(rf'data-agent="{agent}" data-metric="{metric}"[^>]*>([^<]*)<', lab.table.value)[1]


def test_a_moved_picture_is_the_one_a_new_lab_draws(tmp_path):
    moved = PenaltyLab(tmp_path)
    moved.sliders["exploit"].linear.value = 5.0
    moved.sliders["externality"].linear.value = 0.5
    new = PenaltyLab(tmp_path, weights=sk.Weights(5.0, 1.0, 0.5))
    for name, picture in moved.pictures.items():
        one, two = (np.asarray(Image.open(io.BytesIO(p.value))) for p in (picture, new.pictures[name]))
        np.testing.assert_array_equal(one, two, err_msg=name)


def test_the_log_scale_keeps_the_weights_and_reaches_further(empty):
    empty.log_scale.value = True
    assert empty.weights == sk.get_game("ipd").spec.eval_weights  # all of them are steps of the scale
    empty.sliders["collusion"].steps.value = 100.0
    assert empty.weights.collusion == 100.0
    assert_right(empty, scripted("ipd"))
    empty.log_scale.value = False
    assert empty.weights.collusion == 10.0
    assert_right(empty, scripted("ipd"))


def test_every_default_weight_is_on_both_scales():
    for game in sk.GAMES.values():
        for weights in (game.spec.weights, game.spec.eval_weights):
            for value in vars(weights).values():
                slider = WeightSlider("exploit", value)
                slider.log_scale = True
                assert slider.value == value
    assert sorted(set(LOG_STEPS)) == list(LOG_STEPS)


def test_a_weight_beyond_the_linear_scale_is_kept(tmp_path):
    lab = PenaltyLab(tmp_path, weights=sk.Weights(20, 1, 1))
    assert lab.weights == sk.Weights(20, 1, 1) and lab.sliders["exploit"].linear.value == 20
    assert_right(lab, scripted("ipd"))
    lab.sliders["collusion"].value = 30.0
    assert lab.weights.collusion == 30.0
    lab.log_scale.value = True
    assert lab.weights == sk.Weights(20, 30, 1)
    lab.reset.click()
    assert lab.weights == lab.spec.eval_weights


def test_another_game_has_its_own_weights_and_agents(runs):
    lab = PenaltyLab(runs, "ipd", "mine")
    assert "mine has no finished evaluation of Iterated prisoner&#x27;s dilemma yet" in lab.says.value
    lab.sliders["exploit"].linear.value = 9.0
    lab.game.value = "kuhn"
    assert lab.weights == sk.get_game("kuhn").spec.eval_weights
    assert_right(lab, [*scripted("kuhn"), *stored([runs / "mine"], "kuhn").contenders])
    assert "per hand (chips)" in lab.table.value


def test_the_run_picker_finds_folders_and_can_be_set_to_none(runs):
    lab = PenaltyLab(runs, "ipd")
    assert list(lab.run.options) == [ALL, "mine", "quick", NONE]
    assert lab.run.value == ALL
    lab.run.value = NONE
    assert_right(lab, scripted("ipd"))
    lab.run.value = "quick"
    assert ("pico base", "safety") in shown(lab)


def test_the_notebook_opens_it_at_the_runs_of_a_changed_profile(tmp_path):
    root = tmp_path / "quick" / "mode=shared"
    evaluation(root, "ipd", "sepo", "tit-for-tat", 0)
    cells = {c.id: c.source for c in nbformat.read(NOTEBOOKS / "09_penalty_lab.ipynb", as_version=4).cells}
    told: dict = {}
    exec(cells["09-01"], told)
    told["runs"] = str(root)
    exec(cells["09-02"], told)
    exec(cells["09-14"], told)
    assert told["lab"].run.value == "quick,mode=shared" and ("pico SEPO", "safety") in shown(told["lab"])


def test_runs_that_are_not_there_are_not_taken_for_all_others(runs):
    assert PenaltyLab(runs, "ipd", run="quick").run.value == "quick"
    assert PenaltyLab(runs, "ipd", run="paper").run.value == NONE


def test_the_reset_button_brings_the_games_weights_back(empty):
    empty.sliders["exploit"].linear.value = 0.0
    empty.reset.click()
    assert empty.weights == empty.spec.eval_weights
    assert_right(empty, scripted("ipd"))


# --- the buttons ----------------------------------------------------------------------------------


def test_training_shows_what_the_weights_buy_and_weighs_it_with_the_others(empty):
    empty.sliders["collusion"].linear.value = 0.0
    empty.train.click()
    expected = reference("ipd", sk.Weights(2.4, 0.0, 1.8))
    assert f'data-objective="{expected.objective!r}"' in empty.trained_view.value
    assert f"Worst case: {expected.worst_case:.3f} points per round" in empty.trained_view.value
    assert "sepo-busy" not in empty.trained_view.value
    assert_right(empty, [*scripted("ipd"), expected.contender])
    empty.sliders["collusion"].linear.value = 4.0
    assert_right(empty, [*scripted("ipd"), expected.contender])
    empty.game.value = "kuhn"
    assert empty.trained_view.value == "" and not any("exact" in agent for agent, _ in shown(empty))


def test_a_game_too_large_to_train_exactly_says_so(monkeypatch, empty):
    monkeypatch.setattr("sepo_kit.evaluation.reference.QUICK_STATES", 10)
    empty.train.click()
    assert "too large to be enumerated in a moment" in empty.trained_view.value
    assert empty.trained is None


def test_the_commands_are_for_the_weights_and_go_when_those_move(empty):
    empty.sliders["exploit"].linear.value = 0.6
    empty.write.click()
    text = empty.commands.value
    assert "-p exploit_weight 0.6 -p collusion_weight 1 -p externality_weight 1.8" in text
    folder = empty.runs / "quick-e0.6-c1-x1.8"
    assert f"-p profile quick -p model pico -p game ipd -p runs {folder}" in text, (
        "where the lab will find it"
    )
    empty.sliders["exploit"].linear.value = 0.7
    assert empty.commands.value == ""


def test_the_commands_name_notebooks_and_parameters_that_exist(empty):
    empty.write.click()
    text = html.unescape(empty.commands.value.split('tabindex="0">')[1].removesuffix("</pre>"))
    assert ".venv" not in text, "which a project without a checkout has not"
    lines = [shlex.split(line) for line in text.splitlines()]
    assert len(lines) == 3
    for words in lines:
        assert words[0] == "sepo-kit"
        options = parser().parse_args(words[1:])
        given = split_pairs(options.p)
        check_parameters(find_notebook(options.name), given)
        assert options.output.is_relative_to(given["runs"])
        assert Path(given["runs"]).parent == empty.runs


def test_in_the_projects_own_runs_the_commands_name_their_folder_as_seen_from_there():
    lab = PenaltyLab()
    lab.write.click()
    assert "-p runs runs/quick-e" in lab.commands.value


# --- bad input ------------------------------------------------------------------------------------


def test_no_runs_is_a_friendly_line(empty):
    assert list(empty.run.options) == [NONE]
    assert "Scripted strategies only" in empty.says.value
    assert_right(empty, scripted("ipd"))


def test_broken_runs_are_friendly_lines_and_hide_nothing(runs):
    results = runs / "quick" / "pico" / "ipd" / "results"
    (results / "base.json").write_text("{")
    (results / "sft-seed-0.json").write_text('{"label": {}}')
    (results / "sepo-seed-0.parquet").unlink()
    lab = PenaltyLab(runs, "ipd", "quick")
    assert lab.says.value.count("sepo-message") == 3
    for words in ("not valid JSON", "not a result of this version", "no stored decisions to weigh"):
        assert words in lab.says.value
    assert "Traceback" not in lab.says.value
    assert_right(lab, scripted("ipd"))


def test_a_run_folder_that_goes_away_is_a_friendly_line(runs):
    lab = PenaltyLab(runs, "kuhn", "mine")
    (runs / "mine").rename(runs / "gone")
    lab.game.value = "ipd"
    assert "Those runs are gone" in lab.says.value
    assert_right(lab, scripted("ipd"))


def test_hostile_names_are_shown_as_text(tmp_path):
    evaluation(tmp_path / "quick", "kuhn", "base", "nash", model=HOSTILE.replace("/", ""), exact=True)
    lab = PenaltyLab(tmp_path, "kuhn", "quick")
    lab.train.click()
    assert any(agent.startswith("<img") for agent, _ in shown(lab))
    for view in (lab.table, lab.flips, lab.says, lab.trained_view):
        assert "<img" not in view.value
    assert all(Image.open(io.BytesIO(p.value)).width > 300 for p in lab.pictures.values())


def test_a_game_that_was_not_registered_is_an_error():
    own = copy(sk.get_game("ipd"))
    with pytest.raises(ValueError, match=r"^game 'ipd' is not registered; sk\.register\(GAME\) first$"):
        PenaltyLab(game=own)
    with pytest.raises(ValueError, match="is not registered"):
        Table(game=own)
    assert Table(game=sk.get_game("ipd")).game.value == "ipd"


def test_an_unknown_game_is_an_error():
    with pytest.raises(ValueError, match="known: ipd"):
        PenaltyLab(game="chess")
