"""Training in processes of its own: the same run, errors in one line, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from batches import wait_for
from forked import Program, cli

from sepo_kit.games import Weights
from sepo_kit.pipeline.children import Child
from sepo_kit.pipeline.launch import TrainingFailed, command, launch, require_trained
from sepo_kit.pipeline.profiles import get_profile
from sepo_kit.runs import read_lines, read_manifest
from sepo_kit.training.sft import train_sft

SMOKE = get_profile("smoke").plan("pico", "kuhn")


@pytest.fixture(scope="module")
def warm_start(tiny_folder, tmp_path_factory):
    """A warm start of the tiny model where pico's would be."""
    root = tmp_path_factory.mktemp("launch")
    train_sft(tiny_folder, "kuhn", SMOKE.stage_folder(root, "sft", 0), SMOKE.sft, 0)
    return root


@pytest.fixture
def root(warm_start, tmp_path):
    """Runs of one's own, up to the warm start."""
    return shutil.copytree(warm_start, tmp_path / "runs")


@pytest.fixture(scope="module")
def launched(warm_start, tmp_path_factory):
    """Two seeds, trained to their end by one launch."""
    root = shutil.copytree(warm_start, tmp_path_factory.mktemp("launched") / "runs")
    shutil.copytree(SMOKE.stage_folder(root, "sft", 0), SMOKE.stage_folder(root, "sft", 1))
    assert launch("sepo", SMOKE, root, [0, 1]) == stages(root, [0, 1])
    return root


@pytest.fixture
def trained(launched, tmp_path):
    """Runs of one's own, as ``launched`` left them."""
    return shutil.copytree(launched, tmp_path / "runs")


class Forked(Child):
    """A child that has the libraries already."""

    def __init__(self, command, log, *, folder, orphaned):
        self.log = log
        assert command[:3] == [sys.executable, "-m", "sepo_kit"]
        self.process = Program(cli, *command[3:], log=log, folder=folder)


@pytest.fixture
def forked(monkeypatch):
    """Where it matters how a training ends, and others show how it begins."""
    monkeypatch.setattr("sepo_kit.pipeline.launch.Child", Forked)


def stages(root, seeds):
    return [SMOKE.stage_folder(root, "sepo", seed) for seed in seeds]


@pytest.mark.parametrize("processes", [0, 2])
def test_it_trains_to_the_end_and_lets_the_caller_watch(root, processes, monkeypatch):
    if processes < 2:
        monkeypatch.setattr("sepo_kit.pipeline.launch.Child", Forked)
    seen = []
    folder = SMOKE.stage_folder(root, "sepo", 0)
    changes = {"beta": 0.25, "mode": "grouped", "learning_rate": 2e-4}  # once only the weights came through
    plan = replace(SMOKE, sepo=replace(SMOKE.sepo, weights=Weights(0.1, 0, 2), **changes))
    found = launch(
        "sepo", plan, root, [0], processes,
        meanwhile=lambda: seen.append(len(read_lines(folder / "metrics.jsonl"))),
    )  # fmt: skip
    assert found == [folder]
    manifest = read_manifest(folder)
    assert manifest["status"] == "done"
    assert manifest["request"]["settings"] == json.loads(json.dumps(plan.sepo.as_request()))
    assert len(seen) > 1, "it was called after the training alone"
    assert seen == sorted(seen) and seen[-1] == SMOKE.sepo.steps


def test_what_was_trained_before_is_not_trained_again(trained, monkeypatch, forked):
    other = replace(SMOKE, sepo=replace(SMOKE.sepo, weights=Weights(0.1, 0, 2)))
    with pytest.raises(TrainingFailed, match="was made for another request"):
        launch("sepo", other, trained, [0])
    monkeypatch.setattr("sepo_kit.pipeline.launch.Child", lambda *_, **__: pytest.fail("started a process"))
    for seeds in ([0], [0, 1]):
        assert launch("sepo", SMOKE, trained, seeds) == stages(trained, seeds)


def test_a_run_of_other_code_is_said_so_and_trained_anew(trained, monkeypatch, capsys, forked):
    [folder] = stages(trained, [0])
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["request"]["code"] = "0123"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with monkeypatch.context() as kept:
        kept.setenv("SEPO_KIT_KEEP", "1")
        kept.setattr("sepo_kit.pipeline.launch.Child", lambda *_, **__: pytest.fail("started a process"))
        assert launch("sepo", SMOKE, trained, [0]) == [folder]
    capsys.readouterr()
    launch("sepo", SMOKE, trained, [0])
    assert "sepo-seed-0 was finished by other code (0123, now " in capsys.readouterr().out
    assert read_manifest(folder)["request"]["code"] != "0123" and read_manifest(folder)["status"] == "done"
    assert (folder.parent / "sepo-seed-0.old-1" / "adapter").exists()


