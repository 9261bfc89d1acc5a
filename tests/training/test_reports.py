"""``report_to``: what the trackers are told is what the run folder keeps, and the run is the same without them."""

from __future__ import annotations

from dataclasses import replace

import pytest

import sepo_kit as sk
from sepo_kit.runs import METRICS, read_lines
from sepo_kit.training import reports, sft
from sepo_kit.training.demonstrations import demonstrations

SEPO = sk.SEPOSettings(
    steps=2, rollouts=2, learning_rate=1e-2, beta=0.0, lora_r=4, lora_alpha=8, save_every=1,
    report_to=("tensorboard", "trackio"),
)  # fmt: skip
SFT = sk.SFTSettings(
    records=8, epochs=1, learning_rate=1e-2, batch=4, accumulation=1, report_to="tensorboard"
)


@pytest.fixture(scope="module")
def run(tiny_folder, tmp_path_factory):
    return sk.train_sepo(tiny_folder, "kuhn", tmp_path_factory.mktemp("reported") / "sepo", SEPO)


def read(folder):
    """The events in a folder, read by TensorBoard itself."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    found.Reload()
    return found


def test_tensorboard_has_the_terms_the_worst_case_and_matches(run):
    found = read(run.path / "tensorboard")
    rows = read_lines(run.path / METRICS)
    for name in ("payoff", "exploit", "collusion", "externality", "safety", "worst_case", "guaranteed"):
        told = [(event.step, event.value) for event in found.Scalars(f"train/sepo/{name}")]
        assert told == [(row["step"], pytest.approx(row[f"sepo/{name}"], abs=1e-5)) for row in rows]
    texts = [e.tensor_proto.string_val[0].decode() for e in found.Tensors("matches/text_summary")]
    assert len(texts) == 2
    for opponent in sk.get_game("kuhn").spec.pools.train:
        assert f"**Against {opponent} (train pool)**" in texts[0]
    assert texts[0].count("- hand 6: ") == texts[0].count("**Against")
    assert texts[0] != texts[1]


def test_trackio_has_them_too(run):
    from trackio.sqlite_storage import SQLiteStorage

    (name,) = SQLiteStorage.get_runs(reports.PROJECT)
    assert name.startswith("SEPO kuhn ") and name.endswith("/sepo")
    logs = SQLiteStorage.get_logs(reports.PROJECT, name)
    told = [log["train/sepo/worst_case"] for log in logs if "train/sepo/worst_case" in log]
    assert told == pytest.approx([row["sepo/worst_case"] for row in read_lines(run.path / METRICS)])
    texts = [str(log[reports.MATCHES]) for log in logs if reports.MATCHES in log]
    assert len(texts) == 2 and "Against nash (train pool)" in texts[0]


def test_the_run_is_the_same_whoever_is_told_of_it(run, tiny_folder):
    assert "report_to" not in run.manifest["request"]["settings"]
    assert sk.train_sepo(tiny_folder, "kuhn", run.path, replace(SEPO, report_to=())).done


def test_a_warm_start_is_reported(tiny_folder, tmp_path, monkeypatch):
    few = demonstrations("kuhn", 100)
    monkeypatch.setattr(sft, "demonstrations", lambda game: few)
    run = sk.train_sft(tiny_folder, "kuhn", tmp_path / "sft", SFT)
    told = [event.value for event in read(run.path / "tensorboard").Scalars("train/loss")]
    assert told == pytest.approx([row["loss"] for row in read_lines(run.path / METRICS)], abs=1e-5)


def test_a_match_is_told_with_the_agents_words():
    game = sk.get_game("ipd")
    (episode,) = sk.play(game, sk.scripted(game, "tit-for-tat"), "always-defect", episodes=1)
    episode.decisions[1].reply = "It defected.\nDEFECT"
    text = reports.told(game, episode, 0, False)
    assert text.splitlines()[2] == "- round 1: agent COOPERATE, opponent DEFECT; 0 to 5"
    assert "- round 2: agent DEFECT (It defected. DEFECT), opponent DEFECT; 1 to 1" in text


@pytest.mark.parametrize("wrong", ["mlflow", ("trackio", "comet"), 3, None])
def test_unknown_trackers_are_refused(wrong):
    with pytest.raises(ValueError, match="report_to must be of tensorboard, trackio, wandb, or empty, got"):
        replace(SEPO, report_to=wrong)


def test_a_tracker_that_is_not_installed_is_said_before_anything_is_written(
    tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(reports, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match="report_to has 'wandb', which is not installed; run: pip install wandb"
    ):
        sk.train_sepo(tiny_folder, "kuhn", tmp_path / "run", replace(SEPO, report_to="wandb"))
    assert not (tmp_path / "run").exists()
