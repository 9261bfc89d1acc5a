"""Files of run folders, results and tables, damaged in thousands of ways, and what those who read them say.

Allowed is one line: a ``RunError``, another ``ValueError`` or an ``OSError``. Anything else is a stack trace to a user.
It takes some minutes; stopped, it goes on where it was. ``--smoke``: a few of each, nothing written.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from tqdm import tqdm

PROJECT = Path(__file__).parents[1]
for place in ("tests", "benchmarks", "."):
    sys.path.insert(0, str(PROJECT / place))

import finished  # noqa: E402
import several  # noqa: E402
import tiny  # noqa: E402
from common import conclude, options  # noqa: E402

from sepo_kit import cli  # noqa: E402
from sepo_kit.evaluation import archive, contenders, policies, worst_cases  # noqa: E402
from sepo_kit.evaluation.agents import games_of  # noqa: E402
from sepo_kit.evaluation.results import read_results, text_table, write_table  # noqa: E402
from sepo_kit.evaluation.statistics import resampled  # noqa: E402
from sepo_kit.models.loading import load_model  # noqa: E402
from sepo_kit.pipeline.settings_file import read_settings, write_settings  # noqa: E402
from sepo_kit.runs import (  # noqa: E402
    Run,
    append_line,
    code_fingerprint,
    keep_lines,
    last_checkpoint,
    read_lines,
    read_manifest,
    seal,
)
from sepo_kit.training.selection import best_step  # noqa: E402
from sepo_kit.training.settings import SEPOSettings  # noqa: E402
from sepo_kit.training.watch import resume_point  # noqa: E402

LOG = PROJECT / "runs" / "corrupt.jsonl"  # what was tried, by this code
COUNT = 20  # damaged files of one kind between two lines of it
CODE = code_fingerprint(("",), Path(__file__))
Reader = Callable[[Path], object]
ODD = (
    None, [], {}, "", "x", "\ud800", "\x00", True, -1, 0.5, 1e308, 10**400, [[]], [1], {"": 0}, "1e999",
    "../" * 40, ["x"] * 3,
)  # fmt: skip


# --- what is damaged ------------------------------------------------------------------------------


def made(root: Path) -> Path:
    """A folder as the kit leaves it: a warm start and a training on it, results, tables, settings, a checkpoint.
    ``root`` holds a model."""
    pico = root / "runs" / "quick" / "pico" / "kuhn"
    several.run("sft", root / "model", pico / "sft-seed-0", several.SFT)
    several.run("sepo", pico / "sft-seed-0", pico / "sepo-seed-0", replace(several.SEPO, keep="best"))
    for stage, seed in (("base", None), ("sft", 0), ("sepo", 0)):
        finished.evaluation(root / "runs" / "quick", "kuhn", stage, "nash", seed, episodes=2)
    finished.evaluation(root / "exact", "kuhn", "sepo", "nash", 0, exact=True)
    finished.evaluation(root / "sampled", "kuhn", "sft", "nash", 0, episodes=2)
    files = sorted((pico / "results").glob("*.json"))
    write_table(read_results(files), root / "data" / "results", "quick", files)
    write_settings(root / "settings.json", several.SEPO)
    checkpoint = pico / "checkpoints" / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    shutil.copy(root / "settings.json", checkpoint / "trainer_state.json")
    seal(checkpoint)
    return root


def commands(*lines: str) -> Reader:
    """What the command line makes of it; its status must be 0 or 2."""

    def read(root: Path) -> None:
        for line in lines:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
                status = cli.main([word.replace("ROOT", str(root)) for word in line.split()])
            if status not in (0, 2):
                raise AssertionError(f"{line}: status {status}, {said.getvalue()}")

    return read


def match_by_match(file: str) -> Reader:
    def read(root: Path) -> None:
        recording = archive.read_episodes(root / file)
        for match in archive.matches_of(recording).head(3).itertuples():
            archive.read_match(recording, match.pool, match.opponent, match.group, match.index)

    return read


KUHN = "runs/quick/pico/kuhn"
SEPO, SFT = f"{KUHN}/sepo-seed-0", f"{KUHN}/sft-seed-0"
RESULTS = f"{KUHN}/results"
SAMPLED = "sampled/pico/kuhn/results/sft-seed-0"


def folders(root: Path) -> list[Path]:
    return contenders.run_folders(root / "runs")


def results(root: Path) -> list[Path]:
    return sorted((root / RESULTS).glob("*.json"))


def written_again(root: Path) -> None:
    files = results(root)
    write_table(read_results(files), root / "again", "quick", files)


READERS: dict[str, list[Reader]] = {
    f"{SFT}/manifest.json": [
        lambda root: read_manifest(root / SFT),
        lambda root: archive.find_runs(root / "runs"),
        lambda root: Run(root / SFT, {"stage": "sft"}),
        lambda root: load_model(root / SFT),
        commands(
            "runs list ROOT/runs", f"runs show ROOT/{SFT}", "runs verify ROOT", "runs clean ROOT/runs --dry-run",
            f"trace ROOT/{SEPO}", f"runs move ROOT/{SFT} ROOT/{SEPO}", "runs list ROOT/runs",
        ),
    ],
    f"{SEPO}/progress.json": [
        lambda root: archive.find_runs(root / "runs"), commands("runs list ROOT/runs", f"runs show ROOT/{SEPO}")
    ],
    f"{SEPO}/metrics.jsonl": [
        lambda root: archive.compare(archive.find_runs(root / "runs")),
        lambda root: resume_point(Run(root / SEPO, read_manifest(root / SEPO)["request"])),
        commands(f"trace ROOT/{SEPO}/metrics.jsonl"),
    ],
    f"{SEPO}/scores.jsonl": [
        lambda root: best_step(root / SEPO),
        lambda root: resume_point(Run(root / SEPO, read_manifest(root / SEPO)["request"])),
    ],
    f"{SEPO}/adapter/adapter_config.json": [lambda root: load_model(root / SEPO)],
    f"{SEPO}/adapter/adapter_model.safetensors": [lambda root: load_model(root / SEPO)],
    "model/config.json": [lambda root: load_model(root / "model")],
    "model/tokenizer_config.json": [lambda root: load_model(root / "model")],
    "model/model.safetensors": [lambda root: load_model(root / "model")],
    f"{SEPO}/episodes/step-000001.parquet": [match_by_match(f"{SEPO}/episodes/step-000001.parquet")],
    f"{SEPO}/episodes/step-000001.rounds.parquet": [match_by_match(f"{SEPO}/episodes/step-000001.parquet")],
    f"{RESULTS}/sft-seed-0.json": [
        lambda root: text_table(read_results(results(root))),
        lambda root: games_of(results(root)),
        lambda root: policies.policy_frame(results(root)),
        lambda root: worst_cases.with_stage(results(root), results(root), "worst-case"),
        lambda root: contenders.stored(folders(root), "kuhn"),
        written_again,
        commands(f"trace ROOT/{RESULTS}/sft-seed-0.json", "runs verify ROOT/runs"),
    ],
    "exact/pico/kuhn/results/sepo-seed-0.json": [
        lambda root: policies.policy_frame([root / "exact/pico/kuhn/results/sepo-seed-0.json"]),
        lambda root: contenders.stored([root / "exact"], "kuhn"),
    ],
    f"{SAMPLED}.parquet": [
        match_by_match(f"{SAMPLED}.parquet"), lambda root: contenders.stored([root / "sampled"], "kuhn")
    ],
    f"{SAMPLED}.rounds.parquet": [
        match_by_match(f"{SAMPLED}.parquet"), lambda root: contenders.stored([root / "sampled"], "kuhn")
    ],
    "data/results/quick.json": [commands("trace ROOT/data/results/quick.csv", "runs verify ROOT/data")],
    "data/results/quick.csv": [commands("trace ROOT/data/results/quick.csv", "runs verify ROOT/data")],
    "settings.json": [lambda root: read_settings(root / "settings.json", SEPOSettings)],
    f"{KUHN}/checkpoints/checkpoint-2/whole.json": [lambda root: last_checkpoint(root / KUHN / "checkpoints")],
}  # fmt: skip


# --- how it is damaged ----------------------------------------------------------------------------


def damages(file: Path, rng: np.random.Generator) -> Iterator[bytes]:
    """``file`` damaged, again and again: bits, cuts, gaps, noise, and, where it can be read, values of other kinds."""
    content = file.read_bytes()
    kinds: list[Callable[[], bytes | None]] = [
        lambda: _flipped(content, rng),
        lambda: content[: rng.integers(0, len(content))],
        lambda: _without_a_part(content, rng),
        lambda: rng.bytes(int(rng.integers(0, 200))),
        lambda: content[: rng.integers(0, len(content))] + rng.bytes(20) + content[rng.integers(0, len(content)) :],
        lambda: rng.choice([b"", b"null", b"{}", b"[]", b"1e999", b"[" * 100_000, b'{"a":' * 5_000, b"\xff\xfe"]),
    ]  # fmt: skip
    # Values of other kinds go deepest: they pass whatever only parses.
    if file.suffix in (".json", ".jsonl"):
        kinds += [lambda: _odd_value(file, rng)] * 8
    if file.suffix == ".parquet":
        kinds += [lambda: _odd_column(file, rng)] * 8
    while True:
        yield kinds[rng.integers(len(kinds))]()


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for bit in rng.integers(0, len(content) * 8, size=rng.integers(1, 4)):
        damaged[bit // 8] ^= 1 << int(bit) % 8
    return bytes(damaged)


def _without_a_part(content: bytes, rng: np.random.Generator) -> bytes:
    first, last = sorted(rng.integers(0, len(content), size=2))
    return content[:first] + content[last:]


def _odd_value(file: Path, rng: np.random.Generator) -> bytes:
    """One value somewhere in the JSON replaced, renamed or left out."""
    lines = file.suffix == ".jsonl"
    value = (
        [json.loads(line) for line in file.read_text().splitlines()]
        if lines
        else json.loads(file.read_text())
    )
    places = list(_places(value))
    holder, key = places[rng.integers(len(places))]
    how = rng.integers(6)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    else:
        holder[key] = ODD[rng.integers(len(ODD))]
    text = "\n".join(map(json.dumps, value)) if lines else json.dumps(value)
    return text.encode()


def _places(value: object) -> Iterator[tuple]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def _odd_column(file: Path, rng: np.random.Generator) -> bytes:
    """One column of the table left out, or with values of another kind, or one row more or less."""
    frame = pd.read_parquet(file)
    name = rng.choice(frame.columns)
    values: list = [
        None, "x", "", np.inf, -np.inf, np.nan, -1, 10**6, 2**62, True, b"x", [1, 2], {"a": 1}, 0.5,
        pd.Timestamp("2026-01-01"), 1e308,
    ]  # fmt: skip
    how = rng.integers(6)
    if how == 0:
        frame = frame.drop(columns=name)
    elif how == 1:
        frame = frame.iloc[: rng.integers(len(frame))]
    elif how == 2:
        frame = pd.concat([frame, frame.iloc[[rng.integers(len(frame))]]])
    elif how == 3:
        column = frame[name].astype(object)
        column.iloc[rng.integers(len(frame))] = values[rng.integers(len(values))]
        frame[name] = column
    else:
        frame[name] = pd.Series([values[rng.integers(len(values))]] * len(frame), index=frame.index)
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer, index=False)
    except (ValueError, TypeError, OverflowError):  # pyarrow holds no such column
        frame.assign(**{name: frame[name].astype(str)}).to_parquet(buffer := io.BytesIO(), index=False)
    return buffer.getvalue()


# --- what is said of it ---------------------------------------------------------------------------


def said_by(reader: Reader, root: Path) -> str:
    """ "read", "one line", or what a user would see of a stack trace."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            reader(root)
    except cli.EXPECTED as error:
        return (
            "one line"
            if len(str(error).splitlines()) == 1
            else f"{type(error).__name__} of several lines: {error}"
        )
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = [
            frame for frame in frames if f"{os.sep}sepo_kit{os.sep}" in frame.filename or frame is frames[0]
        ][-1]
        return f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {error}"
    return "read"


