"""Both training stages: they finish, can be stopped anywhere and go on as if they had not been, and say in one
line what is wrong with a folder, leaving nothing half-written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from math import inf, nan
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from messages import message
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState

from sepo_kit.games import get_game
from sepo_kit.models.loading import load_model
from sepo_kit.runs import (
    EPISODES,
    KEEP,
    METRICS,
    SCORES,
    Run,
    RunError,
    append_line,
    file_hash,
    read_json,
    read_lines,
    read_manifest,
    seal,
)
from sepo_kit.runs.trace import trace
from sepo_kit.training import grpo, sft
from sepo_kit.training import stage as stage_module
from sepo_kit.training.demonstrations import demonstrations
from sepo_kit.training.settings import SEPOSettings, SFTSettings
from sepo_kit.training.watch import CHECKPOINTS, Watch, resume_point

STEPS = 5  # of every run here, with a checkpoint at 2 and 4 (and at 5, the end)
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass(frozen=True)
class Stage:
    """A training stage with settings that take a second."""

    name: str
    train: Callable
    settings: SFTSettings | SEPOSettings
    records: tuple[str, ...] = ()  # what it leaves beside the files of every stage

    def __call__(self, base: Path, folder: Path, seed: int = 0, callbacks=(), **changes) -> Run:
        return self.train(base, "kuhn", folder, replace(self.settings, **changes), seed, callbacks)


STAGES = [
    Stage(
        "sft",
        sft.train_sft,
        SFTSettings(
            records=20, epochs=1, learning_rate=1e-2, batch=2, accumulation=2, lora_r=4, lora_alpha=8, save_every=2,
            lora_dropout=0.1,
        ),
    ),
    Stage(
        "sepo",
        grpo.train_sepo,
        SEPOSettings(
            steps=STEPS, rollouts=3, learning_rate=1e-2, beta=0.1, lora_r=4, lora_alpha=8, save_every=2,
            lora_dropout=0.1, temperature=5.0,
        ),
        (EPISODES, SCORES),
    ),
]  # fmt: skip


@pytest.fixture(params=STAGES, ids=lambda stage: stage.name)
def stage(request, monkeypatch):
    monkeypatch.setattr(sft, "demonstrations", few)
    return request.param


@cache
def few(game):
    """Enough of the corpus."""
    return demonstrations(game, 200)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_folder):
    """Each stage run without interruption, by name: the truth the others are compared with."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft, "demonstrations", few)
        return {stage.name: stage(tiny_folder, folder / stage.name) for stage in STAGES}


class Stopped(Exception):
    """Somebody pulled the plug."""


@contextmanager
def stopped_after(step: int):
    """The run inside the block stops at the end of the step after, before that one is saved."""
    end = Watch.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step > step:
            raise Stopped
        end(self, args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Watch, "on_step_end", on_step_end)
        yield


def adapter(run: Run | Path) -> dict[str, torch.Tensor]:
    path = run.path if isinstance(run, Run) else run
    return load_file(path / "adapter" / "adapter_model.safetensors")


