"""A batch on a real SLURM of two nodes on this machine: its driver is killed, then one of its nodes."""

from __future__ import annotations

import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from batches import driver, todo_of, wait_for

from sepo_kit.pipeline import batch
from sepo_kit.pipeline.children import die_with_parent
from sepo_kit.pipeline.record import reasons, standing
from sepo_kit.runs import read_json

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun")
HERE = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
MISSING = [name for name in PROGRAMS if not shutil.which(name, path=HERE)]
NODES = ("n0", "n1")
STEPS = 20
# Does its steps in order, one at least, until the test has seen enough, and says where it does them; whoever works
# beside it is found out.
WORK = """
import fcntl, os, time
file, enough, node = pathlib.Path({file!r}), pathlib.Path({enough!r}), os.environ["SLURMD_NODENAME"]
with open(str(file) + ".lock", "a") as lock:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.with_suffix(".twice").touch()
    step = len(file.read_text().splitlines()) if file.exists() else 0
    going_on = True
    while going_on:
        with open(file, "a") as steps:
            steps.write(f"{{step}} {{node}}\\n")
        step += 1
        time.sleep(0.2)
        going_on = step < {steps} or not enough.exists()
"""


class Slurm:
    """munge, a controller and two nodes of one core, in a folder of their own, from ``begin`` to ``stop``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen] = {}
        ports = free_ports(1 + len(NODES))
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        (folder / "state").mkdir()
        me, host = getpass.getuser(), socket.gethostname()
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=2000"
            for name, port in zip(NODES, ports[1:], strict=True)
        )
        self.conf = folder / "slurm.conf"
        self.conf.write_text(f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={me}
SlurmdUser={me}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
SlurmdTimeout=20
KillWait=2
MinJobAge=300
{nodes}
PartitionName=all Nodes={",".join(NODES)} Default=YES MaxTime=INFINITE State=UP
""")
        # The variables of SLURM do not reach what is run inside its jobs, the PATH does.
        srun = folder / "bin" / "srun"
        srun.parent.mkdir()
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.conf} exec {shutil.which("srun", path=HERE)} "$@"\n')
        srun.chmod(0o755)
        path = os.pathsep.join([str(srun.parent), HERE])
        self.environment = {**os.environ, "PATH": path, "SLURM_CONF": str(self.conf)}

    def begin(self) -> None:
        files = [
            f"--{option}={self.folder}/munge.{option.removesuffix('-file')}"
            for option in ("key-file", "log-file", "pid-file", "seed-file", "socket")
        ]
        self.start("munged", "--foreground", "--force", *files)
        wait_for((self.folder / "munge.socket").exists, self.folder / "munge.log")
        self.start("slurmctld", "-D", "-f", str(self.conf))
        for name in NODES:
            self.node(name)
        logs = [self.folder / f"{name}.log" for name in ("slurmctld", *NODES)]
        wait_for(lambda: self.ask("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * len(NODES), *logs)

    def start(self, *line: str, name: str = "") -> None:
        self.daemons[name or line[0]] = subprocess.Popen(
            line,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )

    def node(self, name: str) -> None:
        self.start("slurmd", "-D", "-N", name, "-f", str(self.conf), name=name)

    def fail(self, name: str) -> None:
        """Everything that runs on a node dies at once."""
        self.daemons[name].kill()
        self.daemons[name].wait()
        for pid in in_environment(f"SLURMD_NODENAME={name}"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ask(self, *line: str) -> str:
        return subprocess.run(line, env=self.environment, capture_output=True, text=True).stdout

    def stop(self) -> None:
        for name in self.daemons.keys() & NODES:
            self.fail(name)
        for daemon in self.daemons.values():
            daemon.kill()
            daemon.wait()


def free_ports(count: int) -> list[int]:
    """Of those below the ones that Linux gives to whoever asks for any."""
    found = []
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
    return found[:count]


def in_environment(words: str) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if words.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(int(pid))
        except OSError:
            continue
    return found


@pytest.fixture
def slurm(tmp_path):
    if MISSING:
        assert not os.environ.get("SEPO_KIT_TEST_SLURM"), (
            f"continuous integration installs SLURM, but {MISSING} are missing"
        )
        pytest.skip(f"SLURM is not installed here ({', '.join(MISSING)}): apt-get install slurm-wlm munge")
    folder = tmp_path / "slurm"
    folder.mkdir()
    running = Slurm(folder)
    try:
        running.begin()
        yield running
    finally:
        running.stop()


def test_driver_and_node_are_killed_and_nothing_is_lost_or_run_twice(slurm, tmp_path):
    root, configs = tmp_path / "runs", tmp_path / "configs" / "slurm"
    configs.mkdir(parents=True)
    settings = yaml.safe_load((batch.CONFIGS / "slurm" / "config.yaml").read_text())
    settings["default-resources"] |= {"cpus_per_task": 1, "mem_mb": 500}
    settings |= {
        "slurm-init-seconds-before-status-checks": 1,
        "seconds-between-status-checks": 1,
        "latency-wait": 5,
    }
    (configs / "config.yaml").write_text(yaml.safe_dump(settings))
    files, enough = {name: tmp_path / f"{name}.steps" for name in "ab"}, tmp_path / "enough"
    listed = [
        (name, (), WORK.format(file=str(file), enough=str(enough), steps=STEPS))
        for name, file in files.items()
    ]
    line = driver(root, listed, "How(4, on='slurm')", configs.parent)

    def drive():
        return subprocess.Popen(
            line, env=slurm.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    def done():
        return [len(file.read_text().splitlines()) if file.exists() else 0 for file in files.values()]

    def batches():
        stands = [standing(task, root) for task in todo_of(listed)]
        return {read_json(file)["batch"] if file.exists() else None for file in stands}

    log = root / "batch.log"
    going = drive()
    try:
        wait_for(lambda: min(done()) >= 2, log, seconds=600)
    finally:
        going.kill()
        going.wait()
    first, before = batches(), done()
    going = drive()  # the jobs still work: they are cancelled first
    try:
        wait_for(
            lambda: batches() not in (first, {None}) and len(batches()) == 1 and min(done()) > max(before),
            log,
            seconds=600,
        )
        slurm.fail("n1")
        time.sleep(1)
        slurm.node("n1")
        enough.touch()
        said, _ = going.communicate(timeout=900)
    finally:
        going.kill()
    assert going.returncode == 0, said + log.read_text()
    assert "2 jobs of an earlier batch were in the queue and have been cancelled" in said
    for file in files.values():
        lines = file.read_text().splitlines()
        assert [int(line.split()[0]) for line in lines] == list(range(len(lines))) and len(lines) >= STEPS
        assert not file.with_suffix(".twice").exists()
    places = {line.split()[1] for file in files.values() for line in file.read_text().splitlines()}
    assert places == set(NODES)
    assert not reasons(todo_of(listed), root)
    attempts = sorted(read_json(standing(task, root))["attempt"] for task in todo_of(listed))
    assert attempts == [1, 2], "the node that failed had one of them"
    assert not slurm.ask("squeue", "-h")
