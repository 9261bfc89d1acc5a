"""Recorded training episodes: what a saved step trained on, bounded, whole or not at all, and without effect."""

import numpy as np
import pandas as pd
import pytest

import sepo_kit as sk
from sepo_kit.engine.episode import decision_frame
from sepo_kit.engine.rollout import play_matches
from sepo_kit.objective.credit import MODES, assign_credit, training_matches
from sepo_kit.training import recording
from sepo_kit.training.grpo import train_sepo
from sepo_kit.training.recording import ROLLOUTS, record_episodes
from sepo_kit.training.settings import SEPOSettings

SETTINGS = SEPOSettings(steps=3, rollouts=2, groups=2, learning_rate=1e-2, beta=0.1, lora_r=4, save_every=2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("game", ["ipd", "kuhn"])
def test_a_record_holds_the_credit_of_its_decisions(tmp_path, game, mode):
    game = sk.get_game(game)
    rollouts = ROLLOUTS + 2
    episodes = play_matches(game, sk.uniform(game), training_matches(game, mode, rollouts, groups=2), seed=1)
    credit = assign_credit(game.spec, episodes, mode=mode)
    file = record_episodes(tmp_path, 25, episodes, credit)
    assert file == tmp_path / "episodes" / "step-000025.parquet"
    found = pd.read_parquet(file)
    every = decision_frame(episodes).assign(
        advantage=credit.advantage, reward=credit.reward, trained=credit.trained,
        own_match=[e.owner is None for e in episodes for _ in e.decisions],
    )  # fmt: skip
    wanted = every[every["own_match"] & (every["group"] == 0) & (every["index"] < ROLLOUTS)]
    for column in ("pool", "opponent", "round", "action", "reward", "advantage", "trained", "own"):
        assert found[column].tolist() == wanted[column].tolist(), column
    assert (found["step"] == 25).all()
    assert found.groupby(["pool", "opponent"])["index"].nunique().max() == ROLLOUTS


def test_training_records_its_saved_steps_and_nothing_else(tmp_path, tiny_folder):
    run = train_sepo(tiny_folder, "kuhn", tmp_path / "run", SETTINGS, seed=5)
    files = sorted((run.path / "episodes").iterdir())
    names = [
        "step-000002.parquet",
        "step-000002.rounds.parquet",
        "step-000003.parquet",
        "step-000003.rounds.parquet",
    ]
    assert [file.name for file in files] == names
    files = files[::2]
    game = sk.get_game("kuhn")
    for step, file in ((2, files[0]), (3, files[1])):
        found = pd.read_parquet(file)
        # Recorded are the episodes of that very step: the credit of a decision follows from the record alone.
        assert set(found["seed"]) == {5} and set(found["step"]) == {step}
        assert set(zip(found["pool"], found["opponent"], strict=True)) == set(game.opponents[:5])
        train = found[found["pool"] == "train"]
        np.testing.assert_allclose(
            train["reward"], game.spec.scale * train["own"] / (3 * game.spec.rounds), atol=1e-12
        )


def test_recording_does_not_touch_training(tmp_path, tiny_folder, monkeypatch):
    from safetensors.torch import load_file

    with_record = train_sepo(tiny_folder, "kuhn", tmp_path / "with", SETTINGS)
    monkeypatch.setattr(recording, "record_episodes", lambda *_: None)
    without = train_sepo(tiny_folder, "kuhn", tmp_path / "without", SETTINGS)
    assert not (without.path / "episodes").exists()
    one, other = (
        load_file(run.path / "adapter" / "adapter_model.safetensors") for run in (with_record, without)
    )
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


def test_the_other_seat_is_recorded_without_credit(tmp_path):
    """Rows of both seats stand in one table, and each of the agent's keeps the credit that is its own."""
    game = sk.get_game("kuhn")
    agent = sk.scripted(game, "uniform")
    opponents = {name: sk.tabular(game, {}, name=name) for _, name in game.opponents}
    for policy in opponents.values():
        policy.distributions = agent.distributions
    episodes = play_matches(
        game, agent, training_matches(game, "credited", 3, 2), seed=1, opponents=opponents
    )
    credit = assign_credit(game.spec, episodes)
    found = pd.read_parquet(record_episodes(tmp_path, 25, episodes, credit))
    places = [e.group == 0 for e in episodes for _ in e.decisions]
    mine, theirs = (found[found["seat"] == seat] for seat in (0, 1))
    for name in ("advantage", "reward"):
        assert mine[name].tolist() == getattr(credit, name)[places].tolist()
        assert theirs[name].isna().all()
    assert mine["trained"].all() and not theirs["trained"].any()
    assert len(theirs) == sum(len(e.answers) for e in episodes if e.group == 0) > 0
