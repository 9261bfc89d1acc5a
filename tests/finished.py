"""Run folders with finished evaluations, made in a moment: strategies stand in for the models."""

from __future__ import annotations

from pathlib import Path

import sepo_kit as sk
from sepo_kit.engine.policy import Policy
from sepo_kit.evaluation.evaluate import Report
from sepo_kit.evaluation.results import EvaluationSettings, write_result


def evaluation(
    root: Path, game: str, stage: str, strategy: str | Policy, seed: int | None = None, *, model: str = "pico",
    episodes: int = 6, exact: bool = False,
) -> Report:  # fmt: skip
    """Write what ``evaluate_stage`` writes under the run folder ``root``, and return the report; ``strategy``: the id
    of one, or any policy."""
    played = sk.get_game(game)
    agent = sk.scripted(played, strategy) if isinstance(strategy, str) else strategy
    settings = EvaluationSettings(episodes=episodes, exact=exact)
    report = sk.evaluate(agent, played, episodes, settings.seed)
    sampled = report.episodes
    if exact:
        report = sk.evaluate(agent, played, exact=True)
    label = {"model": model, "game": game, "stage": stage, "seed": seed}
    folder = root / model.replace("/", "--") / game / "results"
    policy = sk.exact.policy_table(played, agent) if exact and played.spec.few_states else None
    write_result(folder, label, settings, report, sampled, policy)
    return report


def kuhn_stages(root: Path) -> list[Path]:
    """Result files of pico on Kuhn poker, exact: base, two seeds of SEPO and one against best responses."""
    for stage, strategy, seed in (
        ("base", "uniform", None), ("sepo", "tight-passive", 0), ("sepo", "always-bet", 1), ("worst-case", "nash", 0)
    ):  # fmt: skip
        evaluation(root, "kuhn", stage, strategy, seed, exact=True)
    return sorted(root.glob("*/kuhn/results/*.json"))
