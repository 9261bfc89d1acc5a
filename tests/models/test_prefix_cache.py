"""What was read before must not change what a context is answered, and must not be computed again."""

from __future__ import annotations

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, GPT2Config, Qwen2Config, Qwen3Config

from sepo_kit.models import prefix_cache
from sepo_kit.models.prefix import allowed_logits, shares_prefixes
from sepo_kit.models.prefix_cache import PrefixCache, shared_length

RULES = (5, 6, 7, 8)


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny.model(tokenizer).eval()


def plainest(model, contexts) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack([model(input_ids=torch.tensor([context])).logits[0, -1] for context in contexts])


contexts_of_a_call = st.sets(
    st.lists(st.integers(3, 6), min_size=1, max_size=7).map(tuple), min_size=1, max_size=5
)


@given(calls=st.lists(contexts_of_a_call, min_size=1, max_size=4))
def test_answers_are_those_of_each_context_alone(model, calls):
    cache = PrefixCache(model)
    for contexts in map(sorted, calls):
        torch.testing.assert_close(cache.logits(contexts), plainest(model, contexts), atol=1e-4, rtol=0)


def test_a_round_costs_its_new_tokens(model, monkeypatch):
    sizes, cache = tiny.tokens_read(model, monkeypatch), PrefixCache(model)
    cache.logits([(*RULES, 20), (*RULES, 21)])
    assert sizes == [4, 2]  # the rules once, then a token for each
    del sizes[:]
    grown = [(*RULES, 20, 30, 31), (*RULES, 20, 40, 31), (*RULES, 21, 30, 31)]  # one has two followers
    found = cache.logits(grown)
    assert sizes == [3 * 2]
    torch.testing.assert_close(found, plainest(model, grown), atol=1e-4, rtol=0)


def test_a_context_that_begins_another_needs_no_row(model, monkeypatch):
    sizes, cache = tiny.tokens_read(model, monkeypatch), PrefixCache(model)
    contexts = [RULES, (*RULES, 20), (*RULES, 20, 21)]
    found = cache.logits(contexts)
    assert sizes[1:] == [3]  # from the last token of the first context on
    torch.testing.assert_close(found, plainest(model, contexts), atol=1e-4, rtol=0)
    assert [keys.shape[1] for keys, _ in cache.keys_and_values((*RULES, 20))] == [5] * len(model.model.layers)


def test_a_call_that_failed_halfway_leaves_nothing_behind(model):
    """As where memory runs out: the first layers hold the new rows already, the last ones those before."""
    cache = PrefixCache(model)
    cache.logits([(*RULES, 20), (*RULES, 21)])
    contexts = [(*RULES, 20, 30), (*RULES, 20, 31), (*RULES, 21, 30), (*RULES, 21, 31)]

    def fail(*_):
        raise torch.OutOfMemoryError("out of memory")

    hook = model.model.layers[-1].register_forward_pre_hook(fail)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            cache.logits(contexts)
    finally:
        hook.remove()
    for part in (contexts[2:], contexts[:2]):  # once more, in pieces
        torch.testing.assert_close(cache.logits(part), plainest(model, part), atol=1e-4, rtol=0)


