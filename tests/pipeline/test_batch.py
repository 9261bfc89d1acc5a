"""The batch on Snakemake, with commands of a moment in the place of notebooks."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace

import pytest
from batches import alive, driver, mark_done, parts, stand_in, todo_of, wait_for
from finished import evaluation

from sepo_kit.pipeline import batch, tasks
from sepo_kit.pipeline.batch import How, write_batch
from sepo_kit.pipeline.node import THREADS
from sepo_kit.pipeline.node import main as run_node
from sepo_kit.pipeline.notebooks import NotebookFailed
from sepo_kit.pipeline.profiles import get_profile
from sepo_kit.pipeline.progress import Progress
from sepo_kit.pipeline.record import Task, log, marker, output, reasons, standing
from sepo_kit.pipeline.reproduce import Reproduction, reproduce
from sepo_kit.pipeline.tasks import Part, all_tasks, chains, only, results_of
from sepo_kit.runs import Run, read_json, write_json


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    monkeypatch.setattr(batch, "command", stand_in)


def ran(todo, root, workers=2):
    """The names of the tasks that a reproduction of ``todo`` runs, in the order in which they started; what it said."""
    said, before = io.StringIO(), {task.name: times(task, root) for task in todo}
    try:
        Reproduction(parts(root), root, todo, How(workers), said).run()
    finally:
        names = [task.name for task in todo if times(task, root) != before[task.name]]
        ran.names = sorted(names, key=lambda name: times(next(t for t in todo if t.name == name), root))
    return ran.names, said.getvalue()


def times(task, root):
    return read_json(standing(task, root))["started"] if standing(task, root).exists() else 0


def node(todo, root, name, how=None):
    """Write a batch of ``todo`` and run one node of it here: its status, and how the task stands then."""
    root.mkdir(exist_ok=True)
    write_batch(todo, {task.name for task in todo}, root, how or How(1))
    return again(todo, root, name)


def again(todo, root, name):
    status = subprocess.run(
        [sys.executable, "-m", "sepo_kit.pipeline.node", str(root / batch.BATCH), name, str(os.getpid())],
        capture_output=True,
    ).returncode
    return status, read_json(standing(next(t for t in todo if t.name == name), root))


# --- what is run ----------------------------------------------------------------------------------


def test_what_has_lost_its_files_is_done_again_and_all_behind_it_the_longest_chain_first(tmp_path):
    made = tmp_path / "result.json"
    todo = [
        Task("a", "01_games", {}, minutes=0.1), Task("d/e", "03_sft_data", {}, minutes=2),
        Task("b", "02_penalties", {"makes": [str(made)]}, ("a",), 1, makes=(made,)),
        Task("c", "07_credit_ablation", {}, ("b",)),
    ]  # fmt: skip
    assert ran(todo, tmp_path, 1)[0] == ["d/e", "a", "b", "c"]
    names, said = ran(todo, tmp_path, 1)
    assert names == [] and "done in " in said
    made.unlink()
    assert list(reasons(todo, tmp_path).items()) == [("b", "result.json is missing"), ("c", "behind b")]
    assert ran(todo[:3], tmp_path)[0] == ["b"]
    # The second go was cut short before it came to what is behind b.
    assert reasons(todo, tmp_path) == {"c": "its parameters, its notebook or the library changed"}
    assert made.read_text() == "made" and not (tmp_path / "notebooks" / "b.unfinished.ipynb").exists()
    made.write_text("another")
    assert reasons(todo, tmp_path) == {"b": "result.json has changed since", "c": "behind b"}


def test_what_does_not_need_a_failed_notebook_runs_all_the_same_and_a_kill_is_tried_again(tmp_path):
    killed = tmp_path / "killed"
    dies = (
        f"p = pathlib.Path({str(killed)!r})\nif not p.exists(): p.touch(); import os; os.kill(os.getpid(), 9)"
    )
    todo = todo_of([("a", (), "raise ValueError('no')"), ("b", "a", ""), ("c", (), dies), ("d", "c", "")])
    said = io.StringIO()
    with pytest.raises(
        NotebookFailed, match=r"(?s)a failed: ValueError: no\nits log: .*1 notebooks behind that wait"
    ):
        Reproduction(parts(tmp_path), tmp_path, todo, How(2), said).run()
    assert list(reasons(todo, tmp_path)) == ["a", "b"]
    assert read_json(standing(todo[2], tmp_path))["attempt"] == 2
    assert read_json(standing(todo[0], tmp_path))["attempt"] == 1, "an error is final"
    assert re.search(
        r"c failed: killed by signal 9; out of memory\? \(allowed: .* GiB, .*\); it is started again \(2 of 3\)",
        said.getvalue(),
    )
    assert said.getvalue().count("a failed: ValueError: no\n") == 1
    assert "missing in the table: " not in said.getvalue()


def test_a_result_that_cannot_be_read_does_not_stop_the_batch_and_only_new_ones_are_shown(tmp_path):
    """It may be about to be made again; and what an earlier batch left is no new result."""
    base, sft, sepo, *_ = results_of(get_profile("smoke").plan("pico", "kuhn"), tmp_path)
    evaluation(tmp_path, "kuhn", "base", "nash")
    sft.write_text("{")
    code = f"import shutil; [shutil.copy({str(base)!r}, file) for file in ({str(sft)!r}, {str(sepo)!r})]"
    names, said = ran(todo_of([("a", (), code)]), tmp_path)
    assert names == ["a"] and said.count("result: ") == 2


def test_a_result_that_stays_unreadable_is_left_out_of_the_table_and_said_so(tmp_path):
    sft = results_of(get_profile("smoke").plan("pico", "kuhn"), tmp_path)[1]
    evaluation(tmp_path, "kuhn", "base", "nash")
    sft.write_text("{")
    names, said = ran(todo_of([("a", (), "")]), tmp_path)
    assert names == ["a"] and "left out of the table: " in said and sft.name in said
    assert "pico" in said[said.index("left out") :] and "done in" in said


def test_a_cluster_whose_settings_are_no_yaml_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "CONFIGS", tmp_path)
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / batch.FILE).write_text("executor: [slurm\njobs: }")
    with pytest.raises(ValueError, match=r"slurm/.* is not YAML \(.*\); mend it") as error:
        batch.cluster("slurm")
    assert "\n" not in str(error.value)


def test_a_stopped_batch_leaves_nobody_alive_and_the_same_command_goes_on(tmp_path):
    steps, enough = tmp_path / "steps", tmp_path / "enough"
    code = f"""
