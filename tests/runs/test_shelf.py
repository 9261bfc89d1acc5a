"""``sepo-kit runs``: one flipped bit is found wherever it is, and tidying deletes nothing that is wanted."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
import time
from pathlib import Path

import finished
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import sepo_kit.runs.shelf
from sepo_kit import figures
from sepo_kit.cli import main
from sepo_kit.evaluation.archive import find_runs
from sepo_kit.evaluation.results import read_results, write_table
from sepo_kit.runs import (
    MANIFEST,
    WEIGHTS,
    Lock,
    Run,
    RunError,
    adapter_of,
    append_line,
    file_hash,
    file_hashes,
    files,
    is_held,
    problems,
    read_json,
    sealed,
    write_json,
)
from sepo_kit.runs.shelf import (
    ABANDONED,
    clean,
    described,
    leftovers,
    move,
    record,
    run_folders,
    size_of,
    verify,
)


def trained(folder, base="pico", done=True, code="one", steps=()):
    """A run folder as training leaves it."""
    with Run(
        folder, {"stage": "sft", "game": "kuhn", "seed": 0, "base": base, "code": code}, writes=True
    ) as run:
        for adapter in (folder / "adapter", *(adapter_of(folder, step) for step in steps)):
            adapter.mkdir(parents=True)
            (adapter / WEIGHTS).write_bytes(bytes(range(256)))
        append_line(folder / "metrics.jsonl", {"step": 1, "loss": 0.5})
        if done:
            run.finish()
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run, a result, the table and the picture made of it."""
    tmp_path = tmp_path_factory.mktemp("whole")
    trained(tmp_path / "runs" / "sft-seed-0")
    finished.evaluation(tmp_path / "runs", "kuhn", "sft", "nash", 0, episodes=2)
    file = tmp_path / "runs" / "pico" / "kuhn" / "results" / "sft-seed-0.json"
    results = read_results([file])
    differences = tmp_path / "data" / "results" / "quick-differences.csv"
    differences.parent.mkdir(parents=True)
    differences.write_text("value\n1.5\n")
    write_table(results, tmp_path / "data" / "results", "quick", [file], [differences])
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    figures.save(figure, pd.DataFrame({"model": ["pico"], "value": [0.5]}), tmp_path / "figures", "one")
    plt.close(figure)
    return tmp_path


@pytest.fixture
def shelf(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "shelf")


def flip(file) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    ["runs/sft-seed-0/adapter/adapter_model.safetensors", "runs/sft-seed-0/metrics.jsonl",
     "runs/sft-seed-0/manifest.json", "runs/pico/kuhn/results/sft-seed-0.json",
     "runs/pico/kuhn/results/sft-seed-0.parquet", "runs/pico/kuhn/results/sft-seed-0.rounds.parquet",
     "data/results/quick.csv", "data/results/quick-differences.csv",
     "data/results/quick.json", "figures/one.csv"],
)  # fmt: skip
def test_one_flipped_bit_is_found(shelf, name, capsys):
    assert main(["runs", "verify", str(shelf)]) == 0
    assert "4 verified" in capsys.readouterr().out
    flip(shelf / name)
    assert main(["runs", "verify", str(shelf)]) == 2
    told = capsys.readouterr()
    assert name in told.out and "1 of 4 do not verify" in told.err


def test_every_flipped_bit_of_a_manifest_and_of_what_holds_hashes_is_found(tmp_path):
    """Also those that leave the JSON as it means: 1e-05 and 1E-05."""
    done, begun = trained(tmp_path / "a"), trained(tmp_path / "b", done=False)
    small = tmp_path / "small.json"
    write_json(small, sealed({"rate": 1e-05, "name": "ü", "third": 1 / 3, "none": float("nan"), "files": {}}))
    assert problems(small) == []
    rng = np.random.default_rng(0)
    for file, bits in ((small, None), (done / MANIFEST, 150), (begun / MANIFEST, 150)):
        content = file.read_bytes()
        every = range(len(content) * 8)
        for bit in every if bits is None else rng.choice(every, bits, replace=False):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            told = problems(file) if file == small else dict(verify(tmp_path))[file]
            assert told, f"bit {bit} of {file.name}: {bytes(damaged[bit // 8 - 20 : bit // 8 + 20])}"
        file.write_bytes(content)


def test_a_missing_file_and_an_unfinished_run(tmp_path):
    trained(tmp_path / "a")
    (tmp_path / "a" / "metrics.jsonl").unlink()
    trained(tmp_path / "b", done=False)
    found = {file.parent.name: problems for file, problems in verify(tmp_path)}
    assert "metrics.jsonl is missing" in found["a"][0] and found["b"] == []


