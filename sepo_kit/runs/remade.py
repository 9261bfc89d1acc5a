"""The commands that make runs, results, tables and studies again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sepo_kit.runs.files import RunError, read_json
from sepo_kit.runs.folder import ADAPTER, MANIFEST, base_of, read_manifest
from sepo_kit.runs.project import PROJECT, profile_of, runs_folder, without_seeds

# The profiles and what games they run, whatever one has registered being added to smoke: these stand above this module,
# and a test holds them to it.
PAPER = ("ipd", "auction", "negotiation_v1", "negotiation_v2", "kuhn")
PROFILES = {
    "smoke": (), "quick": PAPER, "worst-case": (*PAPER, "leduc"), "study": ("ipd", "kuhn"),
    "reasoned": ("kuhn", "ipd"), "smollm2": PAPER, "paper": PAPER,
}  # fmt: skip
UNKNOWN = "PROFILE"  # in the place of one that nothing tells
STAGES = {"sft": "train-sft", "sepo": "train-sepo", "worst-case": "train-sepo"}  # commands that train them

# Tables of several files that one JSON file tells of: the beginning of their names, and the command that writes them.
STUDIES = {
    "credit": "sepo-kit study {agent}",
    **{name: f"sepo-kit study {{agent}} --{name}" for name in ("exploiters", "ablations", "late")},
}
# Of the files of a study, between its name and the agent.
KINDS = ("study-", "training-", "ends-", "estimates-")
# What such a command takes where it is told nothing else; the other studies take the steps of a profile.
GAMES, SEEDS, SAMPLES, STEPS = {"ipd", "kuhn"}, 5, 400, {"credit": 400, "late": 400}

# Tables of notebook 10, and how long a fresh learner learned for the published ones: without being told none does.
OF_NOTEBOOK_10, LEARNER_STEPS = ("learned", "held-out", "wordings", "self-play"), 200


def study_command(told: Path, value: Mapping[str, Any], games: Collection[str] = ()) -> str:
    """The command that makes the study again that ``told``, a JSON file, tells of with ``value``; the command that it
    names itself, if it does. Games that were made with other options than the others have a command of their own.
    ``games``: only those that make these; none: all."""
    study, _, agent = told.stem.rpartition("-study-")
    if value.get("command") or study not in STUDIES:
        return str(value.get("command") or f"what wrote {told}")
    games_of: dict[tuple[str, ...], list[str]] = {}
    for game in value.get("settings") or {}:
        games_of.setdefault(tuple(_options(study, game, value)), []).append(game)
    games_of = {how: made for how, made in games_of.items() if not games or {*games} & {*made}}
    start = shlex.split(STUDIES[study].format(agent=shlex.quote(agent)))
    commands = []
    for options, made in games_of.items():
        chosen = ["--games", *made] if set(made) != GAMES else []
        commands.append(shlex.join([*start, *chosen, *options]))
    return " && ".join(commands) or shlex.join(start)


def _options(study: str, game: str, value: Mapping[str, Any]) -> Iterator[str]:
    """How ``game`` was asked for; where an older version did not say so, as far as seeds and steps tell it."""
    own = of_game(value, game)
    if isinstance(own.get("options"), list):
        yield from map(str, own["options"])
        return
    if isinstance(own.get("seeds"), list) and len(own["seeds"]) != SEEDS:
        yield from ("--seeds", str(len(own["seeds"])))
    settings, usual = value["settings"][game], STEPS.get(study)
    rivals = settings.values() if isinstance(settings, dict) else ()
    steps = [rival["steps"] for rival in rivals if isinstance(rival, dict) and "steps" in rival]
    steps = steps or [own.get("steps")]
    alike = isinstance(steps[0], int) and steps.count(steps[0]) == len(steps)
    if usual and alike and steps[0] != usual:
        yield from ("--steps", str(steps[0]))


def of_game(value: Mapping[str, Any], game: str) -> dict[str, Any]:
    """What the JSON file of a study says of how ``game`` was made: seeds, steps and options. Older versions say seeds
    and steps of all games alike, and no options."""
    known = value.get("by_game")
    own = known.get(game) if isinstance(known, dict) else None
    return own if isinstance(own, dict) else {n: value[n] for n in ("seeds", "steps") if n in value}


def result_command(told: Path, label: Mapping[str, Any]) -> str:
    """The command that evaluates again what ``told``, the JSON file of a result, is of; where the runs were published
    without their weights, the one that trains them too. Profile and runs are read off its place,
    PROFILE/MODEL/GAME/results, where it lies as ``reproduce`` puts it."""
    model, game, seed = str(label.get("model")), str(label.get("game")), label.get("seed")
    place = told.resolve().parent
    profile, given = UNKNOWN, []
    if place.parts[-3:] == (model.replace("/", "--"), game, "results"):
        runs = place.parents[2]
        profile = _with_seed(_profile_of(runs, model, game), seed)
        if profile != UNKNOWN and any(map(_without_weights, place.parent.glob("*-seed-*"))):
            return reproduced(profile, [f"--models {shlex.quote(model)} --games {shlex.quote(game)}"])
        if runs != runs_folder(profile).resolve():
            given = ["-p", "runs", str(runs)]
    names = [word for name in ("model", "game") if label.get(name) for word in ("-p", name, str(label[name]))]
    return shlex.join(["sepo-kit", "notebook", "06_evaluation", "-p", "profile", profile, *names, *given])


def _profile_of(runs: Path, model: str, game: str) -> str:
    """The profile that a folder of runs is of: as the notebook says that evaluated them, where its executed copy is
    there, else as the folder is called; ``UNKNOWN`` where it is called after none."""
    files = [file for folder in (runs, runs.parent) for file in (folder / "notebooks").glob("06_*.ipynb")]
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            given = read_json(file, dict)["metadata"]["papermill"]["parameters"]
            same = (given["model"], given["game"], (PROJECT / given["runs"]).resolve()) == (model, game, runs)
            if same and _is_known(given["profile"]):
                return without_seeds(given["profile"])
        except (RunError, OSError, KeyError, TypeError, AttributeError):
            continue
    named = without_seeds(_with_spaces(profile_of(runs)))
    return named if _is_known(named) else UNKNOWN


def _is_known(profile: str) -> bool:
    base, *changes = profile.split(",")
    return base in PROFILES and all("=" in each for each in changes)


def _with_seed(profile: str, seed: object) -> str:
    """A profile's name so that its plans have ``seed``, which is none of a base model's; all have 0."""
    return f"{profile},seeds={seed + 1}" if isinstance(seed, int) and seed and profile != UNKNOWN else profile


def _without_weights(run: Path) -> bool:
    """Whether ``run`` is one whose weights, with which it ended, were left out when it was published."""
    try:
        left_out = read_manifest(run).get("left_out") or ()
    except RunError:  # no run
        return False
    return any(str(name).startswith(f"{ADAPTER}/") for name in left_out)


def run_command(folder: Path, request: Mapping[str, Any], above: Sequence[Path] = ()) -> str:
    """The command that trains the run in ``folder`` again, with the settings of its own manifest, into a new folder
    beside it; before it those that train what it rests on, where that was published without its weights. ``above``:
    runs that rest on it, whose command this is a part of."""
    folder = Path(os.path.abspath(folder))
    stage = STAGES.get(str(request.get("stage")))
    if stage is None or None in (request.get(name) for name in ("base", "game", "seed")):
        return f"the {request.get('stage')} of {request.get('game')}, seed {request.get('seed')}, as {folder} asks"
    base, before = base_of(folder, request), ""
    if _without_weights(Path(base)) and Path(base) not in above:
        before = run_command(Path(base), read_manifest(base)["request"], (*above, folder)) + " && "
        base = f"{base}-again"
    words = [stage, base, request["game"], f"{folder}-again", "--seed", request["seed"]]
    return before + shlex.join(["sepo-kit", *map(str, words), "--settings", str(folder / MANIFEST)])


def _with_spaces(profile: str) -> str:
    """A profile's name with its changes as they are written; folders have no spaces in their names.

    >>> _with_spaces("quick,exploiters=pool_and_worst-case,learning_rate=1")
    'quick,exploiters=pool and worst-case,learning_rate=1'
    """
    changes = (each.partition("=") for each in profile.split(","))
    return ",".join(what + equals + value.replace("_", " ") for what, equals, value in changes)


def reproduced(profile: str, given: Sequence[str] = ()) -> str:
    """The command that reproduces a profile, with options, each as a shell takes it.

    >>> reproduced("quick,exploiters=pool and worst-case", ["--games kuhn"])
    "make reproduce PROFILE='quick,exploiters=pool and worst-case' ARGS='--games kuhn'"
    """
    options = f" ARGS={shlex.quote(' '.join(given))}" if given else ""
    return f"make reproduce PROFILE={shlex.quote(profile)}{options}"


def part_of(profile: str, games: Collection[str]) -> dict[str, list[str]]:
    """The part of a profile that a table of ``games`` is of, values by option; nothing where it has all its games."""
    whole = PROFILES.get(profile.partition(",")[0], ())
    return {"game": [game for game in whole if game in games]} if {*games} < {*whole} else {}


def table_command(
    file: Path, told: Path, profile: str, part: Mapping[str, Collection[str]], whole: bool = True
) -> str:
    """The command that makes the table ``file`` of a profile again, or a ``part`` of it: values by option. Of a table
    that is made ``whole`` it goes where the table lies, which ``told`` tells of."""
    place = told.resolve().parent
    runs = place.parent if place.name == "tables" and any(place.parent.glob("*/*/results")) else None
    elsewhere = runs is not None and runs != runs_folder(profile).resolve()
    learned = told.with_name(f"learned-{profile}.csv")
    if learned.exists() and file.name in {f"{kind}-{profile}.csv" for kind in OF_NOTEBOOK_10}:
        # Whoever asked for a learner ran the notebook that writes all of these.
        words = ["-p", "profile", profile, "-p", "learner_steps", str(LEARNER_STEPS)]
        words += ["-p", "runs", str(runs)] if elsewhere else []
        words += (
            ["-p", "results", _seen(place), "-p", "figures", _seen(_figures(place))] if runs is None else []
        )
        return shlex.join(["sepo-kit", "notebook", "10", *words])
    given = [f"--{name}s {shlex.join(values)}" for name, values in part.items() if values]
    if elsewhere:
        given.append(f"--runs {shlex.quote(str(runs))}")
    # A part, and a smoke run, has its tables in its runs, unless it is told another place.
    inside = any(part.values()) or "," in profile or profile.startswith("smoke")
    usual = (runs or runs_folder(profile)) / "tables" if inside else PROJECT / "data" / "results"
    if whole and place != usual.resolve():
        places = {"--results": place, "--figures": _figures(place)}
        given += [f"{option} {shlex.quote(_seen(folder))}" for option, folder in places.items()]
    return reproduced(profile, given)


def _figures(tables: Path) -> Path:
    """Where the figures lie that are drawn from ``tables``."""
    return (
        PROJECT / "figures"
        if tables == (PROJECT / "data" / "results").resolve()
        else tables.with_name("figures")
    )


def _seen(folder: Path) -> str:
    """``folder`` as it is seen from the project, where notebooks and batches run."""
    inside = folder.is_relative_to(PROJECT)
    return str(folder.relative_to(PROJECT) if inside else folder)