import time
steps, enough = pathlib.Path({str(steps)!r}), pathlib.Path({str(enough)!r})
while not enough.exists():  # however long it takes to stop the batch
    with open(steps, "a") as file:
        file.write("x")
    time.sleep(0.05)
"""
    listed = [("a", (), ""), ("b", "a", code), ("c", "b", "")]
    root = tmp_path / "runs"
    line = driver(root, listed, "How(2)")
    logs = tmp_path / "driver.log", root / "batch.log"
    reached = 0
    with ExitStack() as ended, open(logs[0], "w") as log:
        ended.callback(enough.touch)
        for how in (signal.SIGKILL, signal.SIGTERM):
            going = subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)
            ended.callback(going.kill)
            wait_for(lambda seen=reached: steps.exists() and len(steps.read_text()) > seen + 3, *logs)
            going.send_signal(how)
            going.wait(300)
            wait_for(lambda: not alive(str(root)), *logs)
            reached = len(steps.read_text())
            assert list(reasons(todo_of(listed), root)) == ["b", "c"]
    subprocess.run(line, check=True, capture_output=True)
    assert not reasons(todo_of(listed), root)


def test_what_snakemake_is_told_is_ours_alone(tmp_path, monkeypatch):
    snakemake = pytest.importorskip("snakemake.cli")
    monkeypatch.setenv("SNAKEMAKE_PROFILE", str(tmp_path / "of-the-user"))
    parser = snakemake.get_argument_parser()
    root = tmp_path / "a #1: {b}"
    here = [batch.engine(root, How(1)), *batch.report_lines(root, tmp_path / "page.html", shown=True)]
    for line in [*here, batch.engine(root, How(1, on="slurm"))]:
        told = parser.parse_args(line[3:])
        assert told.profile == (["none"] if line in here else [str(batch.CONFIGS / "slurm")])
        assert told.workflow_profile == "none"
        batch_file = snakemake.parse_config(told.config)["batch"]
        assert told.directory / batch_file == root / batch.BATCH


def test_a_batch_runs_in_a_folder_of_any_name_whatever_profile_the_user_has(tmp_path, monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_PROFILE", str(tmp_path / "is-not-there"))
    root = tmp_path / "a #1: {b}"
    root.mkdir()
    todo = todo_of([("one", [], ""), ("two", ["one"], "")])
    assert ran(todo, root)[0] == ["one", "two"]
    assert ran(todo, root)[0] == []


def test_a_pattern_names_notebook_runs_and_what_they_need():
    todo = [Task("04 pico/ipd", "", {}), Task("05 pico/ipd", "", {}, ("04 pico/ipd",)), Task("01", "", {})]
    assert [task.name for task in only(todo, ["05*ipd"])] == ["04 pico/ipd", "05 pico/ipd"]
    assert [task.name for task in only(todo, ["01", "04"])] == ["04 pico/ipd", "01"]
    with pytest.raises(ValueError, match="no notebook run is named '7'; there are: 04 pico/ipd, "):
        only(todo, ["7"])


def test_a_part_of_what_is_done_trains_nothing_and_leaves_the_whole_done(tmp_path, monkeypatch):
    """Its tables go elsewhere, and the corpus with them, which no training reads."""
    monkeypatch.setattr(tasks, "DATA", tmp_path / "data")
    root, results = tmp_path / "runs", tmp_path / "data" / "results"
    profile = get_profile("quick")
    whole = all_tasks([Part(profile, root, tmp_path / "figures", results)])
    inside = (root / "figures", root / "tables")
    evaluations = only(all_tasks([Part(profile, root, *inside)]), ["06*pico/kuhn"])
    kuhn = all_tasks([Part(profile.only(None, ["kuhn"]), root, *inside)])
    mark_done(whole, root)
    assert [task.name for task in evaluations] == [f"{name} pico/kuhn" for name in tasks.OF_PLAN]
    assert not reasons(evaluations, root)
    redone = {"03_sft_data", "08_figures", "09_penalty_lab", "10_worst_case"}
    for todo in (kuhn, whole):
        assert set(reasons(todo, root)) == redone
        mark_done([task for task in todo if task.name in redone], root)


def test_changes_of_a_profile_are_parts_of_one_batch_and_share_what_is_the_same(tmp_path):
    changed = [
        replace(
            part, profile=get_profile(f"smoke,seeds=2,mode={mode}").only(None, ["kuhn"]), root=tmp_path / mode
        )
        for mode in ("credited", "shared")
        for part in parts(tmp_path)
    ]
    todo = all_tasks(changed)
    names = [task.name for task in todo]
    assert len(set(names)) == len(names) == 4 + 2 * 6
    assert [name for name in names if "mode" not in name] == [
        "03_sft_data", "01_games", "02_penalties", "07_credit_ablation",
    ]  # fmt: skip
    (last,) = [task for task in todo if task.name == "06_evaluation pico/kuhn seeds=2,mode=shared"]
    assert last.after == ("05_sepo_training pico/kuhn seeds=2,mode=shared",)
    assert tmp_path / "shared" / "pico" / "kuhn" / "results" / "sepo-seed-1.json" in last.makes
    assert get_profile(last.parameters["profile"]).plan("pico", "kuhn").sepo.mode == "shared"
    for number, task in enumerate(todo):
        assert set(task.after) <= set(names[:number])
    assert [part.label for part in changed] == ["seeds=2,mode=credited", "seeds=2,mode=shared"]


def test_chains_by_hand():
    """b 1 + c 3 + d 2 = 6 minutes, a 4 + d 2 = 6, e 5.5, c 3 + d 2 = 5, d 2."""
    todo = [
        Task("a", "", {}, (), 4), Task("b", "", {}, (), 1), Task("c", "", {}, ("b",), 3),
        Task("d", "", {}, ("a", "c"), 2), Task("e", "", {}, (), 5.5),
    ]  # fmt: skip
    assert chains(todo) == {"a": 6, "b": 6, "c": 5, "d": 2, "e": 5.5}


# --- one node -------------------------------------------------------------------------------------


def test_a_node_that_hangs_is_ended_at_its_limit_and_tried_again(tmp_path):
    todo = todo_of([("a", (), "import time; time.sleep(600)")])
    status, stands = node(todo, tmp_path, "a", How(1, limit_minutes=0.01))
    assert (
        status == 1
        and stands["again"]
        and stands["error"].startswith("it ran longer than its limit of 0.01 minutes")
    )
    assert again(todo, tmp_path, "a")[1]["attempt"] == 2


@pytest.mark.parametrize(
    ("said", "tries"),
    [
        ("RuntimeError: Kernel didn't respond in 60 seconds", True),
        ("RuntimeError: Kernel died before replying to kernel_info", True),
        ("nbclient.exceptions.DeadKernelError: Kernel died", True),
        ("TrainingFailed: killed by signal 9; out of memory?", True),
        (
            "sepo_kit.runs.files.RunError: runs/a is being written by process 7 on n1 since 12:00; wait for it",
            True,
        ),
        ("ValueError: no", False),
    ],
)
def test_an_error_is_final_and_a_kernel_that_died_is_not(tmp_path, said, tries):
    """Two kernels that start at once may pick the same port."""
    todo = todo_of([("a", (), f"print({said!r}); raise SystemExit(1)")])
    status, stands = node(todo, tmp_path, "a")
    assert status == 1 and stands["again"] == tries and stands["error"] == said
    log(todo[0], tmp_path).write_text("first")
    status, stands = again(todo, tmp_path, "a")
    assert status == 1 and stands["attempt"] == 1 + tries
    assert (tmp_path / "notebooks" / "a.1.log").exists() == tries  # the first attempt's log stays


def test_a_record_is_of_the_code_and_parents_that_were_there_when_the_node_began(tmp_path):
    """An edit meanwhile makes it stale."""
    root = tmp_path
    todo = todo_of([("a", (), ""), ("b", ("a",), "")])
    assert node(todo, root, "a")[0] == 0
    edits = f"pathlib.Path({str(marker('a', root))!r}).write_text('{{}}')"
    todo[1] = Task("b", "01_games", {"code": edits}, ("a",))
    assert node(todo, root, "b")[0] == 0 and output(todo[1], root).exists()
    assert read_json(marker("b", root))["fingerprint"]
    write_json(marker("a", root), {"fingerprint": "again"})
    assert "b" in reasons(todo, root)


def test_a_node_without_its_parent_does_nothing(tmp_path):
    todo = todo_of([("a", (), "")])
    write_batch(todo, ["a"], tmp_path, How(1))
    assert run_node([str(tmp_path / batch.BATCH), "a", "1"]) == 1 and not standing(todo[0], tmp_path).exists()


@pytest.mark.parametrize("cards", [(), ("0",), ("3", "5")])
def test_each_node_has_a_gpu_of_its_own_where_there_are_some(tmp_path, monkeypatch, cards):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    meet = "import os, time; print(os.environ.get('CUDA_VISIBLE_DEVICES')); "
    meet += "pathlib.Path(here := sys.argv[2] + '.here').touch(); "
    meet += f"n = {max(len(cards), 1)}; t = time.time()\n"
    meet += "while len(list(pathlib.Path(here).parent.glob('*.here'))) < n:\n"
    meet += "    assert time.time() < t + 300, 'the others did not come'; time.sleep(0.02)"
    todo = todo_of([(name, (), meet) for name in "ab"[: max(len(cards), 1)]])
    write_batch(todo, [task.name for task in todo], tmp_path, How(max(len(cards), 1), gpus=cards))
    line = [sys.executable, "-m", "sepo_kit.pipeline.node", str(tmp_path / batch.BATCH)]
    nodes = [subprocess.Popen([*line, task.name, str(os.getpid())]) for task in todo]
    assert [each.wait(360) for each in nodes] == [0] * len(nodes)
    assert sorted(log(task, tmp_path).read_text().strip() for task in todo) == sorted(cards or ["None"])


def test_nodes_load_nothing_slow():
    code = "import sys, sepo_kit.pipeline.node; print({'numpy', 'torch', 'papermill'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
    )


# --- the driver -----------------------------------------------------------------------------------


def test_the_line_has_counts_steps_and_time_left(tmp_path):
    watched = tmp_path / "pico"
    todo = [Task("a", "", {}, minutes=1), Task("b", "", {}, ("a",), 2, watched), Task("c", "", {}, minutes=4)]
    progress = Progress(todo, ["b", "c"], tmp_path, "this", 2, 1, 2, io.StringIO())
    write_json(
        standing(todo[1], tmp_path), {"batch": "this", "state": "running", "started": 50.0, "attempt": 1}
    )
    write_json(
        standing(todo[2], tmp_path), {"batch": "another", "state": "failed", "started": 50.0, "attempt": 1}
    )
    (watched / "sft-seed-0").mkdir(parents=True)
    write_json(watched / "sft-seed-0" / "progress.json", {"step": 3, "total": 9, "note": "SFT", "time": 51.0})
    progress.look()
    assert progress.line() == "[0:00] 1/3 notebooks done, about 5:59 left | b (SFT, step 3/9)"
    write_json(
        standing(todo[1], tmp_path), {"batch": "this", "state": "running", "started": 60.0, "attempt": 1}
    )
    progress.look()
    assert progress.line().endswith("| b"), "an older report is not its own"
    for odd in ("[]", '{"step": 1, "total": 2, "note": "", "time": "now"}', "1e999", "[" * 100_000):
        (watched / "sft-seed-0" / "progress.json").write_text(odd)
        assert progress.line().endswith("| b"), "one of another shape tells nothing, and stops nothing"
    both = [Task(name, "", {}, minutes=1, threads=2) for name in "ab"]
    alone = Progress(both, ["a", "b"], tmp_path, "this", 2, 2, 2, io.StringIO())
    assert alone.seconds_left() == 120, "two of two threads do not run at once on two cores"


def test_a_failed_attempt_is_named_though_the_next_began_before_anybody_looked(tmp_path):
    (task,), said = [Task("a", "", {}, minutes=1)], io.StringIO()
    progress = Progress([task], ["a"], tmp_path, "this", 2, 1, 1, said)
    failed = {"attempt": 1, "error": "killed by signal 9", "again": True}
    stands = {"batch": "this", "state": "running", "started": 50.0, "attempt": 2, "failures": [failed]}
    for state in ("running", "done"):
        write_json(standing(task, tmp_path), {**stands, "state": state})
        progress.look()
    assert said.getvalue() == "a failed: killed by signal 9; it is started again (2 of 3)\n"


def test_what_was_found_trained_says_nothing_of_the_pace(tmp_path):
    watched = tmp_path / "pico"
    todo = [Task("a", "", {}, minutes=10, watched=watched), Task("b", "", {}, ("a",), 10, watched)]
    progress = Progress(todo, ["a", "b"], tmp_path, "this", 1, 1, 1, io.StringIO())
    stands = {"batch": "this", "state": "done", "started": 50.0, "seconds": 60.0, "attempt": 1}
    write_json(standing(todo[0], tmp_path), stands)
    (watched / "sft-seed-0").mkdir(parents=True)
    report = {"step": 9, "total": 9, "note": "SFT"}
    for trained_at, left in ((40.0, 600), (100.0, 60), (111.0, 600)):  # before it, in it, in the next
        write_json(watched / "sft-seed-0" / "progress.json", {**report, "time": trained_at})
        progress.look()
        assert progress.seconds_left() == left


def test_a_report_tells_what_ran_and_has_figures_and_tables(tmp_path):
    figures, results = tmp_path / "figures", tmp_path / "tables of all"
    code = f"""
