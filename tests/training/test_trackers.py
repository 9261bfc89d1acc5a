"""Trackers get the kit's curves under the kit's keys, and matches to read; without being asked there are none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trackio
import trackio.sqlite_storage
import trackio.utils
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trackio.sqlite_storage import SQLiteStorage

from sepo_kit.engine.policy import scripted
from sepo_kit.engine.rollout import Match, play_matches
from sepo_kit.games import get_game
from sepo_kit.runs import METRICS, read_lines
from sepo_kit.training import trackers
from sepo_kit.training.grpo import train_sepo
from sepo_kit.training.settings import SEPOSettings, SFTSettings
from sepo_kit.training.sft import train_sft

SETTINGS = SEPOSettings(
    steps=2, rollouts=2, learning_rate=1e-2, beta=0.0, temperature=1.5, lora_r=4, lora_alpha=8, save_every=2
)
pytestmark = pytest.mark.filterwarnings("ignore:the exploit penalty was the same")


def test_tensorboard_has_the_numbers_of_the_metrics_and_some_matches(tiny_folder, tmp_path):
    made = replace(SETTINGS, report_to=["tensorboard"])
    run = train_sepo(tiny_folder, "kuhn", tmp_path / "run", made)
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    rows = read_lines(run.path / METRICS)
    for key in ("sepo/payoff", "sepo/safety", "sepo/worst_case"):
        assert [e.value for e in events.Scalars(f"train/{key}")] == pytest.approx([row[key] for row in rows])
    told = [tag for tag in events.Tags()["tensors"] if tag.startswith("train/match/")]
    assert len(told) == 3
    text = events.Tensors(told[0])[0].tensor_proto.string_val[0].decode()
    assert text.startswith("1. ") and "agent " in text and "opponent " in text
    assert "report_to" not in run.request["settings"]  # another tracker, the same run
    assert train_sepo(tiny_folder, "kuhn", tmp_path / "run", SETTINGS).done
    assert not (train_sepo(tiny_folder, "kuhn", tmp_path / "quiet", SETTINGS).path / "tensorboard").exists()


def test_trackio_keeps_them_on_this_machine(tiny_folder, tmp_path, monkeypatch):
    (tmp_path / "trackio").mkdir()
    for module in (trackio, trackio.utils, trackio.sqlite_storage):  # which read $TRACKIO_DIR once
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    settings = SFTSettings(
        records=8, epochs=1, learning_rate=1e-3, lora_r=4, lora_alpha=8, report_to=("trackio",)
    )
    train_sft(tiny_folder, "kuhn", tmp_path / "run", settings)
    name = "/".join((tmp_path / "run").parts[-3:])
    told = [row for row in SQLiteStorage.get_logs("sepo_kit", name) if "train/loss" in row]
    kept = read_lines(tmp_path / "run" / METRICS)
    assert [row["train/loss"] for row in told] == pytest.approx([row["loss"] for row in kept])


def test_a_match_is_told_move_by_move():
    game = get_game("ipd")
    (episode,) = play_matches(game, scripted(game, "tit-for-tat"), [Match("train", "always-defect", 0)], 0)
    episode.decisions[1].reply = "It defected.\nDEFECT"
    lines = trackers.as_text(game, episode).split("\n\n")
    assert lines[0] == "1. agent COOPERATE, opponent DEFECT (0 to 5)"
    assert lines[1:3] == ["2. agent DEFECT, opponent DEFECT (1 to 1)", "   > It defected.\nDEFECT"]
    assert len(lines) == 9


def test_an_unknown_tracker_and_one_that_is_not_installed_are_one_line_each(tiny_folder, tmp_path):
    with pytest.raises(ValueError, match="report_to must be a list with some of tensorboard, trackio, wandb"):
        replace(SETTINGS, report_to=("comet",))
    with pytest.raises(ValueError, match="wandb is not installed: pip install wandb"):
        train_sepo(tiny_folder, "kuhn", tmp_path / "run", replace(SETTINGS, report_to=("wandb",)))
    assert not (tmp_path / "run").exists()