def assert_same_weights(one: Run, other: Run) -> None:
    mine, theirs = adapter(one), adapter(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert torch.equal(mine[name], theirs[name]), name


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- a run from beginning to end ------------------------------------------------------------------


def test_a_run_ends_with_an_adapter_that_moves_the_model(stage, whole, tiny_folder, tiny_model):
    run = whole[stage.name]
    assert run.done and read_manifest(run.path)["status"] == "done"
    assert names(run.path) == {
        "adapter",
        "adapters",
        "manifest.json",
        "metrics.jsonl",
        "progress.json",
        *stage.records,
    }
    trained = load_model(run.path).model
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert (trained(ids).logits - tiny_model(ids).logits).abs().max() > 1e-3


def test_a_run_prints_nothing(stage, tiny_folder, tmp_path, capfd):
    """No dictionaries of numbers, and bars on terminals only: the run folder keeps what happened."""
    capfd.readouterr()
    stage(tiny_folder, tmp_path / "run")
    assert capfd.readouterr() == ("", "")


def test_adapters_are_on_q_k_v_and_o_only(stage, whole):
    where = {name.split(".lora_")[0].split(".")[-1] for name in adapter(whole[stage.name])}
    assert where == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_metrics_have_one_line_per_step_and_progress_the_last(stage, whole):
    run = whole[stage.name]
    rows = read_lines(run.path / METRICS)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(row["grad_norm"] > 0 and row["seconds"] >= 0 for row in rows)
    told = read_json(run.path / "progress.json")
    assert (told["step"], told["total"]) == (STEPS, STEPS) and stage.name.upper() in told["note"]


def test_the_manifest_holds_what_was_asked(stage, whole, tiny_folder):
    request = read_manifest(whole[stage.name].path)["request"]
    assert request["base"] == str(tiny_folder) and request["game"] == "kuhn" and request["seed"] == 0
    assert request["settings"] == json.loads(json.dumps(stage.settings.as_request()))


def test_another_seed_is_another_run(stage, whole, tiny_folder, tmp_path):
    other = adapter(stage(tiny_folder, tmp_path / "run", seed=1))
    assert any((value != other[name]).any() for name, value in adapter(whole[stage.name]).items())


def test_the_manifest_holds_where_the_run_comes_from(stage, whole, tiny_folder):
    manifest = read_manifest(whole[stage.name].path)
    base, own = manifest["chain"]
    assert base["model"] == str(tiny_folder) and len(base["sha256"]) == 64
    weights = whole[stage.name].path / "adapter" / "adapter_model.safetensors"
    assert own["adapter_sha256"] == manifest["adapter_sha256"] == file_hash(weights)
    assert own["code"] == manifest["request"]["code"] and own["commit"] == manifest["commit"]
    assert (own["stage"], own["game"], own["seed"]) == (stage.name, "kuhn", 0)


def test_tokens_of_the_warm_start_are_counted(whole, tokenizer, monkeypatch):
    monkeypatch.setattr(sft, "demonstrations", few)
    rows = sft._rows(get_game("kuhn"), STAGES[0].settings, 0)
    texts = [tokenizer.apply_chat_template(r["prompt"] + r["completion"], return_dict=False) for r in rows]
    assert read_manifest(whole["sft"].path)["train_tokens"] == sum(map(len, texts)) > 0


@pytest.fixture(scope="module")
def second(tmp_path_factory, tiny_folder):
    """A run on a run, in one folder."""
    root = tmp_path_factory.mktemp("second")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft, "demonstrations", few)
        warm = STAGES[0](tiny_folder, root / "sft")
    return STAGES[1](warm.path, root / "sepo")


def test_the_adapter_of_a_run_on_a_run_fits_the_raw_base(second, tiny_folder):
    """PEFT's own loading, and that of a run in a manner of its own, are the agent that was trained."""
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    adapted = peft.PeftModel.from_pretrained(
        load_model(tiny_folder).model, str(second.path / "adapter")
    ).eval()
    with torch.no_grad():
        found, raw, warm = (
            m(ids).logits
            for m in (adapted, load_model(tiny_folder).model, load_model(second.path.parent / "sft").model)
        )
        torch.testing.assert_close(load_model(second.path).model(ids).logits, found, atol=1e-4, rtol=1e-4)
    assert (found - raw).abs().max() > 1e-2 and (found - warm).abs().max() > 1e-2
    assert second.request["base"] == "../sft"
    links = read_manifest(second.path)["chain"]
    assert [link["stage"] for link in links] == ["base", "sft", "sepo"]
    assert links[1]["adapter_sha256"] == second.request["base_sha256"]
    assert (second.path / "adapter" / "README.md").read_text().count(" on kuhn, seed 0") == 2


def test_what_was_trained_last_is_in_it(second, tmp_path):
    """The combined adapter without the first one's part is what LoRA ended with: rank, scale and all."""
    tensors, first = adapter(second), adapter(second.path.parent / "sft")
    for name, value in first.items():
        part = tensors[name][: len(value)] if "lora_A" in name else tensors[name][:, : value.shape[1]]
        torch.testing.assert_close(part, value * (1 if "lora_A" in name else 2))  # alpha / r
        assert tensors[name].numel() == 2 * value.numel()


def test_runs_move_and_each_can_be_copied_alone(second, tmp_path, tiny_folder):
    ids = torch.tensor([[5, 6, 7]])
    moved = Path(shutil.copytree(second.path.parent, tmp_path / "elsewhere"))
    alone = Path(shutil.copytree(second.path, tmp_path / "far" / "alone"))
    with torch.no_grad():
        here = load_model(second.path).model(ids).logits
        for folder in (moved / "sepo", alone):
            assert torch.equal(load_model(folder).model(ids).logits, here)
    assert STAGES[1](moved / "sft", moved / "sepo").done, "it is the same run there"
    assert not list(moved.glob("*.old-*"))


