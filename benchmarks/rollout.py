"""Language models in lockstep against one decision at a time: the same model, states, draws and replies.

Episodes of every training pool are played as a training step plays them; then a sample of their decisions, spread over
all rounds, is asked again one after the other with the same draws. ``equal`` is the share on which both agree:
float rounding may turn a draw that falls between two tokens. Self-play is compared match by match.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import conclude, options, seconds

import sepo_kit as sk
from sepo_kit.engine.rollout import Match, matches, play_matches
from sepo_kit.models.language_model import LanguageModel

POOLS = ("train", "exploit", "collusive")
REPLY_TOKENS = 24


class Noted(LanguageModel):
    """Keeps what it was asked, with which draws, and what it did."""

    asked: list

    def act(self, seen, uniforms):
        decisions = super().act(seen, uniforms)
        self.asked.append((list(seen), list(uniforms), decisions))
        return decisions


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


def compare_self_play(model, game_id: str, episodes: int, alone: int, repeats: int) -> dict:
    """One row: a model against itself, all matches with both seats in one batch, and one match after the other with the
    seats asked apart; ``equal`` is the share of matches that come out alike."""
    game = sk.get_game(game_id)
    agent, other = (LanguageModel(model.model, model.tokenizer, game) for _ in range(2))
    todo = [Match("none", "self", index) for index in range(episodes)]
    found = {}

    def lockstep() -> None:
        found["lockstep"] = play_matches(game, agent, todo, seed=0, opponents={"self": agent})

    def one_at_a_time() -> None:
        found["alone"] = [
            episode
            for match in todo[:alone]
            for episode in play_matches(game, agent, [match], seed=0, opponents={"self": other})
        ]

    rates = {}
    for name, work in (("lockstep", lockstep), ("alone", one_at_a_time)):
        took = seconds(work, repeats)
        made = [d for e in found[name] for d in (*e.decisions, *e.answers)]
        rates[name] = len(made) / took
        if name == "lockstep":
            decisions = made
    pairs = zip(found["lockstep"], found["alone"], strict=False)
    return {
        "model": model.name,
        "game": game_id,
        "style": "direct, self-play",
        "episodes": episodes,
        "decisions": len(decisions),
        "prompts": len({decision.prompt_ids for decision in decisions}),
        "lockstep_per_s": rates["lockstep"],
        "alone_per_s": rates["alone"],
        "ratio": rates["lockstep"] / rates["alone"],
        "equal": float(np.mean([one.own == other.own for one, other in pairs])),
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
            rows.append(compare_self_play(model, game_id, *((4, 2, 1) if smoke else (32, 4, 2))))
    conclude("rollout", rows, smoke)


if __name__ == "__main__":
    main()
