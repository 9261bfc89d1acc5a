"""The commands that make results, tables and studies again."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from sepo_kit.runs.project import PROJECT, profile_of

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
    """The command that evaluates again what ``told``, the JSON file of a result, is of. Profile and runs are read off
    its place, PROFILE/MODEL/GAME/results, where it lies as ``reproduce`` puts it."""
    model, game = str(label.get("model")), str(label.get("game"))
    place = told.resolve().parent
    profile, given = "PROFILE", []
    if place.parts[-3:] == (model.replace("/", "--"), game, "results"):
        runs = place.parents[2]
        profile = _with_spaces(profile_of(runs))
        if runs != (PROJECT / "runs" / profile).resolve():
            given = ["-p", "runs", str(runs)]
    names = [word for name in ("model", "game") if label.get(name) for word in ("-p", name, str(label[name]))]
    return shlex.join(["sepo-kit", "notebook", "06_evaluation", "-p", "profile", profile, *names, *given])


def _with_spaces(profile: str) -> str:
    """A profile's name with its changes as they are written; folders have no spaces in their names.

    >>> _with_spaces("quick,exploiters=pool_and_worst-case,learning_rate=1")
    'quick,exploiters=pool and worst-case,learning_rate=1'
    """
    changes = (each.partition("=") for each in profile.split(","))
    return ",".join(what + equals + value.replace("_", " ") for what, equals, value in changes)


def table_command(file: Path, told: Path, profile: str, part: Mapping[str, Collection[str]]) -> str:
    """The command that makes the table ``file`` of a profile again, or a ``part`` of it: values by option."""
    learned = told.with_name(f"learned-{profile}.csv")
    if learned.exists() and file.name in {f"{kind}-{profile}.csv" for kind in OF_NOTEBOOK_10}:
        # Whoever asked for a learner ran the notebook that writes all of these.
        return f"sepo-kit notebook 10 -p profile {shlex.quote(profile)} -p learner_steps {LEARNER_STEPS}"
    given = [f"--{name}s {shlex.join(values)}" for name, values in part.items() if "" not in values]
    command = f"make reproduce PROFILE={shlex.quote(profile)}"
    return command + (f" ARGS={shlex.quote(' '.join(given))}" if given else "")