def test_runs_are_listed_and_shown(shelf, capsys):
    assert main(["runs", "list", str(shelf)]) == 0
    assert "sft-seed-0: sft kuhn seed 0, done, 0.0 MB" in capsys.readouterr().out
    assert main(["runs", "show", str(shelf / "runs" / "sft-seed-0")]) == 0
    told = capsys.readouterr().out
    assert "base   pico" in told and "sepo-kit train-sft pico kuhn" in told and "--settings" in told
    assert main(["runs", "list", str(shelf / "nothing")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_clean_deletes_what_is_left_and_nothing_else(tmp_path):
    run = trained(tmp_path / "sft")
    before = {path for path in tmp_path.rglob("*")}
    (run / ".metrics.jsonl.abcd_123.jsonl").touch()
    (run / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    going = trained(tmp_path / "sepo", done=False)
    (going / "checkpoints").mkdir()
    held = trained(tmp_path / "held", done=False)
    (held / ".metrics.jsonl.abcd_123.jsonl").touch()
    lock = Lock(held)
    assert main(["runs", "clean", str(tmp_path), "--dry-run"]) == 0 and (run / "checkpoints").exists()
    assert {path.name for path in clean(tmp_path)} == {".metrics.jsonl.abcd_123.jsonl", "checkpoints"}
    lock.release()
    assert {path for path in tmp_path.rglob("*")} >= before
    assert (going / "checkpoints").exists() and (held / ".metrics.jsonl.abcd_123.jsonl").exists()
    shutil.copytree(run, tmp_path / "sft.old-1")
    assert clean(tmp_path, aside=True)[-1].name == "sft.old-1" and run.exists()


def test_clean_deletes_what_no_lock_speaks_for_once_it_has_lain_long(tmp_path, monkeypatch):
    result = tmp_path / "results" / ".a.json.abcd_123.json"
    copy = tmp_path / ".sepo.abcd_123.sepokit"  # of a run that a killed move was copying from another disk
    mine = [
        tmp_path / name
        for name in (
            "results/a.json",
            ".env.template",
            ".b.json.original",
            ".npm.original/a",
            ".c.20240101.old",
        )
    ]
    for file in (result, copy / "adapter" / WEIGHTS, *mine):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (0, 0))
    assert clean(tmp_path) == [], "somebody may be writing them"
    later = time.time() + 2 * ABANDONED
    monkeypatch.setattr(time, "time", lambda: later)
    assert set(clean(tmp_path)) == {result, copy}
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {*mine}


@pytest.fixture
def churning(tmp_path):
    """A folder of runs where a writer swaps files, and makes and deletes folders, without a pause."""
    stop, writes = threading.Event(), threading.Event()

    def write() -> None:
        with Run(
            tmp_path / "runs" / "sepo", {"stage": "sepo", "game": "kuhn", "base": "pico"}, writes=True
        ) as run:
            while not stop.is_set():
                run.progress(1, 2)
                writes.set()
                trained(tmp_path / "runs" / "short")
                write_json(tmp_path / "runs" / "table.json", sealed({"files": {}}), durable=False)
                shutil.rmtree(tmp_path / "runs" / "short")
                (tmp_path / "runs" / "table.json").unlink()

    writer = threading.Thread(target=write)
    trained(tmp_path / "runs" / "sft")
    writer.start()
    try:
        assert writes.wait(60)
        yield tmp_path / "runs"
    finally:
        stop.set()
        writer.join()


def test_runs_are_read_while_others_are_written_and_deleted(churning):
    for _ in range(60):
        assert {"sft"} <= {folder.name for folder in run_folders(churning)}
        told = described(churning / "sepo")
        assert (told["status"], told["step"]) == ("being written", "1 of 2") and size_of(churning) > 256
        assert not [told for file, told in verify(churning) if file.parent.name == "sft" for told in told]
        assert "sft" in list(find_runs(churning)["run"]) and file_hashes(churning)


@pytest.mark.parametrize(
    "read",
    [find_runs, leftovers, file_hashes, size_of, lambda root: list(verify(root))],
    ids=["find_runs", "leftovers", "file_hashes", "size_of", "verify"],
)
def test_what_is_deleted_while_it_is_looked_at_is_left_out(tmp_path, monkeypatch, read):
    trained(tmp_path / "stays")
    alone = str(read(tmp_path))
    gone, walk = trained(tmp_path / "goes"), files.os.walk

    def listed_then_deleted(*words, **named):
        yield from list(walk(*words, **named))
        shutil.rmtree(gone, ignore_errors=True)

    monkeypatch.setattr(files.os, "walk", listed_then_deleted)
    assert str(read(tmp_path)) == alone and not gone.exists()


def test_a_run_moves_unless_another_rests_on_it(tmp_path):
    sft = trained(tmp_path / "sft")
    sepo = trained(tmp_path / "sepo", base="../sft")
    with pytest.raises(RunError, match="sepo was trained on top of"):
        move(sft, tmp_path / "elsewhere")
    with pytest.raises(RunError, match="exists"):
        move(sepo, sft)
    assert move(sepo, tmp_path / "far" / "sepo").is_dir() and not sepo.exists()
    moved = read_json(tmp_path / "far" / "sepo" / MANIFEST)
    assert moved["request"]["base"] == "../../sft" and moved == sealed(moved)
    assert [problems for _, problems in verify(tmp_path)] == [[], []]
    lock = Lock(tmp_path / "far" / "sepo")
    with pytest.raises(RunError, match="is being written by"):
        move(tmp_path / "far" / "sepo", tmp_path / "elsewhere")
    lock.release()


def across_disks(monkeypatch):
    """Have a folder of runs that is renamed lie on another disk than where it goes to."""
    rename = os.rename

    def fails(source, target):
        elsewhere = Path(source).parent != Path(target).parent
        if elsewhere and (Path(source) / MANIFEST).exists():
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)


@pytest.mark.parametrize("disks", [1, 2])
def test_a_run_that_moves_is_held_and_finds_its_base(tmp_path, monkeypatch, disks):
    base = tmp_path / "models" / "mine"
    base.mkdir(parents=True)
    chain = [{"model": "/not/here", "beside": "../../models/mine"}]
    with Run(tmp_path / "runs" / "sft", {"stage": "sft", "base": "/not/here"}, writes=True) as run:
        (run.path / "adapter").mkdir()
        (run.path / "adapter" / WEIGHTS).write_bytes(b"weights")
        run.finish(chain=chain)
    if disks == 2:
        across_disks(monkeypatch)
    held, give = [], sepo_kit.runs.shelf._give
    monkeypatch.setattr(
        "sepo_kit.runs.shelf._give",
        lambda *told: held.append(any(map(is_held, (run.path, target)))) or give(*told),
    )
    target = tmp_path / "far" / "away" / "sft"
    assert move(run.path, target) == target and held == [True]
    assert not run.path.exists() and not problems(target / MANIFEST) and not is_held(target)
    assert {path.name for path in target.iterdir()} == {MANIFEST, "adapter"}
    assert [path.name for path in target.parent.iterdir()] == ["sft"]
    told = read_json(target / MANIFEST)["chain"][0]["beside"]
    assert told == "../../../models/mine" and (target / told).samefile(base)


def test_a_run_is_held_until_its_copy_is_whole_and_a_failed_one_leaves_nothing(tmp_path, monkeypatch):
    run = trained(tmp_path / "sft")
    across_disks(monkeypatch)

    def full(copy, manifest):
        assert (copy / "metrics.jsonl").exists()
        with pytest.raises(RunError, match="is being written by"):
            Lock(run)
        assert not (tmp_path / "far" / "sft").exists(), "under another name until it is whole"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sepo_kit.runs.shelf._give", full)
    with pytest.raises(OSError, match="No space left"):
        move(run, tmp_path / "far" / "sft")
    assert not list((tmp_path / "far").iterdir()) and not problems(run / MANIFEST) and not is_held(run)


def test_a_record_has_all_but_the_weights(tmp_path):
    folder = trained(tmp_path / "runs" / "sft-seed-0")
    kept = record(folder, tmp_path / "published" / "sft-seed-0")
    assert not problems(kept / MANIFEST) and not (kept / "adapter").exists()
    assert (kept / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    left_out = read_json(kept / MANIFEST, dict)["left_out"]
    assert left_out == {"adapter/adapter_model.safetensors": file_hash(folder / "adapter" / WEIGHTS)}
    with pytest.raises(RunError, match="is there; name another folder"):
        record(folder, kept)
    with pytest.raises(RunError, match="is not finished or has changed since"):
        record(trained(tmp_path / "runs" / "half", done=False), tmp_path / "published" / "half")


def test_a_record_with_weights_has_those_of_its_end(tmp_path):
    folder = trained(tmp_path / "runs" / "sft-seed-0", steps=(1,))
    kept = tmp_path / "published" / "sft-seed-0"
    assert main(["runs", "record", str(folder), str(kept), "--weights"]) == 0
    assert (kept / "adapter" / WEIGHTS).read_bytes() == (folder / "adapter" / WEIGHTS).read_bytes()
    assert not problems(kept / MANIFEST) and not (kept / "adapters").exists()
    assert list(read_json(kept / MANIFEST, dict)["left_out"]) == [
        "adapters/step-000001/adapter_model.safetensors"
    ]


def test_a_record_that_fails_halfway_leaves_nothing(tmp_path, monkeypatch):
    folder = trained(tmp_path / "runs" / "sft-seed-0")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sepo_kit.runs.shelf.shutil.copy2", full)
    with pytest.raises(OSError, match="No space left"):
        record(folder, tmp_path / "published" / "sft-seed-0")
    assert not list((tmp_path / "published").iterdir())


def test_what_is_published_is_as_it_was_written():
    project = Path(__file__).parents[2]
    found = [each for folder in ("data", "figures") for each in verify(project / folder)]
    assert len(found) > 30 and not [told for _, problems in found for told in problems]


def test_what_is_published_was_made_by_a_commit_as_it_is():
    project = Path(__file__).parents[2]
    told = [
        file for folder in ("benchmarks", "data", "figures") for file in (project / folder).rglob("*.json")
    ]
    changed = [file for file in told if re.search(r'"[0-9a-f]{7,40}\+"', file.read_text(encoding="utf-8"))]
    assert len(told) > 40 and not changed, "the tree was changed when these were made"