def tried(root: Path, name: str, count: int, rng: np.random.Generator, traces: Counter) -> dict:
    """Damage the file ``name`` of ``root`` ``count`` times and have all its readers read it: how often they read it
    all the same, and how often one said why not. What users would see as stack traces goes into ``traces``."""
    before = kept(root)
    said: Counter = Counter()
    damaged = damages(root / name, rng)
    with _quick():
        for _ in range(count):
            content = next(damaged)
            heard = set()
            for reader in READERS[name]:
                _written(root / name, content)
                heard.add(said_by(reader, root))
                put_back(root, before)
            odd = heard - {"read", "one line"}
            traces.update(f"{name}: {each}" for each in odd)
            said["stack traces" if odd else "one line" if "one line" in heard else "read"] += 1
    return {
        "file": name,
        "damaged": count,
        **{how: said[how] for how in ("read", "one line", "stack traces")},
    }


@contextmanager
def _quick() -> Iterator[None]:
    """Leave out what takes long and reads no file: the command line is made once, intervals have two resamples."""
    with (
        mock.patch.object(cli, "parser", cache(cli.parser)),
        mock.patch.object(contenders, "resampled", partial(resampled, resamples=2)),
    ):
        yield


def kept(root: Path) -> dict[str, bytes]:
    """All files under ``root``."""
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def put_back(root: Path, kept: dict[str, bytes]) -> None:
    """The folder as it was before a reader that moves, deletes or writes."""
    found = {os.path.join(folder, file) for folder, _, files in os.walk(root) for file in files}
    for path in found - kept.keys():
        os.unlink(path)
    for path, content in kept.items():
        stands = os.stat(path) if path in found else None
        if stands is None or stands.st_size != len(content) or stands.st_mtime_ns != STAMPS.get(path):
            _written(Path(path), content)
            STAMPS[path] = os.stat(path).st_mtime_ns


