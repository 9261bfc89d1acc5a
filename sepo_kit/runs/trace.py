"""From a file back to what it was made from: the runs, their seeds and commits, and the command that makes it again."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepo_kit.runs.files import RunError, file_hash, read_json
from sepo_kit.runs.folder import MANIFEST, PARTS, base_of, commits_of, is_chain, lineage, read_manifest
from sepo_kit.runs.remade import (
    KINDS,
    STUDIES,
    part_of,
    result_command,
    run_command,
    study_command,
    table_command,
)
from sepo_kit.runs.table_rows import chosen, in_words, is_of, read_rows

PICTURES = (".png", ".svg")
# What the names of files end with that a result or a table comes with.
OF_TABLE = (".rounds", "-policies", "-differences")


@dataclass(frozen=True)
class Trace:
    """Where a file comes from.

    ``kind``: what it is, in words. ``chains``: by whose they are, the links of what it rests on, the base first, each
    with stage, game, seed, commit. ``commits``: all of them. ``remade_by``: the command that makes it again.
    ``problem``: what does not fit, "" if all does. ``rows``: of a table those that were asked for.
    """

    file: Path
    kind: str
    chains: dict[str, list[dict[str, Any]]]
    commits: list[str]
    remade_by: str
    problem: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    rows: list[Mapping[str, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """It, in words, for a terminal."""
        told = [f"{self.file}: {self.kind}", *(f"  {row}" for row in in_words(self.rows))]
        for name, chain in self.chains.items():
            told.append(f"  {name}")
            told += [f"    {_words(link)}" for link in chain]
        told.append(f"  commits: {', '.join(self.commits) or 'unknown'}")
        told.append(f"  made again by: {self.remade_by}")
        return [*told, f"  but: {self.problem}"] if self.problem else told


def _words(link: dict[str, Any]) -> str:
    if "model" in link:
        known = link.get("sha256") or link.get("revision")
        return f"base   {link['model']}" + (f"  sha256 {str(known)[:12]}" if known else "")
    begun, *later = commits_of(link) or ["unknown"]
    made = f"{begun}, went on with {', '.join(later)}" if later else begun
    adapter = f"  adapter {str(link['adapter_sha256'])[:12]}" if link.get("adapter_sha256") else ""
    who = f"{link.get('stage', '?'):<6} {link.get('game', '?')}, seed {link.get('seed', '?')}"
    return f"{who}, commit {made}{adapter}"


def trace(file: Path | str, source: Path | str | None = None, row: Mapping[str, str] | None = None) -> Trace:
    """Where ``file`` comes from: a picture, its data, a table, a result, a run folder or a file in one.

    ``source``: of a picture, the table it was drawn from or that table's JSON file, where neither lies beside it.
    ``row``: of a table, cells by column: only what these rows come from, as {"model": "pico", "stage": "sepo"}.

    Raises
    ------
    RunError
        The file is not there, nothing says where it comes from, or it has no such row.
    """
    file = Path(file)
    if not file.exists():
        raise RunError(f"{file} is missing; name a picture, a table, a result or a run folder")
    place = Path(os.path.abspath(file))  # without "..", whose parents are no folders that it lies in
    for folder in [file, *place.parents][: 1 if file.is_dir() else 4]:
        if (folder / MANIFEST).exists():
            if row:
                raise RunError(f"{file} is of a run and has no rows; leave out --row")
            if source is not None:
                raise RunError(
                    f"{file} is of a run, which says itself what it was made from; leave out --source"
                )
            return _of_run(file, folder)
    rows = chosen(read_rows(file), row, file) if row else []
    told = _told_by(file) if source is None else Path(source)
    if not told.exists():
        raise RunError(f"{told} is missing; name a table or its JSON file with --source")
    told = told if told.suffix == ".json" else _told_by(told)
    value = read_json(told, dict)
    whole = all(isinstance(value.get(name, {}), dict) for name in ("files", "settings"))
    if whole and _is_result(value):
        return _of_result(file, told, value)
    if whole and _are_chains(value.get("chains")):
        return _of_table(file, told, value, rows)
    if whole and isinstance(value.get("provenance"), dict):
        return _of_study(file, told, value, rows)
    raise RunError(
        f"{told} does not say what {file} comes from: it is no result and no table of this version"
    )


def _is_result(value: dict[str, Any]) -> bool:
    return (
        isinstance(value.get("label"), dict)
        and is_chain(value.get("chain", []))
        and is_chain([{"model": "", **own}] if isinstance(own := value.get("provenance", {}), dict) else None)
    )


def _are_chains(value: object) -> bool:
    return isinstance(value, dict) and all(map(is_chain, value.values()))


def _told_by(file: Path) -> Path:
    """The JSON file that says where ``file`` comes from: beside it, or for a picture or its data the table of its
    project, ``data/results/NAME.json``, whose agents its data names; of several such tables the one it is named after
    or whose numbers are in its data."""
    path = file.resolve()
    stem = path.name.removesuffix(path.suffix)
    own = path.with_suffix(".json")
    drawn = read_json(own, dict).get("table") if own.exists() else None
    if isinstance(drawn, str):  # what it was drawn from, as ``figures.save`` was told
        return (path.parent / drawn).resolve()
    for part in OF_TABLE:
        stem = stem.removesuffix(part)
    beside = path.parent / f"{stem}.json"
    told = read_json(beside, dict) if beside.exists() else {}
    if "label" in told or "chains" in told or "command" in told:
        return beside
    tables = [t for up in path.parents[:3] for t in sorted((up / "data" / "results").glob("*.json"))]
    if whole := _study_of(stem, [*sorted(path.parent.glob("*-study-*.json")), *tables]):
        return whole
    fitting = [t for t in tables if _chains_of(file, read_json(t, dict).get("chains"))]
    if len(fitting) > 1:
        drawn = _numbers(path.with_suffix(".csv"))
        shared = {t: len(drawn & _numbers(t.with_suffix(".csv"))) for t in fitting}
        named = [t for t in fitting if stem.endswith(f"-{t.stem}")]
        fitting = (
            named
            or [t for t in fitting if shared[t] > 4 * max(shared[other] for other in fitting if other != t)]
            or fitting
        )
    if len(fitting) == 1:
        return fitting[0]
    which = " and ".join(t.name for t in fitting)
    why = f"{which} name its agents" if fitting else f"{beside.name} is not beside it"
    raise RunError(f"nothing says where {file} comes from ({why}); name its table with --source")


def _study_of(stem: str, tables: Iterable[Path]) -> Path | None:
    """Of ``tables`` that of the study that a file is called after: one of its tables STUDY-KIND-AGENT, a picture
    STUDY-AGENT-GAME. Agents may have hyphens in their names."""
    study, _, rest = stem.partition("-")
    if study not in STUDIES:
        return None
    begin = f"{study}-study-"
    known = {t.stem.removeprefix(begin): t for t in reversed(list(tables)) if t.stem.startswith(begin)}
    kind = next((kind for kind in KINDS if rest.startswith(kind)), "")
    if kind:
        return known.get(rest.removeprefix(kind))
    return known.get(max((agent for agent in known if rest.startswith(f"{agent}-")), key=len, default=""))


def _chains_of(file: Path, chains: object) -> dict[str, list[dict[str, Any]]]:
    """Of the ``chains`` of a table, those of the agents in the data of the picture ``file``; all, where ``file`` is no
    picture. An agent is known by model, game, stage and seed, as far as the data tells them."""
    if not _are_chains(chains):
        return {}
    chains = {name: chain for name, chain in chains.items() if chain}
    data = file.absolute().with_suffix(".csv")
    if file.suffix not in (*PICTURES, ".csv") or not data.exists():
        return chains
    rows = _rows(data)
    known = [name for name in ("model", "game", "stage", "seed") if rows and rows[0].get(name)]
    if not {"model", "game"} <= set(known):
        chains = _named(data.stem, chains)
    drawn = {tuple(row.get(name) for name in known) for row in rows}
    return {name: chain for name, chain in chains.items() if _agent(chain, known) in drawn}


def _named(stem: str, chains: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Of ``chains`` those of the model, the game and, of curves of a training, the stage that a picture is named after,
    where it is named after one."""

    def among(words: Iterable[str]) -> set[str]:
        return {word for word in words if re.search(rf"(^|-){re.escape(word)}(-|$)", stem)} or set(words)

    stages = {chain[-1].get("stage") for chain in chains.values()}
    if stem.startswith("training-"):
        stages = {"worst-case" if stem.endswith("-worst-case") else "sepo"}
    models = {name: str(chain[0].get("model")).replace("/", "--") for name, chain in chains.items()}
    # A base model's chain has no game; its name has: "pico on kuhn, base".
    games = {
        name: str(chain[-1].get("game") or name.rpartition(",")[0].rpartition(" on ")[2])
        for name, chain in chains.items()
    }
    model, game = among(models.values()), among(games.values())
    return {
        name: chain
        for name, chain in chains.items()
        if models[name] in model and games[name] in game and chain[-1].get("stage") in stages
    }


