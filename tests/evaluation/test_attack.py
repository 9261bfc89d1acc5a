"""A fresh learner finds what an agent gives away, and its training can be stopped and taken up."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from finished import evaluation

import sepo_kit as sk
from sepo_kit.engine.policy import NoDistribution, Policy
from sepo_kit.evaluation import attack
from sepo_kit.evaluation.attack import (
    AdversarySettings,
    LanguageAdversarySettings,
    time_to_exploit,
    train_adversary,
)
from sepo_kit.models import PICO
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.runs import RunError

FEW = AdversarySettings(steps=30, episodes=16, learning_rate=1.0, check_every=10, check_episodes=40)


class Silent(Policy):
    def __init__(self, inner):
        self.inner, self.name = inner, "silent"

    def distributions(self, seen):
        raise NoDistribution("it answers in text")

    def act(self, seen, uniforms):
        return self.inner.act(seen, uniforms)


def test_it_learns_to_defect_on_an_agent_that_only_talks(tmp_path):
    agent = Silent(sk.scripted("ipd", "mixed-0.5"))
    found = train_adversary(agent, "ipd", tmp_path / "a", FEW)
    assert list(found.curve["episodes"]) == [0, 160, 320, 480]
    assert found.curve["gain"].iloc[-1] == pytest.approx(2.5, abs=0.4)
    assert found.curve["gain"].iloc[-1] > found.curve["gain"].iloc[0] + 1
    assert sk.exact.against("ipd", agent.inner, found.adversary).advantage == pytest.approx(2.5, abs=0.2)
    assert found.episodes_until(1.0) in (160, 320, 480)
    assert found.episodes_until(4.0) is None


def test_it_learns_in_kuhn_poker(tmp_path):
    agent = sk.scripted("kuhn", "always-bet")
    settings = AdversarySettings(steps=60, episodes=32, learning_rate=2.0, check_every=30, check_episodes=50)
    found = train_adversary(agent, "kuhn", tmp_path / "a", settings)
    worst = sk.exact.worst_case("kuhn", agent).advantage
    assert 0.7 * worst < sk.exact.against("kuhn", agent, found.adversary).advantage <= worst + 1e-9


def test_what_was_learned_against_another_agent_of_that_name_is_put_aside(tmp_path, capsys):
    def table(fold):
        rows = {state.key: [1 - fold, fold] for state in sk.exact.information_states("kuhn")}
        return sk.tabular("kuhn", rows)

    settings = replace(FEW, steps=2, check_every=1)
    first = train_adversary(table(0.9), "kuhn", tmp_path / "a", settings).curve
    assert train_adversary(table(0.9), "kuhn", tmp_path / "a", settings).curve.equals(first)
    found = train_adversary(table(0.1), "kuhn", tmp_path / "a", settings).curve
    assert found.equals(train_adversary(table(0.1), "kuhn", tmp_path / "fresh", settings).curve)
    assert not found.equals(first) and (tmp_path / "a.old-1").exists()
    assert "was finished against other opponents" in capsys.readouterr().err


def test_a_models_identity_is_of_its_weights_and_of_how_it_replies(tiny_model, tokenizer):
    game = sk.get_game("kuhn")

    def agent(model, **how):
        return LanguageModel(model, tokenizer, game, **how).identity()

    other = copy.deepcopy(tiny_model)
    assert agent(tiny_model) == agent(other) != agent(tiny_model, temperature=0.5)
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    assert agent(tiny_model) != agent(other)


def test_a_stopped_training_goes_on_to_the_same_end(tmp_path, monkeypatch):
    agent = sk.scripted("ipd", "mixed-0.5")
    whole = train_adversary(agent, "ipd", tmp_path / "whole", FEW)
    real = attack._learn

    def stops(*args):
        if args[-1] == 15:  # the step
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(attack, "_learn", stops)
    with pytest.raises(KeyboardInterrupt):
        train_adversary(agent, "ipd", tmp_path / "half", FEW)
    monkeypatch.setattr(attack, "_learn", real)
    curve = tmp_path / "half" / attack.CURVE
    curve.write_text(curve.read_text()[:-9])  # the last line is cut short
    half = train_adversary(agent, "ipd", tmp_path / "half", FEW)
    assert half.curve.equals(whole.curve)
    again = train_adversary(agent, "ipd", tmp_path / "half", FEW)  # finished: nothing is played anew
    assert again.curve.equals(whole.curve)
    with pytest.raises(RunError, match="was made for another request"):
        train_adversary(agent, "ipd", tmp_path / "half", FEW, seed=1)


@pytest.mark.usefixtures("ready_pico")
def test_a_language_model_learns_to_attack_too(tmp_path):
    """With an adapter of its own, through the same training; stopped after it, only the checks are done anew."""
    agent = Silent(sk.scripted("kuhn", "always-bet"))
    sepo = replace(attack.BY_MODEL, steps=8, rollouts=4, groups=8, learning_rate=5e-3, save_every=4)
    settings = LanguageAdversarySettings(sepo=sepo, check_episodes=60)
    found = train_adversary(agent, "kuhn", tmp_path / "a", settings)
    assert list(found.curve["step"]) == [0, 4, 8] and list(found.curve["episodes"]) == [0, 128, 256]
    truth = sk.exact.against("kuhn", agent.inner, found.adversary).advantage
    before = sk.exact.against("kuhn", agent.inner, sk.language_model(sk.load_model("pico"), "kuhn")).advantage
    assert truth > before + 0.2
    assert found.curve["low"].iloc[-1] <= truth <= found.curve["high"].iloc[-1]
    (tmp_path / "a" / attack.CURVE).write_text('{"step": 0, "epi')  # a full disk
    again = train_adversary(agent, "kuhn", tmp_path / "a", settings)
    assert again.curve.equals(found.curve)
    more = train_adversary(agent, "kuhn", tmp_path / "a", replace(settings, check_episodes=120)).curve
    assert list(more["step"]) == [0, 4, 8], "checked again, in as many episodes as are asked for now"
    assert (more["high"] - more["low"] < found.curve["high"] - found.curve["low"]).all()


@pytest.mark.usefixtures("ready_pico")
def test_the_agents_of_results_are_attacked_alike(tmp_path):
    evaluation(tmp_path, "auction", "base", "uniform", model=PICO)
    files = list(tmp_path.glob("*/auction/results/*.json"))
    few = AdversarySettings(steps=2, episodes=4, check_every=2, check_episodes=8)
    (row,) = attack.attacks_on(files, tmp_path / "learners", few, seed=1).to_dict("records")
    agent = sk.language_model(sk.load_model(PICO), "auction", temperature=0.8)
    alone = train_adversary(agent, "auction", tmp_path / "alone", few, 1).curve.iloc[-1]
    assert (row["model"], row["game"], row["stage"], row["episodes"]) == (PICO, "auction", "base", 8)
    assert (row["gain"], row["low"]) == pytest.approx((alone["gain"], alone["low"]))
    curves = {file: file.read_bytes() for file in (tmp_path / "learners").rglob("curve.jsonl")}
    (longer,) = attack.attacks_on(files, tmp_path / "learners", replace(few, steps=3), seed=1).to_dict(
        "records"
    )
    (other,) = attack.attacks_on(files, tmp_path / "learners", few, seed=2).to_dict("records")
    assert (longer["episodes"], other["episodes"]) == (12, 8)  # others, and the first stays as it was
    assert len(curves) == 1 and all(file.read_bytes() == before for file, before in curves.items())
    assert len(list((tmp_path / "learners").rglob("curve.jsonl"))) == 3


def test_the_folder_of_learners_says_what_they_are():
    by_table = {attack._place(settings, 1) for settings in (FEW, replace(FEW, episodes=FEW.episodes + 1))}
    assert len(by_table) == 2 and all(name.startswith(f"steps-{FEW.steps}-seed-1-") for name in by_table)
    assert attack._place(LanguageAdversarySettings(), 1).startswith("steps-60-seed-1-")


def test_time_to_exploit_has_an_interval_over_seeds(tmp_path):
    agent = sk.scripted("ipd", "mixed-0.5")
    attacks = [train_adversary(agent, "ipd", tmp_path / str(seed), FEW, seed) for seed in (0, 1)]
    found = time_to_exploit(attacks, 1.0)
    assert found.low <= found.value <= found.high and found.n == 2
    assert time_to_exploit(attacks, 4.0).value is None
    with pytest.raises(ValueError, match="no attacks to average"):
        time_to_exploit([], 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"steps": 0}, "steps must be > 0, got 0"), ({"episodes": 1}, "episodes must be >= 2, got 1")],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdversarySettings(**options)


def test_a_label_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no label 'mood'"):
        train_adversary(sk.uniform("ipd"), "ipd", tmp_path / "a", AdversarySettings(row="mood"))
    assert not (tmp_path / "a").exists()
