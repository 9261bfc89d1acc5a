"""The mechanism study: what each credit mode estimates, and where it leads, on tables whose gradient is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from sepo_kit import exact
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, Weights
from sepo_kit.objective.credit import MODES
from sepo_kit.objective.step import TrainingStep
from sepo_kit.study.tabular import Logits, Table, TabularSettings, sampled_gradient, train_tabular

NO_PENALTY = Weights(0.0, 0.0, 0.0)


def settings_for(game: Game | str, **changes) -> TabularSettings:
    """The study's settings for a game, with ``changes``."""
    start = get_game(game).study_start
    return TabularSettings(row=start.row if start else "key", **changes)


def start_of(game: Game | str) -> Table | None:
    """The table that the study starts with; None: a uniform one."""
    start = get_game(game).study_start
    return {row: np.array(p, dtype=float) for row, p in start.table.items()} if start else None


def estimator_study(
    game: Game | str,
    samples: int,
    seed: int = 0,
    modes: Sequence[str] = MODES,
    rollouts: int = 8,
    start: Mapping[str, Sequence[float]] | None = None,
    metric: np.ndarray | None = None,
    **changes,
) -> pd.DataFrame:
    """Many sampled gradients per credit mode at one policy, beside the exact gradient.

    The penalty part of an estimate is the estimate minus that of the same episodes without penalties.

    Parameters
    ----------
    start
        The policy, a table of probabilities; default: the study's own, or uniform.
    metric
        Inner products of the logits' directions, shape (P, P), in the order of ``start``: for a language model those
        of ``parameter_space.inner_products``. Default: those of a table, whose logits are its parameters.
    changes
        To the study's settings: horizon, common_random_numbers, ...

    Returns
    -------
    DataFrame
        One row per mode and part ("payoff", "penalty"): mode, part, cosine of the mean estimate to the exact
        gradient (1: no bias; NaN where the estimate is zero), norm of the mean estimate, noise (standard deviation of
        one estimate as a multiple of that norm: the modes have different units), samples.
    """
    game = get_game(game)
    settings = settings_for(game, rollouts=rollouts, **changes)
    table = dict(start or start_of(game) or _uniform_table(game, settings.row))
    parts = exact.gradient_parts(game, table, row=settings.row)
    truth = {
        "payoff": _flat(parts.payoff, table),
        "penalty": sum(_flat(part, table) for part in (parts.exploit, parts.collusion, parts.externality)),
    }
    rows = []
    for mode in modes:
        chosen = replace(settings, mode=mode)
        found: dict[str, list[np.ndarray]] = {"payoff": [], "penalty": []}
        for step in tqdm(range(samples), desc=f"{game.spec.id}, {mode}", leave=False):
            both = [
                _flat(
                    sampled_gradient(
                        TrainingStep(game, replace(chosen, weights=weights)),
                        Logits(game, settings.row, table),
                        seed,
                        step,
                    ),
                    table,
                )
                for weights in (game.spec.weights, NO_PENALTY)
            ]
            found["penalty"].append(both[0] - both[1])
            found["payoff"].append(both[1])
        rows += [
            {"mode": mode, "part": part, **_compare(np.array(found[part]), truth[part], metric)}
            for part in found
        ]
    return pd.DataFrame(rows)


def _compare(estimates: np.ndarray, truth: np.ndarray, metric: np.ndarray | None) -> dict:
    """Mean and noise of estimates, shape (N, P), beside the true gradient, shape (P,)."""
    metric = np.eye(len(truth)) if metric is None else metric

    def length(vector: np.ndarray) -> float:
        return float(np.sqrt(max(0.0, vector @ metric @ vector)))

    mean, size, nan = estimates.mean(axis=0), length(truth), float("nan")
    norm = length(mean)
    something = norm > 1e-12
    variance = np.trace(np.cov(estimates.T, ddof=1) @ metric)
    return {
        "cosine": float(mean @ metric @ truth / (norm * size)) if something and size > 0 else nan,
        "norm": norm,
        "noise": float(np.sqrt(variance) / norm) if something else nan,
        "samples": len(estimates),
    }


def _flat(rows: Mapping[str, np.ndarray], table: Mapping[str, Sequence[float]]) -> np.ndarray:
    """All rows in the order of ``table``, zeros where a row was not met; shape (P,)."""
    return np.concatenate([np.asarray(rows.get(label, np.zeros(len(p)))) for label, p in table.items()])


def _uniform_table(game: Game, row: str) -> Table:
    """Uniform probabilities for every row the agent can meet."""
    logits = Logits(game, row)
    exact.terms(game, logits.policy())
    return logits.probabilities()


def training_study(
    game: Game | str, seeds: Sequence[int], steps: int, variants: Mapping[str, Mapping], log_every: int = 10
) -> pd.DataFrame:
    """Train a table once per variant and seed.

    Parameters
    ----------
    variants
        Name -> changes to the study's settings.

    Returns
    -------
    DataFrame
        The logs of ``train_tabular`` with columns game, variant and seed.
    """
    game = get_game(game)
    logs = []
    todo = [(name, seed) for name in variants for seed in seeds]
    for name, seed in tqdm(todo, desc=f"training on {game.spec.id}", leave=False):
        settings = settings_for(game, steps=steps, log_every=log_every, **variants[name])
        run = train_tabular(game, settings, seed, start_of(game))
        logs.append(run.log.assign(game=game.spec.id, variant=name, seed=seed))
    return pd.concat(logs, ignore_index=True)


def weight_response(game: Game | str, samples: int, factor: float = 10.0, seed: int = 0) -> pd.DataFrame:
    """How much longer the exploit part of the mean estimate becomes when its weight is multiplied by ``factor``.

    Returns
    -------
    DataFrame
        Columns mode ("grouped", "credited") and ratio; a gradient of J has ``factor``.
    """
    game = get_game(game)
    table = dict(start_of(game) or _uniform_table(game, settings_for(game).row))
    own = game.spec.weights
    rows = []
    for mode in ("grouped", "credited"):
        settings = settings_for(game, mode=mode)
        lengths = []
        for weight in (own.exploit, factor * own.exploit):
            part = np.zeros(sum(map(len, table.values())))
            for step in tqdm(range(samples), desc=f"{game.spec.id}, {mode}", leave=False):
                for sign, weights in ((1, Weights(weight, 0, 0)), (-1, NO_PENALTY)):
                    logits = Logits(game, settings.row, table)
                    taken = TrainingStep(game, replace(settings, weights=weights))
                    gradient = sampled_gradient(taken, logits, seed, step)
                    part += sign * _flat(gradient, table) / samples
            lengths.append(np.linalg.norm(part))
        rows.append({"mode": mode, "ratio": float(lengths[1] / lengths[0])})
    return pd.DataFrame(rows)