for folder, name in (({str(figures)!r}, "safety.png"), ({str(results)!r}, "smoke.csv")):
    pathlib.Path(folder).mkdir()
    (pathlib.Path(folder) / name).write_text("number,7\\n")
"""
    todo = [
        Task("08_figures", "08_figures", {"code": code, "figures": str(figures), "results": str(results)})
    ]
    said, page = io.StringIO(), tmp_path / "page.html"
    Reproduction(parts(tmp_path), tmp_path, todo, How(1), said).run(page)
    assert f"1 figures in {figures}, tables in {results}" in said.getvalue()
    assert all(word in page.read_text() for word in ("safety.png", "smoke.csv", "08_figures"))
    assert not reasons(todo, tmp_path)


def test_workers_follow_the_gpus_and_else_the_cores(tmp_path, monkeypatch):
    asked, many = [], [replace(parts(tmp_path)[0], profile=get_profile("quick"))]  # more plans than cores
    monkeypatch.setattr(Reproduction, "run", lambda self, report: asked.append(self.how.workers))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for cards in (["0", "1", "2"], []):
        monkeypatch.setattr("sepo_kit.pipeline.reproduce.gpus", lambda cards=cards: cards)
        reproduce(many, tmp_path)
    reproduce(many, tmp_path, workers=1)
    assert asked == [3, 4, 1]


def test_threads_are_the_plans_whatever_runs_beside(tmp_path, monkeypatch):
    """They decide the last digits: as many jobs as there may be, the table has the same bytes."""
    todo = all_tasks([replace(parts(tmp_path)[0], profile=get_profile("quick"))])
    seen = []
    for how in (How(1), How(2), How(16), How(2, ("0", "1")), How(8, on="slurm")):
        write_batch(todo, {task.name for task in todo}, tmp_path, how)
        seen.append({node["name"]: node["threads"] for node in read_json(tmp_path / batch.BATCH)["nodes"]})
    assert all(threads == seen[0] for threads in seen)
    # One core each: a notebook that needs both of a small machine waits until all others are done.
    assert seen[0]["05_sepo_training smollm2-135m/kuhn"] == 1 and seen[0]["05_sepo_training pico/kuhn"] == 1
    assert get_profile("paper").plan("Qwen/Qwen3.5-4B", "kuhn").threads == 2
    file = tmp_path / "threads.txt"
    code = f"import os; pathlib.Path({str(file)!r}).write_text(' '.join(os.environ[n] for n in {THREADS}))"
    task = Task("a", "01_games", {"code": code}, threads=3)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    for jobs in (1, 2):
        assert node([task], tmp_path / str(jobs), "a", How(jobs))[0] == 0
        assert file.read_text() == "3 3 3"


def test_two_notebooks_of_two_threads_do_not_run_at_once_on_two_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    alone = (
        "import fcntl, time; lock = open({file!r}, 'w'); fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB); "
        "time.sleep(0.5)"
    ).format(file=str(tmp_path / "lock"))
    todo = [Task(name, "01_games", {"code": alone}, threads=2) for name in ("a", "b")]
    assert sorted(ran(todo, tmp_path, 2)[0]) == ["a", "b"]


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"retries": -1}, {"limit_minutes": 0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be >=? \d"):
        How(**{"workers": 1, **wrong})


def test_an_unknown_cluster_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"no cluster 'ray', since .*ray/config.yaml is missing; known: slurm; see"
    ):
        reproduce(parts(tmp_path), tmp_path, on="ray")


def test_runs_of_other_code_are_named_before_anything_starts(tmp_path):
    plan = get_profile("smoke").plan("pico", "kuhn")
    request = {"stage": "sft", "base": "pico", "base_sha256": None, "game": "kuhn", "seed": 0, "code": "0123",
               "settings": plan.sft.as_request()}  # fmt: skip
    Run(plan.stage_folder(tmp_path, "sft", 0), request, writes=True).finish()
    _, said = ran([], tmp_path)
    assert "sft-seed-0 was finished by other code (0123, now " in said and said.count("add --keep") == 1
    assert "not in this table, since it was not asked for: " in said