def test_a_fork_goes_on_and_leaves_the_other_as_it_is(model, monkeypatch):
    cache = PrefixCache(model)
    prompts = [(*RULES, token) for token in range(20, 30)]
    cache.logits(prompts)
    said = [(*prompts[3], 11, 12, 13)]
    sizes = tiny.tokens_read(model, monkeypatch)
    found = cache.fork().logits(said)
    assert sizes == [3]
    torch.testing.assert_close(found, plainest(model, said), atol=1e-4, rtol=0)
    del sizes[:]
    following = [(*prompt, 14) for prompt in prompts]
    found = cache.logits(following)
    assert sizes == [len(prompts)], "a new token each: nobody's row was lost"
    torch.testing.assert_close(found, plainest(model, following), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4),  # no grouped heads, learned positions
        Qwen2Config(  # grouped heads
            vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2,
        ),
        Qwen3Config(  # heads of a size of their own
            vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16,
        ),
    ],
    ids=lambda config: config.model_type,
)  # fmt: skip
def test_any_model_that_shares_prefixes_has_a_cache_of_the_size_it_says(config, dtype):
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    assert shares_prefixes(model)
    contexts = [(*RULES, token) for token in range(20, 23)]
    cache = PrefixCache(model)
    cache.logits(contexts)
    held = sum(part.nbytes for layer in cache._read_before[0].layers for part in (layer.keys, layer.values))
    assert PrefixCache(model, bytes_at_most=held).fits(contexts)
    assert not PrefixCache(model, bytes_at_most=held - 1).fits(contexts)
    following = [(*context, 30, 31) for context in contexts]
    close = {"atol": 1e-5 if dtype == torch.float32 else 0.05, "rtol": 0}
    torch.testing.assert_close(cache.logits(following), plainest(model, following), **close)


def tokens_read(monkeypatch, model) -> list[int]:
    """Of every forward pass from here on, how many tokens of each row it computes."""
    widths, forward = [], type(model).forward

    def counted(self, *given, **named):
        widths.append(named["input_ids"].shape[1])
        return forward(self, *given, **named)

    monkeypatch.setattr(type(model), "forward", counted)
    return widths


def test_who_was_not_asked_in_between_goes_on_from_where_it_was(model, monkeypatch):
    """Of some replies the rest is decided: the next call asks for the others only, and the one after it for all."""
    cache = PrefixCache(model)
    contexts = [(*RULES, token) for token in range(20, 26)]
    cache.logits(contexts)
    for asked in (contexts[:3], contexts[1:3]):
        contexts = sorted({*contexts, *((*context, 30) for context in asked)} - {*asked})
        cache.logits([(*context, 30) for context in asked])
    following = [(*context, 31, 32) for context in contexts]
    widths = tokens_read(monkeypatch, model)
    found = cache.logits(following)
    assert widths == [2]
    torch.testing.assert_close(found, plainest(model, following), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("room", "kept"), [(2**31, prefix_cache.CALLS), (0, 1)])
def test_what_waits_is_kept_of_a_few_calls_and_where_there_is_room(model, room, kept):
    cache = PrefixCache(model, bytes_at_most=room)
    for token in range(20, 24 + prefix_cache.CALLS):
        cache.logits([(*RULES, token, 30), (*RULES, token, 31)])
        cache.logits([(*RULES, token, 30, 32)])
    assert len(cache._read_before) == kept
    layers = [layer for rows in cache._read_before for layer in rows.layers]
    assert all(layer.parts == [] for layer in layers), "else what was let go of stays in memory"


def test_no_gradient_and_no_other_model_is_given_what_was_read(model, tokenizer):
    contexts, allowed = [RULES], [(1, 2)]
    with pytest.raises(ValueError, match="has no gradients and belongs to one model"):
        allowed_logits(model, contexts, allowed, cache=PrefixCache(model))
    with torch.no_grad(), pytest.raises(ValueError, match="has no gradients and belongs to one model"):
        allowed_logits(model, contexts, allowed, cache=PrefixCache(tiny.model(tokenizer)))


def test_contexts_without_room_are_computed_without(model):
    contexts, allowed = [RULES, (*RULES, 20)], [(1, 2), (3, 4)]
    cache = PrefixCache(model, bytes_at_most=0)
    with torch.no_grad():
        found = allowed_logits(model, contexts, allowed, cache=cache)
        torch.testing.assert_close(found, allowed_logits(model, contexts, allowed))
    assert cache._read_before == []


@pytest.mark.parametrize(
    ("first", "second", "length"),
    [((1, 2, 3), (1, 2, 4), 2), ((1, 2), (1, 2, 3), 2), ((1,), (2,), 0), ((), (1,), 0)],
)
def test_shared_length(first, second, length):
    assert shared_length(first, second) == shared_length(second, first) == length
