"""Run folders: whole files or none, a manifest that says what was asked, checkpoints that tell damage."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from messages import message

from sepo_kit import runs
from sepo_kit.runs import (
    MANIFEST,
    PROGRESS,
    WHOLE,
    Run,
    RunError,
    append_line,
    file_hash,
    folder,
    is_whole,
    last_checkpoint,
    read_json,
    read_lines,
    read_manifest,
    replacing,
    replacing_folder,
    require_space,
    seal,
    write_csv,
    write_json,
)

REQUEST = {"stage": "sft", "seed": 0, "settings": {"steps": 3, "betas": [0.9, 0.99]}}
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# --- files ----------------------------------------------------------------------------------------


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    with replacing(path) as temporary:
        temporary.write_text("one")
        assert not path.exists() and temporary.parent == path.parent and temporary.suffix == ".csv"
    assert path.read_text() == "one"
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stopped")
    assert path.read_text() == "one"
    assert files(tmp_path) == {"deep", "deep/table.csv"}
    assert path.stat().st_mode & 0o777 == 0o644  # others may read it, as they may any file


def test_a_folder_takes_its_place_only_when_it_is_whole(tmp_path):
    path = tmp_path / "adapter"
    for text in ("one", "two"):
        with replacing_folder(path) as temporary:
            (temporary / "weights").write_text(text)
            (temporary / f"only-{text}").touch()
        assert files(path) == {"weights", f"only-{text}"}
    with pytest.raises(OSError, match="No space left"), replacing_folder(path) as temporary:
        (temporary / "weights").write_text("half")
        raise FULL
    assert (path / "weights").read_text() == "two"
    assert files(tmp_path) == {"adapter", "adapter/weights", "adapter/only-two"}
    assert path.stat().st_mode & 0o777 == 0o755


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    write_json(path, {"b": 1, "a": [1.5, None, "ü"]})
    assert read_json(path) == {"a": [1.5, None, "ü"], "b": 1}
    with pytest.raises(TypeError):
        write_json(path, {"set": {1}})
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(FULL))
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {})
    assert read_json(path)["b"] == 1 and files(tmp_path) == {"value.json"}


def test_what_is_no_number_is_null_and_infinity_is_refused(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": float("nan"), "b": [{"c": float("nan")}, (1.5, float("nan"))]})
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "a": None,
        "b": [{"c": None}, [1.5, None]],
    }
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("inf")})
    assert read_json(path)["a"] is None and files(tmp_path) == {"value.json"}


def test_json_that_cannot_be_read(tmp_path):
    path = tmp_path / "value.json"
    with pytest.raises(RunError, match=r"value.json is missing") as error:
        read_json(path)
    message(error)
    for content in (b'{"a": 1', b"", b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(
            RunError, match=r"value.json is not valid JSON .*; put back the right one, or delete it"
        ) as error:
            read_json(path)
        message(error)


def test_file_hash(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert file_hash(tmp_path / "abc") == known


def test_weights_that_stay_as_they_are_are_read_once(tmp_path, monkeypatch):
    """Others are told apart however alike they are, also where no clock had time to move on."""
    for text in ("one", "two"):
        (tmp_path / "a.safetensors").write_text(text)
        assert (
            runs.weights_hash(tmp_path)
            == hashlib.sha256(file_hash(tmp_path / "a.safetensors").encode()).hexdigest()
        )
    assert runs.weights_hash(tmp_path / "none") is None
    read = []
    monkeypatch.setattr(runs.files, "file_hash", lambda path: read.append(path) or file_hash(path))
    monkeypatch.setattr(runs.files, "SETTLED", 0)
    assert runs.weights_hash(tmp_path) == runs.weights_hash(tmp_path) and len(read) == 1
    (tmp_path / "b.safetensors").write_text("three")
    before = runs.weights_hash(tmp_path)
    os.utime(tmp_path / "b.safetensors", ns=(0, 0))
    assert runs.weights_hash(tmp_path) == before and len(read) == 3


def test_require_space(tmp_path):
    require_space(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(OSError, match=r"MiB free and 1099511627776 MiB are needed; free some space") as error:
        require_space(tmp_path / "not" / "there" / "yet", 2**60)
    message(error)
    assert not (tmp_path / "not").exists()


def test_tables_that_differ_by_rounding_alone_are_one_file(tmp_path):
    one = pd.DataFrame({"name": ["a", "b"], "value": [0.1 + 0.2, None], "n": [3, 20_000_000_000_000]})
    two = one.assign(value=[0.3, None])
    for name, table in (("one", one), ("two", two)):
        write_csv(tmp_path / f"{name}.csv", table)
    assert (tmp_path / "one.csv").read_text() == "name,value,n\na,0.3,3\nb,,20000000000000\n"
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


# --- provenance -----------------------------------------------------------------------------------


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for seed in (0, 1):
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}" / "weights").write_text(str(seed))
    files = [tmp_path / f"seed-{seed}" / "weights" for seed in (0, 1)]
    told = runs.notebook_provenance(0.0, {}, inputs=files, outputs=files[:1])
    assert list(told["inputs"]) == ["seed-0/weights", "seed-1/weights"]
    assert list(told["outputs"]) == ["weights"]
    assert (
        told["inputs"]["seed-0/weights"] == runs.file_hash(files[0])[:16] != told["inputs"]["seed-1/weights"]
    )


def test_a_clock_that_jumps_changes_no_duration(tmp_path, monkeypatch):
    began, run = time.monotonic(), Run(tmp_path / "run", REQUEST, writes=True)
    monkeypatch.setattr("time.time", lambda: 0.0)
    run.finish()
    told = runs.notebook_provenance(began, {})
    assert 0 <= told["wall_seconds"] < 60 and 0 <= run.manifest["wall_seconds"] < 60


def test_provenance_says_what_made_a_number():
    import torch

    told = runs.provenance()
    assert told["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(told) == {"commit", "python", "machine", "versions"}
    assert json.loads(json.dumps(told)) == told
    threads = torch.get_num_threads()
    assert told["machine"].endswith(f" cores, {threads} thread{'s' if threads > 1 else ''}")


def test_a_run_that_ended_with_other_threads_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    with Run(tmp_path / "run", REQUEST, writes=True) as run:
        begun = run.manifest["machine"]
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    with Run(tmp_path / "run", REQUEST, writes=True) as run:
        run.finish()
    ended = read_manifest(tmp_path / "run")["machine"]
    assert ended == f"{begun}; ended on {begun.removesuffix('1 thread')}2 threads"


def test_commit_marks_changes(monkeypatch):
    answers = {"rev-parse": "0123456789ab\n", "status": ""}

    def run(command, **kwargs):
        return subprocess.CompletedProcess(command, 0, stdout=answers[command[1]])

    monkeypatch.setattr(subprocess, "run", run)
    assert runs.commit() == "0123456789ab"
    answers["status"] = " M sepo_kit/runs/origin.py\n"
    assert runs.commit() == "0123456789ab+"


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")])
def test_commit_outside_git(monkeypatch, error):
    def run(*args, **kwargs):
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    assert runs.commit() == "unknown"


# --- run folders ----------------------------------------------------------------------------------


def test_a_run_begins_with_its_manifest(tmp_path):
    run = Run(tmp_path / "a" / "run", REQUEST, writes=True)
    run.release()
    manifest = read_manifest(run.path)
    assert manifest["request"] == REQUEST and manifest["status"] == "started" and not run.done
    assert manifest["versions"]["numpy"] and manifest["commit"]
    assert files(run.path) == {MANIFEST}


def test_a_finished_run_says_so_when_it_is_opened_again(tmp_path):
    run = Run(tmp_path, REQUEST, writes=True)
    run.finish(final_loss=0.25)
    again = Run(tmp_path, REQUEST)
    assert again.done and again.manifest["final_loss"] == 0.25
    assert again.manifest["wall_seconds"] >= 0


def test_wall_time_adds_up_over_resumptions(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])  # no jump of the clock counts
    for seconds in (10, 20):
        with Run(tmp_path, REQUEST, writes=True) as run:
            clock[0] += seconds
            run.progress(1, 2)
        clock[0] += 1000  # nobody works on it
    with Run(tmp_path, REQUEST, writes=True) as run:
        clock[0] += 5
        run.finish()
    assert read_manifest(tmp_path)["wall_seconds"] == 35.0


@pytest.mark.parametrize("progress", [None, "{", '{"step": 1, "total": 2}', '{"wall_seconds": "long"}'])
def test_wall_time_begins_anew_where_nothing_tells_it(tmp_path, monkeypatch, progress):
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    Run(tmp_path, REQUEST, writes=True).release()
    if progress:
        (tmp_path / PROGRESS).write_text(progress)
    with Run(tmp_path, REQUEST, writes=True) as run:
        run.finish()
    assert read_manifest(tmp_path)["wall_seconds"] == 0.0


def test_progress_can_be_read_at_any_time(tmp_path):
    run = Run(tmp_path, REQUEST, writes=True)
    run.progress(3, 10, "SFT kuhn")
    told = read_json(tmp_path / PROGRESS)
    assert (told["step"], told["total"], told["note"]) == (3, 10, "SFT kuhn")
    assert told["time"] >= told["started"]


def test_a_request_is_compared_as_json(tmp_path):
    """Tuples come back as lists."""
    Run(tmp_path, {"weights": (1, 2), "nested": {"a": (3,)}}, writes=True).release()
    Run(tmp_path, {"weights": [1, 2], "nested": {"a": [3]}})


def test_a_folder_of_another_request_is_refused_with_the_differences(tmp_path):
    run = Run(tmp_path, REQUEST, writes=True)
    before = read_manifest(run.path)
    with pytest.raises(RunError, match="made for another request") as error:
        Run(tmp_path, {**REQUEST, "seed": 1, "game": "kuhn"}, writes=True)
    text = message(error)
    assert "seed was 0, is 1" in text and "game was None, is 'kuhn'" in text and "stage" not in text
    assert read_manifest(run.path) == before


def test_of_settings_only_those_that_differ_are_named(tmp_path):
    Run(tmp_path, REQUEST, writes=True).release()
    with pytest.raises(RunError, match=r"request \(steps was 3, is 4\); choose"):
        Run(tmp_path, {**REQUEST, "settings": {**REQUEST["settings"], "steps": 4}})


ALIKE = {**REQUEST, "settings": {"steps": 40, "schedule": "constant", "beta": 0.1}}


def asked_for(steps: int, **changes) -> dict:
    return {**ALIKE, "settings": {**ALIKE["settings"], "steps": steps, **changes}}


def test_an_unfinished_run_whose_steps_are_alike_may_be_asked_for_fewer_or_more(tmp_path):
    Run(tmp_path, ALIKE, writes=True).release()
    for steps in (20, 60):
        with Run(tmp_path, asked_for(steps), writes=True) as run:
            run.take_steps()
    manifest = read_manifest(tmp_path)
    assert manifest["request"] == asked_for(60) and manifest["steps_before"] == [40, 20]
    with pytest.raises(RunError, match=r"\(beta was 0.1, is 0.2; steps was 60, is 20\)"):
        Run(tmp_path, asked_for(20, beta=0.2), writes=True)
    with Run(tmp_path, asked_for(60), writes=True) as run:
        run.finish()
    with pytest.raises(RunError, match=r"\(steps was 60, is 80\); choose another") as error:
        Run(tmp_path, asked_for(80), writes=True)
    message(error)
    assert read_manifest(tmp_path)["steps_before"] == [40, 20]


def test_whoever_only_reads_a_run_leaves_its_steps_alone(tmp_path):
    Run(tmp_path, ALIKE, writes=True).release()
    Run(tmp_path, asked_for(20)).take_steps()
    assert read_manifest(tmp_path)["request"] == ALIKE


def test_an_old_run_is_put_aside_whatever_steps_are_asked(tmp_path, capsys):
    Run(tmp_path / "run", {**ALIKE, "code": "a"}, writes=True).release()
    run = Run(tmp_path / "run", {**asked_for(20), "code": "b"}, writes=True)
    assert "by other code (a, now b)" in capsys.readouterr().err and "steps_before" not in run.manifest
    assert run.manifest["request"]["settings"]["steps"] == 20


@pytest.mark.parametrize("parts", [{}, ["1"], [{"commit": 1}], [[]]])
def test_a_manifest_or_a_chain_with_odd_parts_is_refused(tmp_path, parts):
    Run(tmp_path, REQUEST, writes=True).release()
    manifest = read_manifest(tmp_path)
    chain = [{"model": "pico"}, {"went_on_with": parts}]
    for odd, named in (({"went_on_with": parts}, "went_on_with"), ({"chain": chain}, "chain")):
        write_json(tmp_path / MANIFEST, {**manifest, **odd})
        with pytest.raises(RunError, match=rf"is not of this version \(see {named}\)"):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"format": 1}', '{"format": 0, "status": "done", "request": {}}',
     '{"format": 1, "status": "done", "request": [1]}', '{"format": 1, "status": "done"}'],
)  # fmt: skip
def test_a_broken_manifest_is_refused(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content)
    for read in (lambda: Run(tmp_path, REQUEST, writes=True), lambda: read_manifest(tmp_path)):
        with pytest.raises(RunError, match=r"manifest\.json.* delete") as error:
            read()
        message(error)
    assert (tmp_path / MANIFEST).read_text() == content


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"is not empty and has no manifest\.json: it is not a run"):
        Run(tmp_path, REQUEST, writes=True)
    with pytest.raises(RunError, match=r"is not a run folder: it has no manifest\.json"):
        read_manifest(tmp_path)
    assert files(tmp_path) == {"thesis.tex"}
    with pytest.raises(RunError, match="is a file; a run needs a folder"):
        Run(tmp_path / "thesis.tex", REQUEST, writes=True)


def test_a_run_killed_while_it_wrote_its_first_file_can_begin_again(tmp_path):
    (tmp_path / f".{MANIFEST}.x7.json").write_text('{"for')
    assert not Run(tmp_path, REQUEST, writes=True).done
    assert read_manifest(tmp_path)["request"] == REQUEST


def test_without_space_no_run_begins(tmp_path, monkeypatch):
    def replace(*_):
        raise FULL

    with monkeypatch.context() as full:
        full.setattr(os, "replace", replace)
        with pytest.raises(OSError, match="No space left"):
            Run(tmp_path / "run", REQUEST, writes=True)
    assert files(tmp_path / "run") == set()
    assert not Run(tmp_path / "run", REQUEST, writes=True).done


def test_a_broken_file_beside_others_does_not_cost_them(tmp_path):
    """Only within a run is its folder what must go."""
    run = Run(tmp_path / "run", REQUEST, writes=True)
    (run.path / PROGRESS).write_text("{")
    with pytest.raises(RunError, match=rf"delete {run.path} to start again"):
        read_json(run.path / PROGRESS)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "base.json").write_text("{")
    with pytest.raises(RunError, match=r"\); put back the right one, or delete it$"):
        read_json(tmp_path / "results" / "base.json")


# --- runs of other code ---------------------------------------------------------------------------


def test_the_fingerprint_of_code_follows_its_files(tmp_path):
    own = tmp_path / "mine.py"
    own.write_text("one")
    runs.code_fingerprint.cache_clear()
    games, both = runs.code_fingerprint(("games",)), runs.code_fingerprint(("games", "runs"))
    mine = runs.code_fingerprint(("games",), own)
    own.write_text("two")
    assert runs.code_fingerprint(("games",), own) == mine, "what runs is what was imported"
    runs.code_fingerprint.cache_clear()
    assert runs.code_fingerprint(("games",)) == games
    assert len({games, both, mine, runs.code_fingerprint(("games",), own)}) == 4


def test_the_words_of_the_games_are_part_of_their_code(monkeypatch):
    runs.code_fingerprint.cache_clear()
    hashed = []
    true = runs.origin.file_hash
    monkeypatch.setattr(runs.origin, "file_hash", lambda file: hashed.append(file.name) or true(file))
    runs.code_fingerprint(("games",))
    assert {"kuhn.toml", "kuhn.py"} <= set(hashed)


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_of_other_code_is_said_so_put_aside_and_begun_anew(tmp_path, capsys, finished):
    path = tmp_path / "sepo-seed-0"
    for number, code in enumerate(("aaaa", "bbbb", "cccc")):
        run = Run(path, {**REQUEST, "code": code}, writes=True)
        assert not run.done
        said = capsys.readouterr().err
        if number:
            state, before = ("finished" if finished else "begun"), ("aaaa", "bbbb")[number - 1]
            assert said.startswith(f"{path} was {state} by other code ({before}, now {code}): ")
            assert said.count("\n") == 1 and f"kept as sepo-seed-0.old-{number}" in said
        if finished:
            run.finish()
        run.release()
    assert files(tmp_path) >= {"sepo-seed-0", "sepo-seed-0.old-1", "sepo-seed-0.old-2"}
    assert read_manifest(tmp_path / "sepo-seed-0.old-1")["request"]["code"] == "aaaa"
    assert Run(path, {**REQUEST, "code": "cccc"}).done is finished and not capsys.readouterr().err


@pytest.mark.parametrize("place", [".", "..", "../../run"])
def test_a_run_that_one_stands_in_is_put_aside_too(tmp_path, monkeypatch, place):
    """One stands in the old one then; the new one lies where it lay."""
    run = tmp_path / "run"
    (run if place == "." else run / "adapter").mkdir(parents=True)
    write_json(run / MANIFEST, {"format": 1, "status": "done", "request": {**REQUEST, "code": "aaaa"}})
    monkeypatch.chdir(run if place == "." else run / "adapter")
    with Run(place, {**REQUEST, "code": "bbbb"}, writes=True) as made:
        made.progress(1, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run.old-1"}
    assert read_manifest(tmp_path / "run.old-1")["request"]["code"] == "aaaa"
    assert read_manifest(run)["request"]["code"] == "bbbb" and (run / PROGRESS).exists()


def test_a_reader_makes_no_run_and_puts_none_aside(tmp_path, monkeypatch):
    with pytest.raises(RunError, match=r"is not a run folder: it has no manifest\.json"):
        Run(tmp_path / "run", REQUEST)
    assert not (tmp_path / "run").exists()
    with Run(tmp_path / "run", {**REQUEST, "code": "aaaa"}, writes=True):  # and nobody else may write there
        with pytest.raises(RunError, match=r"was begun by other code \(aaaa, now bbbb\); ") as error:
            Run(tmp_path / "run", {**REQUEST, "code": "bbbb"})
        message(error)
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
        monkeypatch.setenv(runs.KEEP, "1")
        assert Run(tmp_path / "run", {**REQUEST, "code": "bbbb"}).manifest["request"]["code"] == "aaaa"


def test_a_run_of_other_code_is_kept_on_demand(tmp_path, monkeypatch, capsys):
    Run(tmp_path / "run", {**REQUEST, "code": "aaaa"}, writes=True).finish()
    monkeypatch.setenv(runs.KEEP, "1")
    kept = Run(tmp_path / "run", {**REQUEST, "code": "bbbb"}, writes=True)
    assert kept.done and kept.manifest["request"]["code"] == "aaaa" and not capsys.readouterr().err
    assert files(tmp_path) == {"run", f"run/{MANIFEST}"}


def test_a_kept_run_says_what_it_was_gone_on_with(tmp_path, monkeypatch):
    """Each time that it was something else, and not what took a finished run or only looked."""
    monkeypatch.setenv(runs.KEEP, "1")
    commits = iter("abcdefg")
    monkeypatch.setattr(folder, "commit", lambda: next(commits))
    request = {**REQUEST, "code": "1", "base_sha256": "x"}
    for changes in ({}, {"code": "2"}, {"code": "3", "base_sha256": "y"}, {}):
        with Run(tmp_path, {**request, **changes}, writes=True) as run:
            Run(tmp_path, {**request, "code": "4"})
    later = [{"code": "2", "commit": "a"}, {"code": "3", "base_sha256": "y", "commit": "b"}]
    assert read_manifest(tmp_path)["went_on_with"] == run.manifest["went_on_with"] == later
    monkeypatch.setattr(folder, "commit", lambda: "b")
    Run(tmp_path, {**request, "code": "3", "base_sha256": "y"}, writes=True).finish()
    Run(tmp_path, {**request, "code": "5"}, writes=True)
    assert read_manifest(tmp_path)["went_on_with"] == later and not runs.problems(tmp_path / MANIFEST)


def test_a_run_that_another_process_made_anew_in_the_meantime_is_not_put_aside(tmp_path, monkeypatch, capsys):
    """Both saw the old one; the second looks again once it holds the folder."""
    old, new = ({**REQUEST, "code": code} for code in ("1", "2"))
    Run(tmp_path / "run", old, writes=True).finish()
    real, seen = folder.outdated, []

    def late(path, request):
        found = real(path, request)
        if not seen:
            seen.append(found)
            monkeypatch.setattr(folder, "outdated", real)
            Run(tmp_path / "run", new, writes=True).finish(by="the other")
        return found

    monkeypatch.setattr(folder, "outdated", late)
    run = Run(tmp_path / "run", new, writes=True)
    assert seen[0] and run.done and run.manifest["by"] == "the other"
    assert [f.name for f in tmp_path.glob("run.*")] == ["run.old-1"]
    assert capsys.readouterr().err.count("made anew") == 1


def test_another_request_of_other_code_is_refused_not_put_aside(tmp_path):
    Run(tmp_path / "run", {**REQUEST, "code": "aaaa"}, writes=True).release()
    with pytest.raises(RunError, match=r"made for another request \(seed was 0, is 1\)"):
        Run(tmp_path / "run", {**REQUEST, "code": "bbbb", "seed": 1}, writes=True)
    assert files(tmp_path) == {"run", f"run/{MANIFEST}"}


def test_a_run_on_another_base_is_put_aside_and_on_a_missing_one_kept(tmp_path, capsys):
    request = {**REQUEST, "base": "../sft", "base_sha256": "1111"}
    Run(tmp_path / "sft", REQUEST, writes=True).release()
    Run(tmp_path / "sepo", request, writes=True).finish()
    assert Run(tmp_path / "sepo", {**request, "base": str(tmp_path / "sft")}).done
    assert Run(tmp_path / "sepo", {**request, "base_sha256": None}).done
    assert not Run(tmp_path / "sepo", {**request, "base_sha256": "2222"}, writes=True).done
    assert "from another base (1111, now 2222)" in capsys.readouterr().err


def test_a_base_that_is_a_run_is_held_by_its_way_from_the_run(tmp_path):
    Run(tmp_path / "a" / "sft", REQUEST, writes=True).release()
    held = runs.base_as_held(tmp_path / "a" / "sepo", tmp_path / "a" / "sft")
    assert held == "../sft"
    (tmp_path / "a").rename(tmp_path / "b")
    assert runs.base_of(tmp_path / "b" / "sepo", {"base": held}) == str(tmp_path / "b" / "sft")
    for name in ("pico", "owner/name", "../models/mine", str(tmp_path)):
        assert runs.base_as_held(tmp_path / "run", name) == name
        assert runs.base_of(tmp_path / "run", {"base": name}) == name


def test_a_run_prints_as_one_short_line(tmp_path):
    assert repr(Run(tmp_path / "run", {**REQUEST, "game": "kuhn"}, writes=True)) == (
        f"Run('{tmp_path}/run': sft kuhn seed 0, started)"
    )


# --- metrics --------------------------------------------------------------------------------------


def test_lines_are_appended_and_read_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_lines(path) == []
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": float("inf")}]
    for row in rows:
        append_line(path, row)
    assert read_lines(path) == rows


def test_a_last_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert read_lines(path) == [{"step": 1}, {"step": 2}]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2 is not JSON; put back") as error:
        read_lines(path)
    message(error)


def test_lines_are_dropped_and_a_cut_one_is_healed(tmp_path):
    path = tmp_path / "exact.jsonl"
    runs.keep_lines(path, lambda row: True)
    assert not path.exists()
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    runs.keep_lines(path, lambda row: row["step"] != 1)
    append_line(path, {"step": 3})
    assert read_lines(path) == [{"step": 2}, {"step": 3}]


# --- checkpoints ----------------------------------------------------------------------------------


def checkpoint(folder: Path, step: int, sealed: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "deep").mkdir(parents=True)
    (path / "weights").write_bytes(b"0123456789" * step)
    (path / "deep" / "state").write_text("state")
    if sealed:
        seal(path)
    return path


def test_the_newest_whole_checkpoint_is_found_by_number(tmp_path):
    assert last_checkpoint(tmp_path / "none") is None
    for step in (9, 100, 25):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-100"


def test_half_written_checkpoints_are_removed(tmp_path):
    checkpoint(tmp_path, 2)
    checkpoint(tmp_path, 4, sealed=False)
    checkpoint(tmp_path, 6, sealed=False)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2"}


def test_with_none_but_half_written_checkpoints_there_is_none(tmp_path):
    checkpoint(tmp_path, 2, sealed=False)
    assert last_checkpoint(tmp_path) is None


def cut_short(path: Path) -> None:
    (path / "weights").write_bytes((path / "weights").read_bytes()[:-1])


def overwrite(path: Path) -> None:
    (path / "weights").write_bytes(b"x" * (path / "weights").stat().st_size)


def remove(path: Path) -> None:
    (path / "deep" / "state").unlink()


def break_the_seal(path: Path) -> None:
    (path / WHOLE).write_text("{")


def empty_the_seal(path: Path) -> None:
    (path / WHOLE).write_text("[]")


@pytest.mark.parametrize("damage", [cut_short, overwrite, remove, break_the_seal, empty_the_seal])
def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(tmp_path, damage):
    checkpoint(tmp_path, 2)
    path = checkpoint(tmp_path, 4)
    assert is_whole(path)
    damage(path)
    assert not is_whole(path)
    with pytest.raises(
        RunError, match=r"checkpoint-4 is damaged: .*; delete it to go on from the one before"
    ) as e:
        last_checkpoint(tmp_path)
    message(e)
    assert path.exists()
    shutil.rmtree(path)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_sealing_twice_is_as_sealing_once(tmp_path):
    path = checkpoint(tmp_path, 2)
    seal(path)
    assert is_whole(path) and set(read_json(path / WHOLE)) == {"weights", "deep/state"}