def exchange(base: Path) -> None:
    """Other weights in the folder of a model."""
    other = load_model(base)
    with torch.no_grad():
        other.model.model.norm.weight += 1
    other.model.save_pretrained(base)


def test_a_run_whose_base_model_is_another_now_is_refused(second, tmp_path, tiny_folder):
    base = Path(shutil.copytree(tiny_folder, tmp_path / "base"))
    run = STAGES[1](base, tmp_path / "run", steps=1)
    exchange(base)
    with pytest.raises(RunError, match=r"was trained on another .*base than there is now") as error:
        load_model(run.path)
    message(error)


# --- stopped and resumed --------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 3])
def test_a_stopped_run_goes_on_to_the_same_weights(stage, whole, tiny_folder, tmp_path, step):
    """Before the first checkpoint, and between two."""
    with stopped_after(step):
        stage(tiny_folder, tmp_path / "run")
    assert "adapter" not in names(tmp_path / "run")
    assert read_manifest(tmp_path / "run")["status"] == "started"
    run = stage(tiny_folder, tmp_path / "run")
    assert_same_weights(run, whole[stage.name])
    mine, theirs = (read_lines(r.path / METRICS) for r in (run, whole[stage.name]))
    assert [(row["step"], row["loss"]) for row in mine] == [(row["step"], row["loss"]) for row in theirs]
    mine, theirs = (sorted((r.path / EPISODES).glob("*")) for r in (run, whole[stage.name]))
    assert [(file.name, file_hash(file)) for file in mine] == [
        (file.name, file_hash(file)) for file in theirs
    ]


def test_a_run_may_be_stopped_again_and_again(stage, whole, tiny_folder, tmp_path):
    """Each time right after a checkpoint."""
    for step in (2, 4):
        with stopped_after(step):
            stage(tiny_folder, tmp_path / "run")
    assert_same_weights(stage(tiny_folder, tmp_path / "run"), whole[stage.name])


def test_a_finished_run_returns_at_once(stage, whole, tiny_folder, monkeypatch):
    monkeypatch.setattr("sepo_kit.training.stage.load_model", lambda *_: pytest.fail("loaded a model"))
    run = whole[stage.name]
    before = (run.path / "manifest.json").read_text()
    assert stage(tiny_folder, run.path).done
    assert (run.path / "manifest.json").read_text() == before


def test_a_half_written_checkpoint_is_passed_over(stage, whole, tiny_folder, tmp_path):
    with stopped_after(4):
        stage(tiny_folder, tmp_path / "run")
    (tmp_path / "run" / CHECKPOINTS / "checkpoint-4" / "whole.json").unlink()
    (tmp_path / "run" / CHECKPOINTS / "checkpoint-4" / "optimizer.pt").write_bytes(b"half")
    assert_same_weights(stage(tiny_folder, tmp_path / "run"), whole[stage.name])


