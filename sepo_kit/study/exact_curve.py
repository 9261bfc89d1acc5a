"""The terms and the worst case of a language model while it trains, judged apart from its training episodes.

What a training step samples is noisy, and of a few episodes even biased: exploit is the largest of several means. And
its exploit pool is whatever it trains against. Here all are judged alike: exactly in games whose information states are
few (Kuhn poker), else by fresh episodes against the game's own pools, and by what is known of the worst case.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
from transformers import TrainerCallback

from sepo_kit import exact
from sepo_kit.adversaries.worst_case import find_worst_case, nature_moves
from sepo_kit.engine.policy import Policy
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.games.base import POOLS, Game
from sepo_kit.models.dropout import evaluating
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.objective.terms import guaranteed, objective, results_of, terms_of
from sepo_kit.runs import RunError, append_line, keep_lines, read_lines

EXACT_CURVE = "exact.jsonl"
EPISODES = 100  # fresh ones per opponent, where terms cannot be enumerated
SEED = 1_000_003  # of the fresh episodes: no run's own
STATES = 10_000  # of the tree that bounds on the worst case search
SEARCH = 50  # episodes by which adversaries of finite memory are compared


class ExactCurve(TrainerCallback):
    """Writes the terms into ``run_folder`` before the first step, every ``every`` steps and after the last."""

    def __init__(self, game: Game, run_folder: Path | str, temperature: float, every: int) -> None:
        self.game = game
        self.path = Path(run_folder) / EXACT_CURVE
        self.temperature = temperature
        self.every = every

    def on_train_begin(self, args, state, control, model=None, processing_class=None, **kwargs) -> None:
        if state.is_world_process_zero:
            keep_lines(self.path, lambda row: row["step"] < state.global_step)
        self._write(state, model, processing_class)

    def on_step_end(self, args, state, control, model=None, processing_class=None, **kwargs) -> None:
        self._write(state, model, processing_class)

    def _write(self, state, model, tokenizer) -> None:
        due = state.global_step % self.every == 0 or state.global_step == state.max_steps
        if not due or not state.is_world_process_zero:
            return
        agent = LanguageModel(model, tokenizer, self.game, temperature=self.temperature)
        with evaluating(model):
            found = judged(self.game, agent)
        append_line(self.path, {"step": state.global_step, **found})


def judged(game: Game, agent: Policy) -> dict[str, float | None]:
    """The terms of ``agent`` against the game's own pools, and what is known of its worst case.

    Returns
    -------
    dict
        The fields of ``Terms``; ``safety`` and ``guaranteed``, both at the evaluation weights; ``worst_case`` and
        ``worst_case_upper``: bounds, which are equal where the worst case is exact; where nature moves what the best
        adversary found gains, and None. ``guaranteed`` is reckoned with ``worst_case``, so it is an upper bound where
        that is a lower one.
    """
    spec = game.spec
    if spec.few_states:
        terms = exact.terms(game, agent)
        try:
            lower = upper = exact.worst_case(game, agent).advantage
        except exact.Forgets:
            lower, upper = _bounds(game, agent)
    else:
        with agent.remember():
            episodes = play_matches(
                game, agent, matches(game, POOLS, EPISODES), SEED, common_random_numbers=False
            )
            lower, upper = _bounds(game, agent)
        terms = terms_of(spec, results_of(episodes))
    terms = replace(terms, worst_case=lower)
    return {
        **asdict(terms),
        "safety": objective(spec, terms, spec.eval_weights),
        "guaranteed": guaranteed(spec, terms, spec.eval_weights),
        "worst_case_upper": upper,
    }


def _bounds(game: Game, agent: Policy) -> tuple[float | None, float | None]:
    """Between which the worst case lies; where nature moves, bounds that are proved say nothing of a language model."""
    if nature_moves(game):
        return find_worst_case(game, agent, seed=SEED).value, None
    bounds = exact.worst_case_bounds(
        game, agent, max_states=STATES, episodes=EPISODES, search_episodes=SEARCH, seed=SEED
    )
    return bounds.lower, bounds.ceiling


def read_exact_curve(run_folder: Path | str) -> pd.DataFrame:
    """A row per evaluated step: step, safety and the terms. Steps that a resumed run took again stand once.

    Raises
    ------
    RunError
        The run was not watched.
    """
    rows = read_lines(Path(run_folder) / EXACT_CURVE)
    if not rows:
        raise RunError(
            f"{run_folder} has no {EXACT_CURVE}: it was trained without; delete it to train it again"
        )
    found = pd.DataFrame(rows).drop_duplicates("step", keep="last", ignore_index=True)
    return found.astype(dict.fromkeys(found.columns.drop("step"), float))  # None throughout: NaN