STAMPS: dict[str, int] = {}


def _written(file: Path, content: bytes) -> None:
    """A new file: some file systems wait for the disk where one is cut to nothing and written again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_bytes(content)


def run() -> None:
    smoke = options(__doc__).smoke
    parts, count = (1, 5) if smoke else (-(-5_000 // len(READERS) // COUNT), COUNT)
    todo = [
        (name, part) for part in range(parts) for name in READERS
    ]  # in turns: stopped, there are some of each
    rows: list[dict] = []
    if not smoke:
        LOG.parent.mkdir(exist_ok=True)
        keep_lines(LOG, lambda row: row["code"] == CODE)
        rows += read_lines(LOG)
    done = {(row["file"], row["part"]) for row in rows}
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tokenizer = tiny.tokenizer()
        tiny.model(tokenizer).save_pretrained(root / "model")
        tokenizer.save_pretrained(root / "model")
        made(root)
        for name, part in tqdm(todo, desc=f"{count} damaged files each", disable=None):
            if (name, part) not in done:
                traces: Counter = Counter()
                rng = np.random.default_rng([list(READERS).index(name), part])
                found = tried(root, name, count, rng, traces)
                rows.append({**found, "part": part, "code": CODE, "traces": traces})
                if not smoke:
                    append_line(LOG, rows[-1])
    frame = pd.DataFrame(rows).drop(columns=["part", "code", "traces"])
    conclude("corrupt", frame.groupby("file", sort=False).sum().reset_index().to_dict("records"), smoke)
    traces = sum((Counter(row["traces"]) for row in rows), Counter())
    for line, times in traces.most_common():
        print(f"{times} x {line}", file=sys.stderr)
    if traces:
        sys.exit("a damaged file ends in a stack trace")


if __name__ == "__main__":
    run()