def test_a_damaged_checkpoint_is_refused_until_it_is_deleted(stage, whole, tiny_folder, tmp_path):
    with stopped_after(4):
        stage(tiny_folder, tmp_path / "run")
    checkpoint = tmp_path / "run" / CHECKPOINTS / "checkpoint-4"
    content = (checkpoint / "optimizer.pt").read_bytes()
    (checkpoint / "optimizer.pt").write_bytes(content[: len(content) // 2])
    before = names(tmp_path / "run")
    with pytest.raises(RunError, match=r"checkpoint-4 is damaged: .*; delete it to go on") as error:
        stage(tiny_folder, tmp_path / "run")
    message(error)
    assert names(tmp_path / "run") == before and checkpoint.exists()
    shutil.rmtree(checkpoint)
    assert_same_weights(stage(tiny_folder, tmp_path / "run"), whole[stage.name])


@pytest.mark.parametrize(
    ("file", "content"),
    [("trainer_state.json", "[]"), ("trainer_state.json", '{"global_step": {}}'), ("optimizer.pt", "no tensors"),
     ("rng_state.pth", "no tensors")],
)  # fmt: skip
def test_a_checkpoint_that_was_damaged_and_sealed_again_is_one_line(
    stage, tiny_folder, tmp_path, file, content
):
    with stopped_after(2):
        stage(tiny_folder, tmp_path / "run")
    checkpoint = tmp_path / "run" / CHECKPOINTS / "checkpoint-2"
    (checkpoint / file).write_text(content)
    seal(checkpoint)
    with pytest.raises(RunError, match=r"checkpoint-2 cannot be read \(.*\); delete it to go on") as error:
        stage(tiny_folder, tmp_path / "run")
    message(error)


@pytest.mark.parametrize("where", ["seal", "finish", "remove"])
def test_killed_at_the_end_a_run_goes_on_with_all_it_leaves(
    stage, whole, tiny_folder, tmp_path, monkeypatch, where
):
    """Before the last checkpoint is sealed, before the manifest says done, and while checkpoints are removed."""

    def killed(*_, **__):
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        if where == "seal":
            patch.setattr("sepo_kit.training.watch.seal", killed)
        elif where == "finish":
            patch.setattr(Run, "finish", killed)
        else:
            patch.setattr("sepo_kit.training.watch.shutil.rmtree", killed)
        stage(tiny_folder, tmp_path / "run")
    if where == "seal" and stage.records:
        assert (tmp_path / "run" / EPISODES / "step-000002.parquet").exists(), "recorded first"
    run = stage(tiny_folder, tmp_path / "run")
    assert_same_weights(run, whole[stage.name])
    assert names(run.path) == names(whole[stage.name].path)
    mine, theirs = (sorted(f.name for f in (r.path / EPISODES).glob("*")) for r in (run, whole[stage.name]))
    assert mine == theirs


# --- a folder or a request that will not do -------------------------------------------------------


def test_a_folder_of_another_request_is_refused(stage, whole, tiny_folder):
    run = whole[stage.name]
    before = {name: (run.path / name).stat().st_mtime_ns for name in names(run.path)}
    with pytest.raises(
        RunError, match=r"made for another request \(seed was 0, is 5\); choose another folder"
    ) as e:
        stage(tiny_folder, run.path, seed=5)
    message(e)
    assert {name: (run.path / name).stat().st_mtime_ns for name in names(run.path)} == before


def test_a_stopped_run_may_be_asked_for_other_steps(tiny_folder, tmp_path):
    """It becomes what it would have been: of three steps by way of five, and of five by way of three."""
    sepo = STAGES[1]
    for first, then in ((5, 3), (3, 5)):
        folder = tmp_path / f"{first}-{then}"
        assert not sepo(tiny_folder, folder, steps=first, callbacks=[Ends(2, "on_step_end")]).done
        run = sepo(tiny_folder, folder, steps=then)
        assert run.done and run.manifest["steps"] == then == run.manifest["request"]["settings"]["steps"]
        assert run.manifest["steps_before"] == [first]
        assert_same_weights(run, sepo(tiny_folder, tmp_path / f"at once {then}", steps=then))


def test_a_run_that_went_as_far_or_further(tiny_folder, tmp_path):
    sepo, folder = STAGES[1], tmp_path / "run"
    assert not sepo(tiny_folder, folder, steps=5, callbacks=[Ends(2, "on_step_end")]).done
    with pytest.raises(RunError, match="has taken 2 steps and is asked for 1; ask for at least 2") as error:
        sepo(tiny_folder, folder, steps=1)
    message(error)
    assert "steps_before" not in read_manifest(folder)
    run = sepo(tiny_folder, folder, steps=2)
    assert run.done and run.manifest["steps"] == 2
    assert_same_weights(run, sepo(tiny_folder, tmp_path / "at once", steps=2))


def test_a_corrupt_manifest_is_refused(stage, tiny_folder, tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": 1, "requ')
    with pytest.raises(RunError, match=r"manifest\.json is not valid JSON .*; delete") as error:
        stage(tiny_folder, tmp_path)
    message(error)
    assert names(tmp_path) == {"manifest.json"}


def test_a_folder_that_is_no_run_is_left_alone(stage, tiny_folder, tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(RunError, match="it is not a run; choose another"):
        stage(tiny_folder, tmp_path)
    assert names(tmp_path) == {"photo.jpg"}


def test_bad_input_is_refused_before_anything_is_written(stage, tiny_folder, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match="unknown game 'bridge'"):
        stage.train(tiny_folder, "bridge", folder, stage.settings)
    with pytest.raises(ValueError, match="unknown model 'gpt-5'"):
        stage("gpt-5", folder)
    broken = Path(shutil.copytree(tiny_folder, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(OSError, match="cannot be loaded"):
        stage(broken, folder)
    assert not folder.exists()


def test_a_base_without_a_chat_template_is_refused_before_anything_is_written(stage, tiny_folder, tmp_path):
    base = Path(shutil.copytree(tiny_folder, tmp_path / "base"))
    (base / "chat_template.jinja").unlink()
    with pytest.raises(
        ValueError, match="the tokenizer has no chat template; use an instruct model"
    ) as error:
        stage(base, tmp_path / "run")
    message(error)
    assert names(tmp_path) == {"base"}


def test_a_run_of_other_code_is_trained_anew(stage, whole, tiny_folder, tmp_path, monkeypatch, capsys):
    before = Path(shutil.copytree(whole[stage.name].path, tmp_path / "run"))
    monkeypatch.setattr("sepo_kit.training.request.code_of", lambda *_: "0123")
    with pytest.raises(RunError, match="made for another request"):
        stage(tiny_folder, before, seed=5)
    assert names(tmp_path) == {"run"}
    run = stage(tiny_folder, before)
    assert "run was finished by other code (" in capsys.readouterr().err
    assert names(tmp_path) == {"run", "run.old-1"} and run.manifest["request"]["code"] == "0123"
    assert_same_weights(run, whole[stage.name])


@pytest.mark.parametrize("state", ["finished", "begun"])
def test_a_run_whose_base_was_exchanged_is_trained_anew(stage, tiny_folder, tmp_path, capsys, state):
    """Neither is the old adapter trained on upon other weights, nor the old run taken for what these become."""
    base = Path(shutil.copytree(tiny_folder, tmp_path / "base"))
    with nullcontext() if state == "finished" else stopped_after(2):
        stage(base, tmp_path / "run")
    exchange(base)
    run = stage(base, tmp_path / "run")
    assert f"run was {state} from another base (" in capsys.readouterr().err
    assert names(tmp_path) == {"base", "run", "run.old-1"}
    assert run.manifest["request"]["base_sha256"] == run.manifest["chain"][0]["sha256"]
    assert_same_weights(run, stage(base, tmp_path / "alone"))


def test_a_run_that_is_kept_says_what_code_began_it_and_what_went_on(
    stage, tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("sepo_kit.training.request.code_of", lambda *_: "0123")
    with stopped_after(2):
        stage(tiny_folder, tmp_path / "run")
    begun = read_manifest(tmp_path / "run")
    monkeypatch.setattr("sepo_kit.training.request.code_of", lambda *_: "4567")
    monkeypatch.setattr("sepo_kit.runs.folder.commit", lambda: "89ab")
    monkeypatch.setenv(KEEP, "1")
    run = stage(tiny_folder, tmp_path / "run")
    own, later = run.manifest["chain"][-1], [{"code": "4567", "commit": "89ab"}]
    assert (own["code"], own["commit"]) == ("0123", begun["commit"])
    assert own["went_on_with"] == run.manifest["went_on_with"] == later
    assert run.manifest["request"] == begun["request"]
    found = trace(run.path)
    assert found.commits == sorted({begun["commit"], "89ab"})
    assert f"commit {begun['commit']}, went on with 89ab  adapter " in "\n".join(found.lines())


def send(cache: Path, folder: Path, weights: str, revision: str) -> None:
    """The model in ``folder`` into the hub's cache, its newest revision; ``weights``: the hash they are called by."""
    place = cache / "models--owner--name"
    kept = place / "snapshots" / revision
    shutil.copytree(folder, kept)
    for name in ("blobs", "refs"):
        (place / name).mkdir(exist_ok=True)
    (kept / "model.safetensors").replace(place / "blobs" / weights)
    (kept / "model.safetensors").symlink_to(place / "blobs" / weights)
    (place / "refs" / "main").write_text(revision)


@pytest.mark.filterwarnings("ignore:Could not find a config file in owner/name")
def test_a_run_on_a_hubs_model_knows_its_weights(tiny_folder, tmp_path, monkeypatch, capsys):
    """Those it is trained on, where the hub sends others while it begins or goes on. Others of its files are no other
    model."""
    monkeypatch.setattr(sft, "demonstrations", few)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    real, sent = stage_module.load_model, iter(["1", "1", "2"])
    revisions = iter(["a" * 40, "b" * 40, "c" * 40])

    def load_new(name):
        if weights := next(sent, None):
            send(tmp_path / "hub", tiny_folder, weights * 64, next(revisions))
        return real(name)

    monkeypatch.setattr(stage_module, "load_model", load_new)
    one, two = (hashlib.sha256((weights * 64).encode()).hexdigest() for weights in "12")
    for step in (2, 4):
        with stopped_after(step):
            STAGES[0]("owner/name", tmp_path / "run")
        assert read_manifest(tmp_path / "run")["request"]["base_sha256"] == one
    changed = rf"was begun from another base \({one[:8]}, now {two[:8]}\)"
    with pytest.raises(RunError, match=f"{changed}; the same call puts it aside and trains anew") as error:
        STAGES[0]("owner/name", tmp_path / "run")
    message(error)
    assert names(tmp_path) == {"hub", "run"}
    run = STAGES[0]("owner/name", tmp_path / "run")
    assert re.search(changed, capsys.readouterr().err)
    assert run.manifest["request"]["base_sha256"] == two
    first = run.manifest["chain"][0]
    assert (first["model"], first["revision"], first["sha256"]) == ("owner/name", "c" * 40, two)
    send(tmp_path / "hub", tiny_folder, "2" * 64, "d" * 40)
    assert load_model(run.path).chain[0] == first
    send(tmp_path / "hub", tiny_folder, "1" * 64, "e" * 40)
    with pytest.raises(RunError, match="was trained on another owner/name than there is now"):
        load_model(run.path)
    send(tmp_path / "hub", tiny_folder, "2" * 64, "f" * 40)
    assert STAGES[0]("owner/name", tmp_path / "run").done and names(tmp_path) == {"hub", "run", "run.old-1"}


def test_a_seed_may_be_numpys(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sft, "demonstrations", few)
    run = STAGES[0](tiny_folder, tmp_path / "run", seed=np.int64(3), records=4)
    assert run.done and read_manifest(run.path)["request"]["seed"] == 3


@pytest.mark.parametrize("seed", [1.5, "0", None, -1, True, 2**32])
def test_a_seed_is_checked_before_anything_is_written(stage, tiny_folder, tmp_path, seed):
    with pytest.raises(ValueError, match=f"seed must be a whole number from 0 to 4294967295, got {seed!r}"):
        stage(tiny_folder, tmp_path / "run", seed=seed)
    assert not (tmp_path / "run").exists()


def test_the_weights_of_limits_go_on_from_the_checkpoint_whatever_became_of_the_log(tiny_folder, tmp_path):
    """Lines that were lost are named; those before the last need not be there for the weights to go on."""
    limited = {"limits": {"exploit": 0.0}, "steps": 3}
    whole = STAGES[1](tiny_folder, tmp_path / "whole", **limited)
    weights = [row["sepo/weight_exploit"] for row in read_lines(whole.path / METRICS)]
    assert weights[1] != get_game("kuhn").spec.weights.exploit
    with stopped_after(2):
        STAGES[1](tiny_folder, tmp_path / "run", **limited)
    log = tmp_path / "run" / METRICS
    first, second = log.read_text().splitlines()[:2]
    for left, said in ((first + "\n", "ends with step 1"), ("", "is empty")):
        log.write_text(left)
        with pytest.raises(
            RunError, match=f"{said} and checkpoint-2 is of step 2: lines were lost; "
        ) as error:
            STAGES[1](tiny_folder, tmp_path / "run", **limited)
        message(error)
    log.write_text(second + "\n")
    again = STAGES[1](tiny_folder, tmp_path / "run", **limited)
    assert [row["sepo/weight_exploit"] for row in read_lines(log)] == weights[1:]
    assert_same_weights(again, whole)


# --- numbers and disks that give out --------------------------------------------------------------


@pytest.mark.parametrize("number", [nan, inf])
def test_a_base_with_a_broken_weight_is_refused_before_anything_is_written(
    stage, tiny_folder, tmp_path, number
):
    base = Path(shutil.copytree(tiny_folder, tmp_path / "base"))
    broken = load_model(tiny_folder).model
    with torch.no_grad():
        broken.model.layers[0].mlp.up_proj.weight[0, 0] = number
    broken.save_pretrained(base)
    with pytest.raises(
        FloatingPointError, match=r"has weights that are not finite, in model\.layers\.0\.mlp"
    ) as error:
        stage(base, tmp_path / "run")
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("weight", "said"),
    [(inf, "the weights are not finite after the update"), (1e30, "logits are not finite after the update")],
)
def test_an_update_that_breaks_the_model_is_not_saved(
    stage, whole, tiny_folder, tmp_path, monkeypatch, weight, said
):
    """The fourth update does; a checkpoint is due then."""
    step = torch.optim.AdamW.step

    def breaks(self, *args, **kwargs):
        step(self, *args, **kwargs)
        breaks.updates += 1
        if breaks.updates == 4:
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.fill_(weight)

    breaks.updates = 0
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", breaks)
        with pytest.raises(FloatingPointError, match=said) as error:
            stage(tiny_folder, tmp_path / "run")
    assert message(error).endswith("of step 4; lower the learning rate; the last checkpoint is kept")
    # What was saved before is good: from there the run comes to the end it would have come to.
    assert_same_weights(stage(tiny_folder, tmp_path / "run"), whole[stage.name])


def test_where_memory_runs_out_the_limit_is_named_and_the_run_goes_on(
    stage, whole, tiny_folder, tmp_path, monkeypatch
):
    """In the fourth update, which no smaller pieces help."""
    step = torch.optim.AdamW.step

    def fails(self, *args, **kwargs):
        fails.updates += 1
        if fails.updates == 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 512 bytes.")
        step(self, *args, **kwargs)

    fails.updates = 0
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", fails)
        patch.setattr("sepo_kit.runs.limits.allowed_memory", lambda: "0.5 GiB, by ulimit -v")
        with pytest.raises(MemoryError) as error:
            stage(tiny_folder, tmp_path / "run")
    said = message(error)
    assert said.startswith(
        f"{stage.name} kuhn: memory ran out (asked for 512 bytes more; allowed: 0.5 GiB, by "
    )
    assert said.endswith("run the same command again: it goes on from the last checkpoint")
    assert_same_weights(stage(tiny_folder, tmp_path / "run"), whole[stage.name])


class Ends(TrainerCallback):
    """As early stopping does."""

    def __init__(self, step: int, event: str) -> None:
        self.step = step
        setattr(self, event, self._end)

    def _end(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            control.should_training_stop = True


@pytest.mark.parametrize("event", ["on_step_end", "on_log"])
def test_a_training_that_a_callback_stops_is_not_done_and_goes_on(
    stage, whole, tiny_folder, tmp_path, capsys, event
):
    run = stage(tiny_folder, tmp_path / "run", callbacks=[Ends(3, event)])
    assert not run.done and len(read_lines(run.path / METRICS)) == 3
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "callback" in line]
    assert said.startswith(
        f"{run.path}: a callback stopped the training at step 3 of 5, which is saved (run:"
    )
    load_model(run.path, step=3)
    again = stage(tiny_folder, run.path)
    assert again.done and len(read_lines(run.path / METRICS)) == 5
    assert_same_weights(again, whole[stage.name])


def test_within_a_step_of_several_updates_it_is_taken_to_its_end(tiny_folder, tmp_path):
    run = STAGES[1](tiny_folder, tmp_path / "run", steps=2, updates=2, callbacks=[Ends(1, "on_step_end")])
    assert not run.done and [row["step"] for row in read_lines(run.path / METRICS)] == [1]
    assert STAGES[1](tiny_folder, run.path, steps=2, updates=2).done


def test_more_steps_than_a_finished_run_took_are_another_run(stage, whole, tiny_folder):
    with pytest.raises(RunError, match="to train on what it has learned, name it as the base of") as error:
        stage(tiny_folder, whole[stage.name].path, learning_rate=1e-3)
    message(error)


def test_training_that_diverges_keeps_the_last_checkpoint(stage, whole, tiny_folder, tmp_path, monkeypatch):
    """The third update is the first whose gradient is infinite."""
    step = Trainer.training_step

    def training_step(self, model, inputs, *rest):
        loss = step(self, model, inputs, *rest)
        if self.state.global_step == 2:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(inf)
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", training_step)
        with pytest.raises(FloatingPointError, match=r"at step 3 are not finite; lower the learning rate"):
            stage(tiny_folder, tmp_path / "run")
    assert {name for name in names(tmp_path / "run" / CHECKPOINTS) if "check" in name} == {"checkpoint-2"}
    assert_same_weights(stage(tiny_folder, tmp_path / "run"), whole[stage.name])


def test_without_space_for_the_adapter_nothing_is_half_written(
    stage, whole, tiny_folder, tmp_path, monkeypatch
):
    def save(self, folder, **kwargs):
        if CHECKPOINTS in str(folder):
            return original(self, folder, **kwargs)
        (Path(folder) / "adapter_config.json").write_text("{")
        raise FULL

    original = peft.PeftModel.save_pretrained
    with monkeypatch.context() as full:
        full.setattr(peft.PeftModel, "save_pretrained", save)
        with pytest.raises(OSError, match="No space left on device"):
            stage(tiny_folder, tmp_path / "run")
    left = {CHECKPOINTS, "adapters", "manifest.json", "metrics.jsonl", "progress.json", *stage.records}
    assert names(tmp_path / "run") == left
    # The last step has a checkpoint: nothing is trained again.
    monkeypatch.setattr(Trainer, "training_step", lambda *_: pytest.fail("trained again"))
    assert_same_weights(stage(tiny_folder, tmp_path / "run"), whole[stage.name])


def test_without_space_for_a_checkpoint_the_one_before_counts(
    stage, whole, tiny_folder, tmp_path, monkeypatch
):
    save = peft.PeftModel.save_pretrained

    def fails_at_four(self, folder, **kwargs):
        if "checkpoint-4" in str(folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / "adapter_config.json").write_text("{")
            raise FULL
        return save(self, folder, **kwargs)

    with monkeypatch.context() as full:
        full.setattr(peft.PeftModel, "save_pretrained", fails_at_four)
        with pytest.raises(OSError, match="No space left on device"):
            stage(tiny_folder, tmp_path / "run")
    assert_same_weights(stage(tiny_folder, tmp_path / "run"), whole[stage.name])


def test_without_space_for_the_manifest_no_run_begins(stage, tiny_folder, tmp_path, monkeypatch):
    def replace(*_):
        raise FULL

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(OSError, match="No space left on device"):
        stage(tiny_folder, tmp_path / "run")
    assert names(tmp_path / "run") == set()


# --- the watch itself -----------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "run", {"stage": "test"}, writes=True)


def logged(run: Run, **logs) -> None:
    state = TrainerState(global_step=3)
    Watch(run, "SEPO ipd").on_log(None, state, TrainerControl(), logs=logs)


@pytest.mark.parametrize(
    "logs", [{"loss": nan}, {"loss": 1.0, "grad_norm": inf}, {"loss": -inf, "grad_norm": 1.0}]
)
def test_numbers_that_are_not_finite_are_not_written(run, logs):
    with pytest.raises(FloatingPointError, match=r"^SEPO ipd: loss .* at step 3 are not finite; lower the"):
        logged(run, **logs)
    assert read_lines(run.path / METRICS) == []


def test_only_numbers_of_training_steps_are_written(run):
    logged(run, loss=0.5, grad_norm=1.0, kl=nan, epoch=1, note="text")
    logged(run, train_runtime=12.0)
    (row,) = read_lines(run.path / METRICS)
    assert {name: row[name] for name in ("step", "loss", "grad_norm", "epoch")} == {
        "step": 3, "loss": 0.5, "grad_norm": 1.0, "epoch": 1
    }  # fmt: skip
    assert "note" not in row


def test_metrics_after_the_checkpoint_are_dropped(run):
    for step in range(1, 6):
        append_line(run.path / METRICS, {"step": step})
    checkpoint = run.path / CHECKPOINTS / "checkpoint-4"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").touch()
    seal(checkpoint)
    assert resume_point(run) == checkpoint
    assert [row["step"] for row in read_lines(run.path / METRICS)] == [1, 2, 3, 4]


def test_without_a_checkpoint_everything_is_done_again(run):
    append_line(run.path / METRICS, {"step": 1})
    assert resume_point(run) is None
    assert read_lines(run.path / METRICS) == []


def test_a_line_cut_short_by_a_crash_is_not_continued(run):
    checkpoint = run.path / CHECKPOINTS / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state").write_text("whole")
    seal(checkpoint)
    append_line(run.path / METRICS, {"step": 1})
    with open(run.path / METRICS, "a") as file:
        file.write('{"step": 2, "lo')
    resume_point(run)
    append_line(run.path / METRICS, {"step": 2})
    append_line(run.path / METRICS, {"step": 3})
    assert [row["step"] for row in read_lines(run.path / METRICS)] == [1, 2, 3]
