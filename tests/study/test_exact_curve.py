"""The exact curve of a run: healed where a crash cut a line, each step once."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import toys

from sepo_kit.engine.policy import uniform
from sepo_kit.games import get_game, kuhn
from sepo_kit.runs import append_line
from sepo_kit.study import exact_curve
from sepo_kit.study.exact_curve import EXACT_CURVE, ExactCurve, judged, read_exact_curve


@pytest.mark.parametrize("step", [0, 2])
def test_a_line_cut_short_by_a_crash_is_not_continued(tmp_path, monkeypatch, step):
    curve = ExactCurve(get_game("kuhn"), tmp_path, 0.8, 2)
    monkeypatch.setattr(
        curve, "_write", lambda state, *_: append_line(curve.path, {"step": state.global_step, "safety": 1.0})
    )
    if step:
        (tmp_path / EXACT_CURVE).write_text(
            '{"step": 0, "safety": 0.5}\n{"step": 4, "safety": 0.25}\n{"step": 6, "sa'
        )
    for now in (step, step + 2):
        state = SimpleNamespace(is_world_process_zero=True, global_step=now, max_steps=9)
        (curve.on_train_begin if now == step else curve.on_step_end)(None, state, None)
    found = read_exact_curve(tmp_path)
    assert found["step"].to_list() == ([0, 2, 4] if step else [0, 2])
    assert found["safety"].to_list() == ([0.5, 1.0, 1.0] if step else [1.0, 1.0])


def test_a_run_that_goes_on_between_two_rows_has_those_of_an_undisturbed_one(tmp_path, monkeypatch):
    """It may have been saved at another step than it is judged at."""
    monkeypatch.setattr(exact_curve, "judged", lambda *_: {"safety": 1.0})
    monkeypatch.setattr(exact_curve, "LanguageModel", lambda *_, **__: None)
    monkeypatch.setattr(exact_curve, "evaluating", lambda _: nullcontext())
    for begins, ends in ((0, 27), (25, 45)):
        curve = ExactCurve(get_game("kuhn"), tmp_path, 0.8, 10)
        for now in range(begins, ends + 1):
            state = SimpleNamespace(is_world_process_zero=True, global_step=now, max_steps=45)
            (curve.on_train_begin if now == begins else curve.on_step_end)(None, state, None)
    assert read_exact_curve(tmp_path)["step"].to_list() == [0, 10, 20, 30, 40, 45]


def test_where_the_best_response_cannot_be_enumerated_it_is_searched_for(monkeypatch):
    """Two hands of which an adversary would have to remember the first."""
    game = toys.shorten(monkeypatch, kuhn, rounds=2)
    monkeypatch.setattr(type(game), "spec", replace(game.spec, independent_rounds=False))
    found = judged(game, uniform(game))
    assert found["worst_case"] > 0 and found["worst_case_upper"] is None
    assert found["guaranteed"] < found["safety"]
