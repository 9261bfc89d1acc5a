"""Replies scored on token trees: what a plain forward pass over each of them gives, and its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from peft import get_peft_model

from sepo_kit.models import scoring
from sepo_kit.models.lora import lora
from sepo_kit.models.scoring import passes, score_replies, scores_on_trees

TEMPERATURE = 0.7


def examples() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Prompts that share beginnings, replies that do, equal ones, one prompt that continues another."""
    rng = np.random.default_rng(0)
    rules = tuple(rng.integers(4, 200, 30).tolist())
    said = []
    for number in range(5):
        prompt = rules[: 20 + number] + tuple(rng.integers(4, 200, number).tolist())
        said += [(prompt, tuple(rng.integers(4, 8, length).tolist())) for length in (1, 3, 3, 6)]
    return [*said, said[3]]


def padded(model, said) -> torch.Tensor:
    """Log-probabilities by one padded batch, shape (N, C)."""
    width = max(len(prompt) + len(reply) for prompt, reply in said)
    ids = torch.tensor([[*prompt, *reply] + [0] * (width - len(prompt + reply)) for prompt, reply in said])
    logits = model(
        ids, attention_mask=(torch.arange(width) < torch.tensor([[len(p + r)] for p, r in said])).long()
    )
    log_p = torch.log_softmax(logits.logits / TEMPERATURE, -1)
    longest = max(len(reply) for _, reply in said)
    return torch.stack(
        [
            torch.nn.functional.pad(
                log_p[row, torch.arange(len(p) - 1, len(p) + len(r) - 1), list(r)], (0, longest - len(r))
            )
            for row, (p, r) in enumerate(said)
        ]
    )  # fmt: skip


def gradient(model, log_probs: torch.Tensor) -> torch.Tensor:
    """Of a sum with other weights for every token."""
    model.zero_grad()
    (log_probs * torch.linspace(-1, 2, log_probs.numel()).view_as(log_probs)).sum().backward()
    return torch.cat([p.grad.ravel() for p in model.parameters()])


@pytest.mark.parametrize("logits", [1000, 2**24])  # one position at a time, all at once
@pytest.mark.parametrize("tokens", [5, 40, 1000])  # of a tree: a reply each, a few, all
def test_token_trees_give_what_padded_rows_do_and_its_gradient(tokenizer, monkeypatch, tokens, logits):
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", logits)
    model, said = tiny.model(tokenizer), examples()
    found, entropies, _ = score_replies(model, said, TEMPERATURE, tree_tokens=tokens)
    plain = padded(model, said)
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)
    mine, theirs = gradient(model, found), gradient(model, plain)
    assert float((mine - theirs).norm() / theirs.norm()) < 1e-5
    assert not entropies.requires_grad and (entropies > 0).equal(found != 0)


@pytest.mark.parametrize(("tokens", "passes"), [(1000, 1), (40, 2)])  # one tree; a trunk, and the trees on it
def test_what_fits_one_tree_takes_one_pass(tokenizer, tokens, passes):
    model, said = tiny.model(tokenizer), examples()
    read = []
    model.base_model.register_forward_hook(lambda *_: read.append(1))
    score_replies(model, said, TEMPERATURE, tree_tokens=tokens)
    assert len(read) == passes


def test_what_a_long_reply_begins_with_is_read_apart_from_it(tokenizer):
    """Without the mask that a tree needs, whose size is the square of its tokens."""
    model, (said, *_) = tiny.model(tokenizer), examples()
    read = []
    model.base_model.register_forward_hook(lambda *_: read.append(1))
    score_replies(model, [said], TEMPERATURE, tree_tokens=len(said[0]) // 2)
    assert len(read) == 2


def test_the_entropy_is_that_of_the_distribution(tokenizer):
    model, (said, *_) = tiny.model(tokenizer), examples()
    with torch.no_grad():
        _, entropies, _ = score_replies(model, [said], TEMPERATURE)
        p = torch.softmax(model(torch.tensor([said[0]])).logits[0, -1] / TEMPERATURE, -1)
    assert float(entropies[0, 0]) == pytest.approx(float(-(p * p.log()).sum()), rel=1e-4)


def test_the_likeliest_tokens_are_known(tokenizer):
    model, said = tiny.model(tokenizer), examples()
    with torch.no_grad():
        found = score_replies(model, said, TEMPERATURE).likeliest
        for row, (prompt, reply) in zip(found, said, strict=True):
            best = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1].argmax(-1)
            assert row[: len(reply)].bool().tolist() == (best == torch.tensor(reply)).tolist()
            assert not row[len(reply) :].any()


def test_dropout_does_not_hide_that_trees_can_be_used(tokenizer):
    """Nor does the question take draws from those of the training."""
    adapted = get_peft_model(tiny.model(tokenizer), lora(4, 8, 0.5)).train()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    before = torch.get_rng_state()
    assert scores_on_trees(adapted) and adapted.training
    assert torch.equal(torch.get_rng_state(), before)


def test_what_replies_share_is_computed_once(tokenizer, monkeypatch):
    model, said = tiny.model(tokenizer), examples()
    sizes = tiny.tokens_read(model.model, monkeypatch)
    with torch.no_grad():
        score_replies(model, said, TEMPERATURE)
    contexts = {(p + r[:-1])[:n] for p, r in said for n in range(1, len(p + r))}
    assert sum(sizes) == len(contexts) < sum(len(p + r) for p, r in said) / 3


def test_gradient_checkpointing_changes_nothing(tokenizer):
    said = examples()
    plain = tiny.model(tokenizer)
    expected = gradient(plain, score_replies(plain, said, TEMPERATURE)[0])
    model = tiny.model(tokenizer).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    found = gradient(model, score_replies(model, said, TEMPERATURE)[0])
    assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_passes_hold_every_reply_once_and_no_more_tokens_than_they_may():
    said = examples()
    for most in (1, 40, 60, 10_000):
        runs = passes(said, most)
        assert sorted(row for run in runs for row in run) == list(range(len(said)))
        for run in runs:
            tokens = {(p + r[:-1])[:n] for p, r in (said[row] for row in run) for n in range(1, len(p + r))}
            longest = max(len(said[row][0] + said[row][1][:-1]) for row in run)
            assert len(tokens) <= max(most, longest)
    assert len(passes(said, 10_000)) == 1 < len(passes(said, 60)) < len(passes(said, 1))


def test_models_whose_logits_are_more_than_a_product_are_not_scored_on_trees(tokenizer):
    model = tiny.model(tokenizer)
    assert scores_on_trees(model)
    model.lm_head.register_forward_hook(lambda module, args, output: output / 2)
    assert scores_on_trees(model), "what the head itself does counts"
    forward = model.forward

    def capped(*args, **kwargs):
        answer = forward(*args, **kwargs)
        answer.logits = 5 * torch.tanh(answer.logits / 5)
        return answer

    model.forward = capped
    assert not scores_on_trees(model)
    model.config._attn_implementation = "eager"
    assert not scores_on_trees(model)