def test_the_warm_start_is_launched_too(root, tiny_folder, monkeypatch):
    plan = replace(SMOKE, sft=replace(SMOKE.sft, records=16))
    monkeypatch.setattr(type(plan), "source", lambda self, *_: str(tiny_folder))
    shutil.rmtree(plan.stage_folder(root, "sft", 0))
    monkeypatch.setattr("sepo_kit.pipeline.launch.command", lambda *given: [
        str(tiny_folder) if word == "pico" else word for word in command(*given)
    ])  # fmt: skip
    [folder] = launch("sft", plan, root, [0])
    assert read_manifest(folder)["request"]["settings"]["records"] == 16


def test_an_error_of_the_training_is_named(root, forked):
    """The folder belongs to another seed's run: the training's own words come through."""
    folder = SMOKE.stage_folder(root, "sepo", 0)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(TrainingFailed, match=r"is not empty and has no manifest.json(.|\n)*sepo.log"):
        launch("sepo", SMOKE, root, [0])


def test_an_interrupt_ends_the_training_and_the_next_launch_goes_on(root, monkeypatch):
    def interrupted():
        if (SMOKE.stage_folder(root, "sepo", 0) / "manifest.json").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch("sepo", SMOKE, root, [0], meanwhile=interrupted)
    assert not _processes_on(root)
    monkeypatch.setattr("sepo_kit.pipeline.launch.Child", Forked)
    [folder] = launch("sepo", SMOKE, root, [0])
    assert [row["step"] for row in read_lines(folder / "metrics.jsonl")] == [1, 2]


def test_training_ends_with_whoever_launched_it(root):
    code = (
        "import sys; from sepo_kit.pipeline.launch import launch; from sepo_kit.pipeline.profiles import get_profile;"
        "launch('sepo', get_profile('smoke').plan('pico', 'kuhn'), sys.argv[1], [0],"
        " meanwhile=lambda: print('on', flush=True))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True)
    parent.stdout.readline()
    assert _processes_on(root)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not _processes_on(root))


def test_several_processes_go_through_accelerate(tmp_path):
    line = command("sepo", SMOKE, tmp_path, [3, 4], processes=2)
    assert line[1:3] == ["-m", "accelerate.commands.launch"]
    assert line[line.index("--num_processes") + 1] == "2"
    own = command("sepo", SMOKE, tmp_path, [3, 4], processes=1)
    assert line[-len(own) + 2 :] == own[2:]
    assert json.dumps(own).count("seed-{seed}") == 2 and own[-2:] == ["3", "4"]


def test_several_seeds_share_a_process_and_not_their_runs(launched, root, forked):
    both = stages(launched, [0, 1])
    assert [read_manifest(folder)["request"]["seed"] for folder in both] == [0, 1]
    shutil.copytree(SMOKE.stage_folder(launched, "sft", 1), SMOKE.stage_folder(root, "sft", 1))
    [alone] = launch("sepo", SMOKE, root, [1])
    weights = [folder / "adapter" / "adapter_model.safetensors" for folder in (both[1], alone)]
    assert weights[0].read_bytes() == weights[1].read_bytes(), "seed 1 knows nothing of seed 0"


def test_bad_input_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="processes must be >= 0, got -1"):
        launch("sepo", SMOKE, tmp_path, [0], processes=-1)
    with pytest.raises(
        ValueError, match=r"sft-seed-0 is missing: train the warm start first \(notebook 04\)"
    ):
        launch("sepo", replace(SMOKE, seeds=(1,)), tmp_path, [0])
    assert not list(tmp_path.iterdir())


def test_what_is_to_be_evaluated_must_be_trained_first(root):
    require_trained(SMOKE, root, ("base", "sft"))
    with pytest.raises(
        ValueError, match=r"sepo-seed-0 is missing: train it first, by notebook 05 with the same"
    ):
        require_trained(SMOKE, root, ("base", "sft", "sepo"))
    with pytest.raises(ValueError, match="sft-seed-0 is missing: train it first, by notebook 04"):
        require_trained(SMOKE, root / "elsewhere", SMOKE.stages)


def _processes_on(folder) -> list[str]:
    """Other processes whose command line names ``folder``."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                line = file.read().replace("\0", " ")
        except OSError:
            continue
        if f"{folder}/" in line and "train-sepo" in line:
            found.append(line)
    return found
