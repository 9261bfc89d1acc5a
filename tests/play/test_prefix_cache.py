"""What was read before must not change what a context is answered, and must not be computed again."""

from __future__ import annotations

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from sepo_kit.play.prefix_cache import PrefixCache, shared_length

RULES = (5, 6, 7, 8)


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny.model(tokenizer).eval()


def plainest(model, contexts) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack([model(input_ids=torch.tensor([context])).logits[0, -1] for context in contexts])


def counting(model, monkeypatch) -> list[int]:
    """The tokens, padding included, of every forward pass from now on."""
    sizes: list[int] = []
    forward = model.forward

    def counted(*args, **kwargs):
        sizes.append(kwargs["input_ids"].numel())
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", counted)
    return sizes


contexts_of_a_call = st.sets(
    st.lists(st.integers(3, 6), min_size=1, max_size=7).map(tuple), min_size=1, max_size=5
)


@given(calls=st.lists(contexts_of_a_call, min_size=1, max_size=4))
def test_answers_are_those_of_each_context_alone(model, calls):
    cache = PrefixCache(model)
    for contexts in map(sorted, calls):
        torch.testing.assert_close(cache.logits(contexts), plainest(model, contexts), atol=1e-4, rtol=0)


def test_a_round_costs_its_new_tokens(model, monkeypatch):
    sizes, cache = counting(model, monkeypatch), PrefixCache(model)
    cache.logits([(*RULES, 20), (*RULES, 21)])
    assert sizes == [4, 2]  # the rules once, then a token for each
    del sizes[:]
    grown = [(*RULES, 20, 30, 31), (*RULES, 20, 40, 31), (*RULES, 21, 30, 31)]  # one has two followers
    found = cache.logits(grown)
    assert sizes == [3 * 2]
    torch.testing.assert_close(found, plainest(model, grown), atol=1e-4, rtol=0)


def test_a_context_that_begins_another_needs_no_row(model, monkeypatch):
    sizes, cache = counting(model, monkeypatch), PrefixCache(model)
    contexts = [RULES, (*RULES, 20), (*RULES, 20, 21)]
    found = cache.logits(contexts)
    assert sizes[1:] == [3]  # from the last token of the first context on
    torch.testing.assert_close(found, plainest(model, contexts), atol=1e-4, rtol=0)
    assert [keys.shape[1] for keys, _ in cache.keys_and_values((*RULES, 20))] == [5] * len(model.model.layers)


def test_room(model):
    config = model.config
    width = config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * config.num_key_value_heads * width * 4  # bytes, float32
    cache = PrefixCache(model, room=2 * 5 * token)
    assert cache.fits([RULES, (*RULES, 1)])
    assert not cache.fits([RULES, (*RULES, 1, 2)])


@pytest.mark.parametrize(
    ("first", "second", "length"),
    [((1, 2, 3), (1, 2, 4), 2), ((1, 2), (1, 2, 3), 2), ((1,), (2,), 0), ((), (1,), 0)],
)
def test_shared_length(first, second, length):
    assert shared_length(first, second) == shared_length(second, first) == length
