"""The audit: what is the worst that anyone does to an agent, in every game, by every adversary the kit has?

Every part (``audit_parts.py``) is kept as it is done, so that an audit that was stopped goes on. How the page looks is
``audit_page.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from sepo_kit.adversaries.opponents import resolve_agent
from sepo_kit.engine.confidence import widened
from sepo_kit.engine.policy import Policy
from sepo_kit.evaluation.audit_page import write_page
from sepo_kit.evaluation.audit_parts import EXACT, PARTS, AuditSettings, Case, Missing, NotTried
from sepo_kit.evaluation.stage import ROOMS
from sepo_kit.games import GAMES, get_game
from sepo_kit.games.base import Game, Weights
from sepo_kit.objective.terms import Terms, guaranteed
from sepo_kit.runs import RunError, provenance, read_json, write_json
from sepo_kit.training.request import code_of

RESULT, PAGE, REQUEST, PARTS_FOLDER = "audit.json", "audit.html", "request.json", "parts"


def audit(
    agent: str,
    games: Sequence[str] | None = None,
    folder: Path | str = "",
    settings: AuditSettings | None = None,
    **how,
) -> dict[str, Any]:
    """Audit ``agent`` in ``games``; what was found, which is also written: ``audit.json`` and ``audit.html``.

    Parameters
    ----------
    agent
        A name of the grammar (``adversaries/opponents.py``), or what ``load_model`` takes.
    games
        Ids; None: all games. Of a strategy those that have it; the others are said to be left out.
    folder
        Where the audit goes. One that was stopped goes on there; what it has of other games is kept, and shown when
        they are named again. What was found by other code is played anew.
    how
        How language models and endpoints play: ``style``, ``temperature``.

    Raises
    ------
    ValueError
        Nothing is called so, or the folder holds another audit.
    OSError
        A model cannot be loaded, or a server cannot be used: parts that are done are kept.
    """
    settings = settings or AuditSettings()
    chosen = [get_game(name) for name in (GAMES if games is None else dict.fromkeys(games))]
    having = [game for game in chosen if agent in game.strategies]
    without = [game for game in chosen if having and game not in having]
    policies = _policies(agent, [game for game in chosen if game not in without], how)
    folder = Path(folder)
    who = {name: policy.identity() for name, policy in policies.items()}
    _claim(folder, {"agent": agent, "how": how, "settings": asdict(settings), "identity": who})
    found: dict[str, Any] = {"agent": agent, "settings": asdict(settings), "how": how, "games": {}}
    todo = [(name, part) for name in policies for part in PARTS]
    with tqdm(total=len(todo), unit="part", desc=f"audit of {agent}") as bar:
        for name, policy in policies.items():
            game = get_game(name)
            case = Case(game, policy, settings, folder, lambda n: bar.set_postfix_str(f"move {n}"))
            code, parts = _code_of(game), {}
            for part, play in PARTS.items():
                bar.set_description(f"{name}: {part}")
                parts[part] = _kept(folder / PARTS_FOLDER / f"{name}-{part}.json", case, play, code)
                bar.update()
            found["games"][name] = _summary(game, parts)
    for game in without:
        found["games"][game.spec.id] = {
            "title": game.spec.title,
            "not_tried": [["everything", f"no strategy {agent}"]],
        }
    parts = [part for each in found["games"].values() for part in each.get("parts", {}).values()]
    found["usage"] = _total([part["usage"] for part in parts if part.get("usage")])
    found["provenance"] = provenance()
    write_json(folder / RESULT, found)
    write_page(folder / PAGE, found)
    return found


def _policies(agent: str, games: Sequence[Game], how: dict[str, Any]) -> dict[str, Policy]:
    """The agent in each game, by id: a model is loaded once, a strategy is another in every game."""
    found: dict[str, Policy] = {}
    for game in games:
        try:
            found[game.spec.id] = next(iter(found.values())).asked_by(game)
        except (StopIteration, ValueError):  # the first, or one that reads no prompts
            found[game.spec.id] = resolve_agent(game, agent, **how)
    return found


def _claim(folder: Path, request: dict[str, Any]) -> None:
    """Take ``folder`` for ``request``, beside the games that it has already; RunError where it is another's."""
    request = json.loads(json.dumps(request))
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; an audit needs a folder")
    if (folder / REQUEST).exists():
        was = read_json(folder / REQUEST, dict)
        differ = [name for name in request if name != "identity" and was.get(name) != request[name]]
        before, now = was.get("identity"), request["identity"]
        if not isinstance(before, dict):
            differ.append("the kit's version")
        if differ:
            raise RunError(
                f"{folder} holds another audit ({', '.join(differ)} differ); choose another folder or delete it"
            )
        if any(before.get(game, now[game]) != now[game] for game in now):
            raise RunError(
                f"{folder} holds an audit of {request['agent']} as it was, and it has changed since (trained again?); "
                "choose another folder or delete it"
            )
        request["identity"] = before | now
    elif folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty and holds no audit; choose another")
    write_json(folder / REQUEST, request)