def _rows(data: Path) -> list[dict[str, str]]:
    try:
        with open(data, encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines, restkey="more"))
    except (ValueError, csv.Error) as error:
        raise RunError(f"{data} is not valid CSV ({error}); draw its picture again") from None


def _numbers(data: Path) -> set[str]:
    """The numbers in a CSV file that hardly appear in two by chance: to nine digits, at least six of them not 0."""
    found = set()
    for row in _rows(data) if data.exists() else []:
        for cell in row.values():
            try:
                number = float(cell)
            except (TypeError, ValueError):
                continue
            digits = f"{number:.9g}"
            if len(digits.replace(".", "").lstrip("-0")) >= 6:
                found.add(digits)
    return found


def _agent(chain: list[dict[str, Any]], known: list[str]) -> tuple[str, ...]:
    last = chain[-1]
    told = {
        "model": chain[0].get("model"),
        **{name: last.get(name, "") for name in ("game", "stage", "seed")},
    }
    return tuple(str(told[name]) for name in known)


def _of_run(file: Path, folder: Path) -> Trace:
    manifest = read_manifest(folder)
    request = manifest["request"]
    chain = manifest.get("chain") or _links(folder)
    known = manifest.get("files", {})
    inside = Path(os.path.relpath(file, folder)).as_posix()
    changed = inside in known and file.is_file() and file_hash(file) != known[inside]
    kind = "a run" if inside == "." else f"{inside} of the run {folder}"
    return Trace(
        file, f"{kind}, {manifest['status']}", {str(folder): chain}, _commits([chain]), run_command(folder, request),
        "it has changed since the run ended" if changed else "", request.get("settings") or {},
    )  # fmt: skip


