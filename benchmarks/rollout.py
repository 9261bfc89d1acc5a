"""Language models in lockstep against one decision at a time: the same model, states, draws and replies.

Episodes of every training pool are played as a training step plays them; then a sample of their decisions, spread over
all rounds, is asked again one after the other with the same draws. ``equal`` is the share on which both agree:
float rounding may turn a draw that falls between two tokens.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import conclude, options, seconds

import sepo_kit as sk
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.models.language_model import LanguageModel

POOLS = ("train", "exploit", "collusive")
REPLY_TOKENS = 24


class Noted(LanguageModel):
    """Keeps what it was asked, with which draws, and what it did."""

    asked: list

    def act(self, seen, uniforms):
        choices = super().act(seen, uniforms)
        self.asked.append((list(seen), list(uniforms), choices))
        return choices


def compare(model, game_id: str, style: str, rollouts: int, alone: int, repeats: int) -> dict:
    """One row: decisions per second both ways, of ``rollouts`` episodes per opponent and of ``alone`` decisions."""
    game = sk.get_game(game_id)
    agent = Noted(model.model, model.tokenizer, game, style=style, max_new_tokens=REPLY_TOKENS)
    todo = matches(game, POOLS, rollouts)

    def lockstep() -> None:
        agent.asked = []
        play_matches(game, agent, todo, seed=0)

    rate = seconds(lockstep, repeats)
    decisions = [decision for layer in agent.asked for decision in zip(*layer, strict=True)]
    rate = len(decisions) / rate
    picked = [
        decisions[i] for i in np.linspace(0, len(decisions) - 1, min(alone, len(decisions))).astype(int)
    ]
    single = LanguageModel(model.model, model.tokenizer, game, style=style, max_new_tokens=REPLY_TOKENS)
    found = []

    def one_at_a_time() -> None:
        found[:] = [single.act([state], [uniform])[0] for state, uniform, _ in picked]

    alone_rate = len(picked) / seconds(one_at_a_time, repeats)
    equal = np.mean(
        [(c.action, c.reply) == (d[2].action, d[2].reply) for c, d in zip(found, picked, strict=True)]
    )
    return {
        "model": model.name,
        "game": game_id,
        "style": style,
        "episodes": len(todo),
        "decisions": len(decisions),
        "prompts": len({choice.prompt_ids for _, _, choice in decisions}),
        "lockstep_per_s": rate,
        "alone_per_s": alone_rate,
        "ratio": rate / alone_rate,
        "equal": float(equal),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    smoke = options(__doc__).smoke
    rows = []
    for name in ("pico",) if smoke else ("pico", "smollm2-135m"):
        model = sk.load_model(name)
        for game_id in ("kuhn",) if smoke else ("kuhn", "ipd"):
            rows.append(compare(model, game_id, "direct", *((2, 6, 1) if smoke else (8, 16, 2))))
            rows.append(compare(model, game_id, "reasoned", *((1, 4, 1) if smoke else (4, 8, 1))))
    conclude("rollout", rows, smoke)


if __name__ == "__main__":
    main()
