"""What the kit relies on in TRL, each line of it held to account on a model of two layers.

TRL's hooks for rollouts are experimental and two of the methods used here are private. If a new version breaks
one of these tests, training would go wrong silently: do not widen the version range before they pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import pytest
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

LONGEST = 5  # max_completion_length
TEMPERATURE = 0.7


class Watched(GRPOTrainer):
    """Keeps what the loss was computed from."""

    def __init__(self, *, advantages: Sequence[float] | None = None, **kwargs) -> None:
        self.own_advantages = advantages
        self.scored: list[dict] = []  # as they leave _generate_and_score_completions
        self.inputs: list[dict] = []  # as they reach the loss
        self.losses: list[float] = []
        super().__init__(**kwargs)

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        if self.own_advantages is not None:
            output["advantages"] = torch.tensor(self.own_advantages, dtype=torch.float32)
        self.scored.append(dict(output))
        return output

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs)
        self.inputs.append(dict(inputs))
        self.losses.append(loss.item())
        return loss


class Rollout:
    """Every row has a prompt and a reply of its own, known from its number; notes what it was given."""

    def __init__(self, masks: Sequence[Sequence[int]] | None = None, **extra) -> None:
        self.masks = masks
        self.extra = extra
        self.calls: list[tuple[list, int]] = []

    def __call__(self, prompts, trainer):
        self.calls.append((list(prompts), trainer.state.global_step))
        rows = range(len(prompts))
        masks = {} if self.masks is None else {"env_mask": [list(mask) for mask in self.masks]}
        return {
            "prompt_ids": [self.prompt(row) for row in rows],
            "completion_ids": [self.reply(row) for row in rows],
            "logprobs": None,
            **masks,
            **self.extra,
        }

    @staticmethod
    def prompt(row: int) -> list[int]:
        return [20 + row] * (1 + row % 3)

    @staticmethod
    def reply(row: int) -> list[int]:
        return [60 + row] * (1 + row % 2) + [2]


@pytest.fixture
def trainer(tokenizer, tmp_path):
    """Builds a ``Watched`` trainer; all settings are those of the kit unless told otherwise."""

    def build(
        rollout: Callable | None, prompts: int = 3, rewards=None, peft=None, advantages=None, **changes
    ):
        rows = prompts * 2
        arguments = {
            "output_dir": str(tmp_path), "max_steps": 1, "num_generations": 2, "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": 1, "steps_per_generation": 1, "max_completion_length": LONGEST,
            "temperature": TEMPERATURE, "loss_type": "dr_grpo", "scale_rewards": "none", "shuffle_dataset": False,
            "beta": 0.0, "learning_rate": 1e-3, "save_strategy": "no", "logging_steps": 1, "report_to": "none",
            "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True,
            "dataloader_pin_memory": False,
        }  # fmt: skip
        return Watched(
            advantages=advantages,
            model=tiny.model(tokenizer),
            reward_funcs=rewards or [lambda completions, **_: [float(i) for i in range(len(completions))]],
            args=GRPOConfig(**{**arguments, **changes}),
            train_dataset=Dataset.from_dict(
                {"prompt": [f"slot {i}" for i in range(prompts)], "secret": list(range(prompts))}
            ),
            processing_class=tokenizer,
            rollout_func=rollout,
            peft_config=peft,
        )

    return build


def rows_of(inputs: dict) -> list[tuple[list[int], list[int]]]:
    """(prompt, completion) of each row, without padding."""
    columns = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    return [
        (prompt[prompt_mask == 1].tolist(), completion[mask == 1].tolist())
        for prompt, prompt_mask, completion, mask in zip(*(inputs[column] for column in columns), strict=True)
    ]


def number_of(row: tuple[list[int], list[int]]) -> int:
    """The number of a row that ``Rollout`` made."""
    return row[0][0] - 20


# --- rollout_func ---------------------------------------------------------------------------------


def test_prompts_arrive_repeated_in_groups_and_in_the_order_of_the_dataset(trainer):
    rollout = Rollout()
    trainer(rollout, prompts=3, max_steps=3).train()
    assert [prompts for prompts, _ in rollout.calls] == [
        ["slot 0", "slot 0", "slot 1", "slot 1", "slot 2", "slot 2"]
    ] * 3


def test_a_step_takes_the_next_prompts_of_a_longer_dataset(trainer):
    rollout = Rollout()
    trainer(rollout, prompts=4, per_device_train_batch_size=4, max_steps=2).train()
    assert [prompts for prompts, _ in rollout.calls] == [
        ["slot 0", "slot 0", "slot 1", "slot 1"], ["slot 2", "slot 2", "slot 3", "slot 3"]
    ]  # fmt: skip


def test_the_rollout_knows_the_step(trainer):
    rollout = Rollout()
    trainer(rollout, max_steps=3).train()
    assert [step for _, step in rollout.calls] == [0, 1, 2]


def test_micro_batches_share_one_rollout_of_the_whole_step(trainer):
    rollout = Rollout()
    made = trainer(
        rollout, prompts=4, per_device_train_batch_size=2, gradient_accumulation_steps=4, steps_per_generation=4,
        max_steps=2,
    )  # fmt: skip
    made.train()
    assert [(len(prompts), step) for prompts, step in rollout.calls] == [(8, 0), (8, 1)]
    seen = sorted(number_of(row) for inputs in made.inputs[:4] for row in rows_of(inputs))
    assert seen == list(range(8))


def test_only_the_prompt_column_arrives(trainer):
    rollout = Rollout()
    trainer(rollout).train()
    assert all(type(prompt) is str for prompt in rollout.calls[0][0])


def test_every_row_may_have_a_prompt_of_its_own(trainer):
    made = trainer(Rollout())
    made.train()
    expected = [(Rollout.prompt(row), Rollout.reply(row)) for row in range(6)]
    assert rows_of(made.scored[0]) == expected
    # Shuffled on their way to the loss, but kept together.
    assert sorted(rows_of(made.inputs[0])) == sorted(expected)


def test_prompts_are_padded_on_the_left_and_replies_on_the_right(trainer, tokenizer):
    made = trainer(Rollout())
    made.train()
    output = made.scored[0]
    pad = tokenizer.pad_token_id
    assert output["prompt_ids"][0].tolist() == [pad, pad, 20]
    assert output["completion_ids"][0].tolist() == [60, 2, pad]
    assert output["completion_mask"][0].tolist() == [1, 1, 0]


def test_missing_keys_are_refused(trainer):
    with pytest.raises(ValueError, match="logprobs"):
        trainer(lambda prompts, trainer: {"prompt_ids": [[1]] * 6, "completion_ids": [[2]] * 6}).train()


@pytest.mark.parametrize("rows", [2, 4, 10])
def test_a_rollout_may_give_other_rows_than_it_was_asked_for(trainer, monkeypatch, rows):
    """As many as whole groups have; rewards must then be as many."""
    monkeypatch.setattr(Watched, "_calculate_rewards", lambda self, *given: torch.zeros(len(given[2]), 1))
    rollout = Rollout()
    own = [float(row) for row in range(rows)]
    made = trainer(lambda prompts, trainer: rollout([""] * rows, trainer), prompts=3, advantages=own)
    made.train()
    (inputs,) = made.inputs
    found = {number_of(row): a for row, a in zip(rows_of(inputs), inputs["advantages"].tolist(), strict=True)}
    assert found == dict(enumerate(own))
    expected = -sum(a * len(Rollout.reply(row)) for row, a in enumerate(own)) / (rows * LONGEST)
    assert made.losses[0] == pytest.approx(expected, rel=1e-5)


def test_a_mask_may_count(trainer):
    """A row that is masked by n is n rows, in the loss and in what is logged."""
    counts = [3, 0, 1, 2, 0, 5]
    masks = [[count] * len(Rollout.reply(row)) for row, count in enumerate(counts)]
    own = [1.0, 5.0, -2.0, 0.5, -7.0, 3.0]
    made = trainer(Rollout(masks=masks), advantages=own)
    made.train()
    expected = -sum(a * sum(mask) for a, mask in zip(own, masks, strict=True)) / (6 * LONGEST)
    assert made.losses[0] == pytest.approx(expected, rel=1e-5)
    inputs = made.inputs[0]
    model = tiny.model(made.processing_class)
    total, tokens = 0.0, 0
    for (prompt, reply), mask in zip(rows_of(inputs), inputs["tool_mask"], strict=True):
        with torch.no_grad():
            plain = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1] / TEMPERATURE
        plain = torch.log_softmax(plain.float(), -1)
        entropy = -(plain.exp() * plain).sum(-1)
        total += float((entropy * mask[: len(reply)]).sum())
        tokens += int(mask[: len(reply)].sum())
    assert made.state.log_history[0]["entropy"] == pytest.approx(total / tokens, rel=1e-4)


def test_extra_columns_reach_reward_functions_row_by_row(trainer):
    told = {}

    def reward(prompts, completions, completion_ids, **columns):
        told.update(columns, ids=completion_ids)
        return columns["payoff"]

    rollout = Rollout(payoff=[0.5, -1.0, 2.0, 3.0, 4.0, 8.0])
    made = trainer(rollout, rewards=[reward])
    made.train()
    assert told["payoff"] == [0.5, -1.0, 2.0, 3.0, 4.0, 8.0]
    assert told["ids"] == [Rollout.reply(row) for row in range(6)]
    # With scale_rewards="none": reward less the group's mean.
    assert made.scored[0]["advantages"].tolist() == [0.75, -0.75, -0.5, 0.5, -2.0, 2.0]


# --- env_mask -------------------------------------------------------------------------------------

MASKS = [[1, 1], [0, 0, 0], [1, 0], [1, 1, 1], [0, 0], [1, 1, 1]]


def test_env_mask_becomes_tool_mask(trainer):
    made = trainer(Rollout(masks=MASKS))
    made.train()
    output = made.scored[0]
    kept = (output["tool_mask"] * output["completion_mask"]).tolist()
    assert [row[: len(mask)] for row, mask in zip(kept, MASKS, strict=True)] == MASKS
    assert all(not any(row[len(mask) :]) for row, mask in zip(kept, MASKS, strict=True))
    assert not {"env_mask"} & set(output)


def one_step(made: GRPOTrainer) -> tuple[dict, torch.Tensor]:
    """The inputs of one training step, and its loss."""
    made.model.train()
    made.current_gradient_accumulation_steps = 1
    inputs = made._prepare_inputs(next(iter(made.get_train_dataloader())))
    return inputs, made.compute_loss(made.model, inputs)


def gradient(made: GRPOTrainer) -> torch.Tensor:
    """Of one step with the weights left as they are."""
    made.model.zero_grad()
    one_step(made)[1].backward()
    return torch.cat([p.grad.ravel() for p in made.model.parameters() if p.grad is not None])


class Other(Rollout):
    """Says something else in the rows that ``MASKS`` masks altogether."""

    @staticmethod
    def reply(row: int) -> list[int]:
        return [99, 98, 97][: len(MASKS[row])] if row in (1, 4) else Rollout.reply(row)


def test_masked_rows_train_nothing(trainer):
    advantages = [1.0, 5.0, -2.0, 0.5, -7.0, 3.0]
    one = gradient(trainer(Rollout(masks=MASKS), advantages=advantages))
    assert one.norm() > 0
    other = gradient(trainer(Other(masks=MASKS), advantages=advantages))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6 * float(one.abs().max()))
    unmasked = gradient(trainer(Other(), advantages=advantages))
    assert (one - unmasked).norm() > 0.1 * one.norm()


# --- advantages -----------------------------------------------------------------------------------


def test_row_order_is_still_that_of_the_rollout_where_advantages_are_put_in(trainer):
    made = trainer(Rollout(), advantages=[0.0] * 6)
    made.train()
    assert [number_of(row) for row in rows_of(made.scored[0])] == list(range(6))


def test_advantages_put_in_are_those_of_the_loss_each_with_its_row(trainer):
    own = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]
    made = trainer(Rollout(), advantages=own)
    made.train()
    inputs = made.inputs[0]
    assert inputs["advantages"].shape == (6,)
    found = {number_of(row): a for row, a in zip(rows_of(inputs), inputs["advantages"].tolist(), strict=True)}
    assert found == dict(enumerate(own))


def test_the_loss_is_the_advantages_over_rows_times_longest_reply(trainer):
    """dr_grpo at a probability ratio of 1, which is what one update per rollout has."""
    own = [1.0, 5.0, -2.0, 0.5, -7.0, 3.0]
    made = trainer(Rollout(masks=MASKS), advantages=own)
    made.train()
    assert "old_per_token_logps" not in made.inputs[0]  # so the ratio is 1 exactly
    expected = -sum(a * sum(mask) for a, mask in zip(own, MASKS, strict=True)) / (6 * LONGEST)
    assert made.losses[0] == pytest.approx(expected, rel=1e-5)


def test_micro_batches_add_up_to_the_same_loss(trainer):
    own = [1.0, 5.0, -2.0, 0.5, -7.0, 3.0, 2.0, 2.0]
    made = trainer(
        Rollout(), prompts=4, advantages=own, per_device_train_batch_size=2, gradient_accumulation_steps=4,
        steps_per_generation=4,
    )  # fmt: skip
    made.train()
    expected = -sum(a * len(Rollout.reply(row)) for row, a in enumerate(own)) / (8 * LONGEST)
    assert sum(made.losses) == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_that_of_advantage_times_log_probability(trainer):
    own = [1.0, 5.0, -2.0, 0.5, -7.0, 3.0]
    made = trainer(Rollout(masks=MASKS), advantages=own)
    found = gradient(made)
    model = made.model
    model.zero_grad()
    total = 0.0
    for row, advantage in enumerate(own):
        prompt, reply = Rollout.prompt(row), Rollout.reply(row)
        logits = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1] / TEMPERATURE
        log_p = torch.log_softmax(logits.float(), -1)[torch.arange(len(reply)), reply]
        total = total - advantage * (log_p * torch.tensor(MASKS[row])).sum() / (6 * LONGEST)
    total.backward()
    plain = torch.cat([p.grad.ravel() for p in model.parameters()])
    torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-5 * float(plain.abs().max()))


# --- private methods ------------------------------------------------------------------------------


def names_of(method) -> list[str]:
    return list(inspect.signature(method).parameters)


def test_the_signatures_the_kit_calls_and_overrides():
    assert names_of(GRPOTrainer._generate_single_turn)[:5] == [
        "self", "prompt_ids", "images", "multimodal_fields", "num_generations"
    ]  # fmt: skip
    assert names_of(GRPOTrainer._get_per_token_logps_and_entropies)[:7] == [
        "self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy"
    ]  # fmt: skip
    assert names_of(GRPOTrainer._generate_and_score_completions) == ["self", "inputs"]
    assert names_of(GRPOTrainer._calculate_rewards)[3] == "completions"


def test_generate_single_turn_answers_each_context_once(trainer, tokenizer):
    made = trainer(Rollout())
    contexts = [[5, 6, 7], [8], [9, 10]]
    torch.manual_seed(0)
    answer = made._generate_single_turn(contexts, None, {}, 1)
    assert len(answer) == 2
    replies, log_probs = answer
    assert log_probs is None and len(replies) == 3
    end = tokenizer.eos_token_id
    for reply in replies:
        assert 1 <= len(reply) <= LONGEST
        assert end not in list(reply)[:-1]
        assert len(reply) == LONGEST or reply[-1] == end


def test_log_probs_and_entropies_are_of_replies_at_temperature(trainer):
    made = trainer(Rollout())
    ids = torch.tensor([[0, 5, 6, 7, 8, 2], [20, 21, 22, 9, 2, 0]])
    mask = torch.tensor([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]])
    with torch.no_grad():
        answer = made._get_per_token_logps_and_entropies(made.model, ids, mask, 3, compute_entropy=True)
        logits = made.model(ids[1:, :5]).logits[0] / TEMPERATURE
    assert len(answer) == 3 and answer[2] is None
    log_probs, entropies, _ = answer
    assert log_probs.shape == entropies.shape == (2, 3)
    plain = torch.log_softmax(logits, -1)
    torch.testing.assert_close(log_probs[1, :2], plain[[2, 3], [9, 2]], atol=1e-4, rtol=1e-4)
    entropy = -(plain.exp() * plain).sum(-1)[2:4]
    torch.testing.assert_close(entropies[1, :2], entropy, atol=1e-4, rtol=1e-4)
    assert made._get_per_token_logps_and_entropies(made.model, ids, mask, 3)[1] is None


def test_the_loss_asks_for_log_probs_the_way_the_kit_answers(trainer, monkeypatch):
    """With model, ids, mask and width by position and the rest by name; what comes back is what counts."""
    asked = []

    def answer(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **rest
    ):
        asked.append((input_ids.shape, attention_mask.shape, logits_to_keep, compute_entropy))
        log_probs = torch.zeros(len(input_ids), logits_to_keep, requires_grad=True)
        return log_probs, torch.full_like(log_probs, 0.25).detach() if compute_entropy else None, None

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", answer)
    made = trainer(Rollout(), advantages=[1.0] * 6)
    one_step(made)
    assert asked == [((6, 6), (6, 6), 3, True)]
    assert made._metrics["train"]["entropy"] == [0.25]


def test_the_model_still_gives_plain_logits_inside_a_trainer(trainer, tokenizer):
    """TRL replaces its forward by one that can compute log-probabilities at temperature."""
    made = trainer(Rollout())
    plain = tiny.model(tokenizer)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        torch.testing.assert_close(made.model(input_ids=ids).logits, plain(input_ids=ids).logits)


# --- the reference of the KL penalty --------------------------------------------------------------

LORA = LoraConfig(
    r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
)


def test_the_reference_is_the_model_with_its_adapters_switched_off(trainer, tokenizer):
    made = trainer(Rollout(), peft=LORA, beta=0.1)
    assert made.ref_model is None
    inputs, _ = one_step(made)
    base = tiny.model(tokenizer)
    for row, reference in zip(rows_of(inputs), inputs["ref_per_token_logps"], strict=True):
        prompt, reply = row
        with torch.no_grad():
            ids = torch.tensor([prompt + reply])
            plain, adapted = (
                torch.log_softmax(model(input_ids=ids).logits[0, len(prompt) - 1 : -1] / TEMPERATURE, -1)
                for model in (base, made.model)
            )
        at = (torch.arange(len(reply)), torch.tensor(reply))
        torch.testing.assert_close(reference[: len(reply)], plain[at], atol=1e-4, rtol=1e-4)
        assert (plain[at] - adapted[at]).abs().max() > 1e-3


def test_the_penalty_is_the_k3_estimate_of_the_kl(trainer):
    """exp(d) - d - 1 with d = reference less policy, per token, as the published objective's KL is not."""
    made = trainer(Rollout(), peft=LORA, beta=0.1, advantages=[0.0] * 6)
    inputs, loss = one_step(made)
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    with torch.no_grad():
        policy, _, _ = made._get_per_token_logps_and_entropies(
            made.model, ids, mask, inputs["completion_ids"].size(1)
        )
    d = inputs["ref_per_token_logps"] - policy
    expected = 0.1 * ((torch.exp(d) - d - 1) * inputs["completion_mask"]).sum() / (6 * LONGEST)
    assert expected > 1e-6
    assert loss.item() == pytest.approx(float(expected), rel=1e-4)


# --- logs -----------------------------------------------------------------------------------------


def test_numbers_added_to_the_metrics_come_out_in_the_log(trainer):
    made = trainer(Rollout())
    made._metrics["train"]["sepo/payoff"].append(2.5)
    made.train()
    assert made.state.log_history[0]["sepo/payoff"] == 2.5
    assert made.state.log_history[0]["grad_norm"] > 0