def _links(folder: Path) -> list[dict[str, Any]]:
    """The chain of a run whose manifest holds none yet."""
    runs = list(lineage(folder))
    links = [
        {name: manifest["request"].get(name) for name in ("stage", "game", "seed")}
        | {name: manifest[name] for name in ("commit", PARTS) if name in manifest}
        for _, manifest in reversed(runs)
    ]
    first, manifest = runs[-1]
    if "base" not in manifest["request"]:
        return links
    return [{"stage": "base", "model": base_of(first, manifest["request"])}, *links]


def _of_result(file: Path, told: Path, value: dict[str, Any]) -> Trace:
    label, chain = value["label"], value.get("chain", [])
    who = f"{label.get('model')} on {label.get('game')}, {label.get('stage')}, seed {label.get('seed')}"
    own = value.get("provenance", {})
    return Trace(
        file, f"an evaluation of {who}", {who: chain}, _commits([chain, [own]]),
        result_command(told, label), _changed(file, value), value.get("settings", {}),
    )  # fmt: skip


def _of_table(file: Path, told: Path, value: dict[str, Any], rows: list[Mapping[str, str]]) -> Trace:
    chains, known = _chains_of(file, value["chains"]), value["chains"].items()
    profile, part = _profile(told, value["chains"])
    if rows:
        chains = {name: chain for name, chain in known if any(is_of(name, chain, row) for row in rows)}
        of_rows = {name: dict.fromkeys(row.get(name, "") for row in rows) for name in ("model", "game")}
        part = {name: part.get(name, ()) if "" in values else values for name, values in of_rows.items()}
    again = table_command(file, told, profile, part, whole=not rows and told.stem == profile)
    return Trace(
        file, f"made with {told}", chains, _commits(chains.values()), again, _changed(file, value),
        value.get("settings", {}), rows,
    )  # fmt: skip


def _profile(told: Path, chains: dict[str, list[dict[str, Any]]]) -> tuple[str, dict[str, list[str]]]:
    """The profile whose table ``told`` is, and, where it has not all games of it, that part; one of a single game may
    be named after it."""
    games = {str(chain[-1]["game"]) for chain in chains.values() if chain and chain[-1].get("game")}
    for game in games if len(games) == 1 else ():
        if told.stem.endswith(f"-{game}"):
            models = dict.fromkeys(str(chain[0]["model"]) for chain in chains.values() if chain)
            return told.stem.removesuffix(f"-{game}"), {"model": list(models), "game": [game]}
    return told.stem, part_of(told.stem, games)


def _of_study(file: Path, told: Path, value: dict[str, Any], rows: list[Mapping[str, str]]) -> Trace:
    """A table that no runs are kept of: a study of many short trainings, or what a command computes."""
    known = value.get("settings") or {}
    games = {row["game"] for row in rows if row.get("game")} or {
        g for g in known if file.stem.endswith(f"-{g}")
    }
    seeds, again = value.get("seeds"), study_command(told, value, games & {*known})
    own = [value["provenance"], *({"commit": commit} for commit in value.get("commits", []))]
    seeds = f", seeds {', '.join(map(str, seeds))}" if isinstance(seeds, list) else ""
    return Trace(
        file, f"made with {told}{seeds}", {}, _commits([own]), again, _changed(file, value),
        value.get("settings", {}), rows,
    )  # fmt: skip


def _changed(file: Path, value: dict[str, Any]) -> str:
    known = value.get("files", {}).get(file.name)
    return "it has changed since it was written" if known and file_hash(file) != known else ""


def _commits(chains) -> list[str]:
    return sorted({commit for chain in chains for link in chain for commit in commits_of(link)})
