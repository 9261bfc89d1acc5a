"""Sampled replies: what a batch says is what each prompt alone is answered, token by token."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from toys import WordGame, WordInformation

from sepo_kit.models import generation
from sepo_kit.models.generation import sample_replies
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.prefix_cache import BYTES_AT_MOST, PrefixCache

# Shared beginnings, equal prompts, one that continues another, all lengths.
PROMPTS = [
    (5, 6, 7, 8, 9), (5, 6, 7, 20), (5, 6), (5, 6, 7, 8, 9), (30,), (31, 5, 6, 7), (5, 6, 7, 8, 21, 22), (40, 41),
    (5, 6, 7, 20),
]  # fmt: skip
LONGEST = 12
END = 3


@pytest.fixture
def model(tokenizer):
    """A model that ends about one reply in three before the longest."""
    made = tiny.model(tokenizer)
    made.lm_head.register_forward_hook(
        lambda module, args, output: output + 3.0 * (torch.arange(output.shape[-1]) == END)
    )
    return made


@pytest.fixture
def uniforms():
    return np.random.default_rng(0).random((len(PROMPTS), LONGEST))


def plainest(model, prompt, draws, temperature=0.8) -> list[int]:
    """A forward pass over everything for every token, and a draw by inverse CDF."""
    reply = []
    for uniform in draws:
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *reply]])).logits[0, -1].double()
        p = torch.softmax(logits / temperature, -1).cumsum(-1)
        reply.append(int((p <= uniform * p[-1]).sum()))
        if reply[-1] == END:
            break
    return reply


@pytest.mark.parametrize("room", [0, BYTES_AT_MOST])
@pytest.mark.parametrize("cached", [1, 40, 16_384])  # one row at a time, a few, all at once
@pytest.mark.parametrize("shrink", [0.0, 0.75, 1.0])
def test_a_batch_says_what_each_prompt_alone_is_answered(model, uniforms, cached, shrink, room, monkeypatch):
    monkeypatch.setattr(generation, "CACHED_TOKENS", cached)
    monkeypatch.setattr(generation, "SHRINK", shrink)
    kept = PrefixCache(model, room)
    found = sample_replies(model, PROMPTS, uniforms, temperature=0.8, end=END, kept=kept)
    assert found == [plainest(model, *row) for row in zip(PROMPTS, uniforms, strict=True)]
    ended = [reply[-1] == END for reply in found]
    assert 2 <= sum(ended) < len(found), "the example must have replies of both kinds"
    assert found[0] != found[3] and found[1] != found[8]  # equal prompts, other draws


def test_what_was_read_is_not_computed_again_and_ended_rows_no_more(model, uniforms, monkeypatch):
    sizes = tiny.tokens_read(model, monkeypatch)
    monkeypatch.setattr(generation, "SHRINK", 1.0)
    kept = PrefixCache(model)
    first = sample_replies(model, PROMPTS, uniforms, temperature=0.8, end=END, kept=kept)
    del sizes[:]
    replies = sample_replies(model, PROMPTS, uniforms, temperature=0.8, end=END, kept=kept)
    assert replies == first
    rows = {p for p in PROMPTS if not any(q[: len(p)] == p for q in PROMPTS if q != p)}  # others begin these
    again = 4  # (5, 6) ends in the row of (5, 6, 7, 8, 9): from the 6 on
    said = list(zip(PROMPTS, map(tuple, replies), strict=True))
    longer = [
        len({(prompt, reply[:length]) for prompt, reply in said if len(reply) > length})
        for length in range(1, max(map(len, replies)))
    ]
    assert sizes == [len(rows) * again, *longer]


def test_replies_that_begin_alike_are_one_row_until_they_part(tokenizer, monkeypatch):
    """Of a model that hardly ever says anything else."""
    sure = tiny.model(tokenizer)
    sure.lm_head.register_forward_hook(lambda module, args, output: output * 30)
    prompts = [PROMPTS[0]] * 15 + [PROMPTS[1]] * 5
    draws = np.random.default_rng(0).random((len(prompts), LONGEST))
    expected = [plainest(sure, *row) for row in zip(prompts, draws, strict=True)]
    said = {(prompt, tuple(reply)) for prompt, reply in zip(prompts, expected, strict=True)}
    assert 2 < len(said) < len(prompts) / 1.5
    sizes = tiny.tokens_read(sure, monkeypatch)
    found = sample_replies(sure, prompts, draws, temperature=0.8, end=END, kept=PrefixCache(sure))
    assert found == expected
    contexts = {(prompt, reply[:n]) for prompt, reply in said for n in range(1, len(reply))}
    assert sum(sizes[2:]) <= 1.4 * len(contexts) < sum(len(reply) - 1 for reply in expected) / 2


def test_a_model_that_went_wrong_does_not_talk_on(tokenizer, uniforms):
    model = tiny.model(tokenizer)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        sample_replies(model, PROMPTS, uniforms, temperature=0.8, end=END)


def test_lockstep_is_one_at_a_time(tiny_model, tokenizer):
    """What a player says depends on the state and its uniform number only."""
    words = ("COOPERATE", "DEFECT")
    agent = LanguageModel(tiny_model, tokenizer, WordGame(words), style="reasoned", max_new_tokens=10)
    seen = [WordInformation(words, number) for number in (1, 22, 1, 333)]
    draws = [0.1, 0.5, 0.9, 0.5]
    together = agent.act(seen, draws)
    assert together == [agent.act([state], [draw])[0] for state, draw in zip(seen, draws, strict=True)]
    assert len({choice.reply for choice in together}) == 4


def test_nobody_is_answered_nothing(model):
    assert sample_replies(model, [], np.empty((0, 4)), temperature=0.8, end=END) == []
