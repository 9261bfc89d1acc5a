"""One stage of a run evaluated and kept as a file. A result that was made from the same agent, settings and code, on a
machine and with libraries like these, is not made again, so that an evaluation of many agents which was stopped goes on
where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from sepo_kit import exact as enumeration
from sepo_kit.evaluation.asked import ask, asked_report
from sepo_kit.evaluation.evaluate import evaluate
from sepo_kit.evaluation.results import EvaluationSettings, read_result, result_file, write_result
from sepo_kit.games import get_game
from sepo_kit.models.loading import language_model, load_model, origin
from sepo_kit.runs import RunError, problems, provenance
from sepo_kit.training.request import code_of

# The rooms whose code decides what an evaluation finds.
ROOMS = ("games", "engine", "objective", "exact", "models", "adversaries", "evaluation")


def evaluate_stage(source: str | Path, label: dict, settings: EvaluationSettings, folder: Path | str) -> Path:
    """Evaluate the model at ``source`` and write its result into ``folder``, unless it lies there; the result's file.

    Parameters
    ----------
    source
        Anything ``load_model`` takes.
    label
        The values of ``KEYS``: model, game, stage and seed (None for the base model).
    """
    game = get_game(label["game"])
    model = load_model(source)
    agent = language_model(
        model,
        game,
        temperature=settings.temperature,
        style=settings.style,
        max_new_tokens=settings.max_new_tokens,
        name=f"{label['model']} {label['stage']}",
    )
    made_from = {"agent": agent.identity(), "code": code_of(ROOMS, game)}
    file, chain = result_file(folder, label), origin(model)
    if _stands(file, label, settings, chain, made_from):
        return file
    effort = "none" if settings.exact or settings.asks(game) else settings.worst_case
    found = evaluate(
        agent,
        game,
        settings.episodes,
        settings.seed,
        worst_case=effort,
        search_episodes=settings.search_episodes,
    )
    episodes = found.episodes
    policy = None
    if settings.exact:
        fallback = found.estimates["fallback"]
        found = evaluate(
            agent, game, exact=True, worst_case=settings.worst_case, search_episodes=settings.search_episodes
        )
        found = replace(found, estimates={**found.estimates, "fallback": fallback})
        policy = enumeration.policy_table(game, agent)
    if settings.asks(game):
        asked = ask(agent, game, settings.replies, settings.seed)
        found, policy = (
            asked_report(asked, seed=settings.seed),
            enumeration.policy_table(game, asked.policy()),
        )
    return write_result(folder, label, settings, found, episodes, policy, chain, made_from)


def _stands(
    file: Path, label: dict, settings: EvaluationSettings, chain: Sequence[dict], made_from: dict
) -> bool:
    """Whether ``file`` and its tables are whole, and made from the same by a machine and libraries like these."""
    if problems(file):
        return False
    try:
        result = read_result(file)
    except RunError:
        return False
    by, now = ({**each, "commit": None} for each in (result["provenance"], provenance()))
    was = (result["label"], result["settings"], result.get("chain"), result.get("made_from"), by)
    return was == (label, asdict(settings), list(chain), made_from, now)