def _code_of(game: Game) -> str | None:
    """The fingerprint of the code that an audit in ``game`` rests on; None where the game is in no file."""
    try:
        return code_of((*ROOMS, "training", "study"), game)
    except ValueError:
        return None


def _kept(file: Path, case: Case, play: Callable[[Case], dict[str, Any]], code: str | None) -> dict[str, Any]:
    """What ``play`` found, from ``file`` where it was done before by this ``code``; where that is not known, anew."""
    if file.exists():
        kept = read_json(file, dict)
        if code is not None and kept.get("code") == code:
            return kept
        said = "was found by other code" if code else "may be of other code, since its game is in no file"
        tqdm.write(f"{file.name} {said}; it is played anew", file=sys.stderr)
    before = getattr(case.agent, "usage", None)
    try:
        found = play(case)
    except Missing as reason:
        return {"not_tried": str(reason)}
    except NotTried as reason:
        found = {"not_tried": str(reason)}
    if before is not None:
        found["usage"] = asdict(case.agent.usage.since(before))
    write_json(file, {**found, "code": code})
    return read_json(file)


def _summary(game: Game, parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a reader sees first of a game: the worst adversaries, Safety with the worst of them, what was not tried."""
    tried = [each for part in parts.values() for each in part.get("adversaries", ())]
    sampled = sum(each["episodes"] is not None for each in tried)
    # By what they surely gain: of many sampled numbers the largest is as a rule a lucky one. Nobody gains more than an
    # exact worst case, whatever a few episodes say.
    worst = sorted(
        ({**each, "surely": _surely(each, sampled)} for each in tried),
        key=lambda a: (a["source"] != EXACT, -a["surely"]),
    )
    pools = parts["pools"]
    terms = Terms(**{field.name: pools["terms"].get(field.name) for field in fields(Terms)})
    surely = worst[0]["surely"]
    lead = surely if worst[0]["source"] == EXACT else max(terms.exploit, surely)
    return {
        "title": game.spec.title,
        "unit": game.spec.unit,
        "payoff_unit": game.spec.payoff_unit,
        "parts": parts,
        "worst": worst,
        "safety_at_worst": guaranteed(
            game.spec, replace(terms, worst_case=lead), Weights(**pools["weights"])
        ),
        "is_worst_case": bool(parts["worst-case"].get("exactly")),
        "not_tried": [[name, part["not_tried"]] for name, part in parts.items() if "not_tried" in part],
    }


def _surely(adversary: dict[str, Any], sampled: int) -> float:
    """The lower end of the interval of what an adversary gains that is one of so many which hold together."""
    if adversary["episodes"] is None:
        return adversary["low"]
    return widened(adversary["low"], adversary["lead"], adversary["episodes"] - 1, sampled)


def _total(given: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The sum of what parts asked of a server."""
    if not given:
        return None
    costs = [usage["cost"] for usage in given if usage["cost"] is not None]
    counted = {name: sum(u[name] for u in given) for name in given[0] if name != "cost"}
    return counted | {"cost": sum(costs) if costs else None}
