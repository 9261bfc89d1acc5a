"""What a run says it was made from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sepo_kit.games import get_game
from sepo_kit.games.base import Pools
from sepo_kit.models.loading import identity, load_model
from sepo_kit.runs import FORMAT, MANIFEST, WEIGHTS, Run, adapter_of, file_hash, outdated
from sepo_kit.training.request import model_hash, request_of
from sepo_kit.training.settings import SEPOSettings

SETTINGS = SEPOSettings(steps=1, rollouts=2, learning_rate=1e-3, beta=0.0)


def trained(run: Path, weights: str, step: int | None = None) -> None:
    adapter_of(run, step).mkdir(parents=True, exist_ok=True)
    (adapter_of(run, step) / WEIGHTS).write_text(weights)
    manifest = {"format": FORMAT, "status": "done", "request": {}}
    (run / MANIFEST).write_text(json.dumps(manifest))


def model(folder: Path, weights: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_text(weights)
    return folder


def request(folder: Path, *opponents: str) -> dict:
    settings = replace(SETTINGS, pools=Pools(train=("nash",), exploit=opponents, collusive=(), shift=()))
    return request_of("sepo", "pico", get_game("kuhn"), folder, settings, 0)


def test_a_request_is_as_the_manifest_holds_it(tmp_path):
    """Else whoever compares the two, pools by pools, sees another request in every old run."""
    asked = request(tmp_path / "mine", "always-bet")
    run = Run(tmp_path / "mine", {**asked, "code": "1"}, writes=True)
    assert asked == {**run.manifest["request"], "code": asked["code"]}
    assert "was begun by other code (1, now " in outdated(tmp_path / "mine", asked)


@pytest.mark.parametrize("step", [None, 2])
def test_a_run_against_a_run_that_was_trained_again_is_an_old_one(tmp_path, step):
    opponent, other, mine = tmp_path / "opponent", tmp_path / "other", tmp_path / "mine"
    named = (f"run:{other}", f"run:{opponent}" + ("" if step is None else f"@{step}"))
    trained(other, "one")
    trained(opponent, "one", step)
    Run(mine, request(mine, *named), writes=True).finish()
    assert outdated(mine, request(mine, *named)) is None
    trained(opponent, "two", step)
    assert "was finished against other runs (" in outdated(mine, request(mine, *named))
    shutil.rmtree(opponent)  # whoever it was
    assert outdated(mine, request(mine, *named)) is None


def test_a_run_against_a_model_that_was_exchanged_is_an_old_one(tmp_path):
    """And one from before models were told is what it was."""
    folder, mine = model(tmp_path / "model", "one"), tmp_path / "mine"
    asked = request(mine, f"model:{folder}", "model:pico")
    Run(mine, asked, writes=True).finish()
    assert outdated(mine, request(mine, f"model:{folder}", "model:pico")) is None
    model(folder, "two")
    assert "was finished against other models (" in outdated(
        mine, request(mine, f"model:{folder}", "model:pico")
    )
    asked.pop("models_sha256")
    Run(tmp_path / "old", asked, writes=True).finish()
    assert outdated(tmp_path / "old", request(mine, f"model:{folder}", "model:pico")) is None


def test_only_models_among_the_opponents_are_told(tmp_path):
    plain = request(tmp_path / "mine", "always-bet", "self", "model:pico")
    assert not {"pools_sha256", "models_sha256"} & plain.keys()
    trained(tmp_path / "opponent", "one")
    against = request(tmp_path / "mine", f"run:{tmp_path}/opponent")
    assert against.keys() - plain.keys() == {"pools_sha256"}
    against = request(tmp_path / "mine", f"model:{tmp_path}/opponent")
    assert against.keys() - plain.keys() == {"models_sha256"}
    with pytest.raises(ValueError, match=r"the step in run:.*@late must be a whole number"):
        request(tmp_path / "mine", f"run:{tmp_path}/opponent@late")


def test_a_base_is_told_by_what_a_chain_tells_it_by(tiny_folder, tmp_path, monkeypatch):
    assert model_hash(tiny_folder) == identity(load_model(tiny_folder))["sha256"]
    trained(tmp_path / "run", "one")
    assert model_hash(tmp_path / "run") == file_hash(adapter_of(tmp_path / "run") / WEIGHTS)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for unknown in ("pico", "smollm2-135m", "owner/name", "/nope", str(tmp_path), "a:b/c d"):
        assert model_hash(unknown) is None
