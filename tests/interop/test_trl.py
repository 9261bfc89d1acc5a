"""One seat of each game in TRL's GRPOTrainer, with a model whose replies are given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import trl
from datasets import Dataset
from every_game import each_game
from trl import GRPOConfig, GRPOTrainer

from sepo_kit import interop
from sepo_kit.games import get_game


@each_game
@pytest.mark.parametrize("seat", [0, 1])
def test_a_match_by_hand(game, seat):
    env = interop.to_trl(game, "train", seat)()
    told = env.reset(seed=2)
    assert game.system_prompt("direct") in told and told.endswith(env._sitting.prompt)
    told = env.act("something else")
    assert told == f"That is not one of the allowed actions: {', '.join(env._sitting.legal_actions)}."
    while told != "The match is over.":
        told = env.act(env._sitting.legal_actions[0])
    assert env.act(game.spec.actions[0]) == "The match is over."
    earned = sum(env._sitting.episode().own)
    assert env.get_reward() == pytest.approx(game.spec.scale * earned / game.spec.rounds)


def test_rounds_that_were_not_played_count_the_least():
    env = interop.to_trl("kuhn", "nash")()
    env.reset(seed=0)
    assert env.get_reward() == 1.5 * -2


@each_game
def test_the_same_seed_is_the_same_match(game):
    def match(seed):
        env = interop.to_trl(game)()
        told = [env.reset(seed=seed)]
        while told[-1] != "The match is over.":
            told.append(env.act(env._sitting.legal_actions[0]))
        return told, env.get_reward()

    assert match(3) == match(3)
    assert len({str(match(seed)) for seed in range(12)}) > 1


@pytest.fixture
def trainer(tmp_path):
    """GRPO on one seat of a game; the model, of random weights, "says" what ``replies`` gives for each row."""

    def made(game: str, opponent: str, replies: list[str]) -> GRPOTrainer:
        speaker = tiny.tokenizer()
        template = Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja"
        speaker.chat_template = template.read_text(encoding="utf-8")
        model = tiny.model(speaker)
        model.config.max_position_embeddings = (
            8192  # TRL cuts conversations there, and its tokenizer knows few words
        )
        rows = [{"prompt": [{"role": "user", "content": ""}], "seed": seed} for seed in range(2)]
        trainer = GRPOTrainer(
            model=model,
            args=GRPOConfig(
                output_dir=str(tmp_path),
                max_steps=1,
                per_device_train_batch_size=len(replies),
                num_generations=len(replies),
                max_completion_length=4000,
                max_tool_calling_iterations=20,
                report_to="none",
                save_strategy="no",
                use_cpu=True,
                seed=0,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=speaker,
            environment_factory=interop.to_trl(game, opponent),
        )

        def generate(input_ids, **options):
            calls = [json.dumps({"name": "act", "arguments": {"action": reply}}) for reply in replies]
            said = [
                speaker(f"<tool_call>\n{call}\n</tool_call>{speaker.eos_token}")["input_ids"]
                for call in calls
            ]
            longest = max(map(len, said))
            padded = [ids + [speaker.pad_token_id] * (longest - len(ids)) for ids in said]
            return torch.cat([input_ids, torch.tensor(padded[: len(input_ids)])], dim=1)

        trainer.model.generate = generate
        return trainer

    return made


def test_grpo_plays_matches_and_is_paid(trainer):
    grpo = trainer("ipd", "tit-for-tat", ["COOPERATE", "DEFECT"])
    weights = [p.detach().clone() for p in grpo.model.parameters()]
    grpo.train()
    cooperator, defector = grpo.environments
    assert [len(env._sitting.rounds) for env in grpo.environments] == [8, 8]
    assert cooperator.get_reward() == 3 and defector.get_reward() == pytest.approx((5 + 7) / 8)
    log = next(entry for entry in grpo.state.log_history if "reward" in entry)
    assert log["reward"] == log["rewards/TrlEnv/mean"] == pytest.approx(np.mean([3, 1.5]))
    assert log["tools/call_frequency"] >= 8 and log["tools/failure_frequency"] == 0
    assert any((old != new).any() for old, new in zip(weights, grpo.model.parameters()))


def test_one_tool_and_nothing_of_the_environment_is_shown(trainer):
    grpo = trainer("kuhn", "nash", ["PASS", "BET"])
    assert [tool.__name__ for tool in grpo.tools] == ["act"]


def test_what_is_not_there_is_said():
    with pytest.raises(ValueError, match="unknown opponent 'genius' in ipd"):
        interop.to_trl("ipd", "genius")
    with pytest.raises(ValueError, match="seat must be 0 or 1, got -1"):
        interop.to_trl(get_game("ipd"), seat=-1)
