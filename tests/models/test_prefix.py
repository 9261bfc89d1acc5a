"""Shared prefixes: a token tree must give what one context at a time gives, and the same gradients."""

from __future__ import annotations

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from sepo_kit.models import prefix
from sepo_kit.models.prefix import allowed_logits, shares_prefixes, trees

# Shared beginnings, equal contexts, one that continues another, one of a single token, one apart.
CONTEXTS = [
    (5, 6, 7, 8, 9), (5, 6, 7, 20), (5, 6), (5, 6, 7, 8, 9), (5, 6, 7, 8, 9, 10, 11, 12),
    (30,), (31, 5, 6, 7), (5, 6, 7, 8, 21, 22), (5, 9, 9, 9, 9, 9),
]  # fmt: skip
ALLOWED = [(1, 2), (3,), (4, 5, 6), (2, 1), (7,), (8, 9), (1, 2, 3), (4,), (10, 11, 12)]
# The same with a beginning that all share, and one that is nothing else.
RULES = (40, 41, 42)
WITH_RULES = [RULES, *((*RULES, *context) for context in CONTEXTS[1:])]


def one_at_a_time(model, contexts=CONTEXTS, allowed=ALLOWED) -> torch.Tensor:
    """The plainest way: a forward pass for each context."""
    rows = torch.full((len(contexts), max(map(len, allowed))), -torch.inf)
    for row, (context, tokens) in enumerate(zip(contexts, allowed, strict=True)):
        logits = model(torch.tensor([context])).logits[0, -1].float()
        rows[row, : len(tokens)] = logits[torch.tensor(tokens)]
    return rows


def gradients(model, logits) -> list[torch.Tensor]:
    """Of an arbitrary function of the logits that are there."""
    model.zero_grad()
    there = logits[torch.isfinite(logits)]
    (there * torch.sin(torch.arange(len(there)))).sum().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.fixture
def model(tokenizer):
    """A model of this test's own: gradients are left on it."""
    return tiny.model(tokenizer)


# --- the tree gives what the plain way gives ------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 20, 4096])  # one tree each, a few, all at once
@pytest.mark.parametrize("limit", [1, 8, 12, 1000])
@pytest.mark.parametrize(
    "contexts", [CONTEXTS, WITH_RULES], ids=["nothing shared by all", "rules shared by all"]
)
def test_tree_logits_equal_logits_one_at_a_time(model, contexts, limit, batch, monkeypatch):
    monkeypatch.setattr(prefix, "BATCH_TOKENS", batch)
    assert shares_prefixes(model)
    with torch.no_grad():
        found = allowed_logits(model, contexts, ALLOWED, tree_tokens=limit)
        torch.testing.assert_close(found, one_at_a_time(model, contexts), atol=1e-4, rtol=0)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).sum() == sum(map(len, ALLOWED))


def test_tree_logits_differ_between_contexts(model):
    """So the test above can fail: the last token alone does not decide."""
    with torch.no_grad():
        found = allowed_logits(model, [(5, 6, 7), (8, 9, 7)], [(1, 2), (1, 2)])
    assert (found[0] - found[1]).abs().max() > 0.1


def test_padded_logits_equal_logits_one_at_a_time(model, monkeypatch):
    monkeypatch.setattr(prefix, "shares_prefixes", lambda model: False)
    for tokens in (4096, 12, 1):  # one batch, a few, one for each
        monkeypatch.setattr(prefix, "BATCH_TOKENS", tokens)
        with torch.no_grad():
            found = allowed_logits(model, CONTEXTS, ALLOWED, pad_token_id=3)
            torch.testing.assert_close(found, one_at_a_time(model), atol=1e-4, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("limit", [8, 1000])
@pytest.mark.parametrize(
    "contexts", [CONTEXTS, WITH_RULES], ids=["nothing shared by all", "rules shared by all"]
)
def test_gradients_of_the_tree_equal_those_of_padded_batches(
    model, monkeypatch, contexts, limit, checkpointing
):
    if checkpointing:
        model.gradient_checkpointing_enable()
    model.train()  # without dropout
    in_trees = gradients(model, allowed_logits(model, contexts, ALLOWED, tree_tokens=limit))
    monkeypatch.setattr(prefix, "shares_prefixes", lambda model: False)
    padded = gradients(model, allowed_logits(model, contexts, ALLOWED))
    plain = gradients(model, one_at_a_time(model, contexts))
    assert len(in_trees) == len(padded) == len(plain) > 10
    for tree, batch, single in zip(in_trees, padded, plain, strict=True):
        scale = single.abs().max()
        assert scale > 0
        torch.testing.assert_close(tree / scale, single / scale, atol=1e-4, rtol=0)
        torch.testing.assert_close(batch / scale, single / scale, atol=1e-4, rtol=0)


def test_equal_contexts_are_computed_once(model, monkeypatch):
    lengths = tiny.tokens_read(model, monkeypatch)
    with torch.no_grad():
        allowed_logits(model, [(1, 2, 3, 4)] * 50 + [(1, 2, 3, 5)] * 50, [(7, 8)] * 100)
    assert lengths == [5]


def test_what_all_contexts_begin_with_is_computed_once_for_all_trees(model, monkeypatch):
    lengths = tiny.tokens_read(model, monkeypatch)
    contexts = [(1, 2, 3, 4, 5, number) for number in range(10, 14)]
    with torch.no_grad():
        allowed_logits(model, contexts, [(7, 8)] * 4, tree_tokens=2)
    assert lengths == [5, 4]


# --- models that cannot share prefixes ------------------------------------------------------------

SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.3,
}  # fmt: skip


def windowed() -> torch.nn.Module:
    return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=3))


def partly_windowed() -> torch.nn.Module:
    layers = ["full_attention", "sliding_attention"]
    return Qwen2ForCausalLM(
        Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=3, layer_types=layers)
    )


def eager() -> torch.nn.Module:
    config = Qwen2Config(**SMALL)
    config._attn_implementation = "eager"
    return Qwen2ForCausalLM(config)


def absolute(implementation: str = "eager") -> torch.nn.Module:
    """Learned positions: left padding must not shift them."""
    config = GPT2Config(
        vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=32, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    config._attn_implementation = implementation
    return GPT2LMHeadModel(config)


@pytest.mark.parametrize("build", [windowed, partly_windowed, eager, absolute])
def test_models_that_cannot_share_prefixes_are_computed_in_padded_batches(build):
    torch.manual_seed(0)
    model = build().eval()
    assert not shares_prefixes(model)
    with torch.no_grad():
        found = allowed_logits(model, CONTEXTS, ALLOWED)
        torch.testing.assert_close(found, one_at_a_time(model), atol=1e-4, rtol=0)


def test_a_tree_gives_learned_positions_too():
    torch.manual_seed(0)
    model = absolute("sdpa").eval()
    assert shares_prefixes(model)
    with torch.no_grad():
        found = allowed_logits(model, CONTEXTS, ALLOWED)
        torch.testing.assert_close(found, one_at_a_time(model), atol=1e-4, rtol=0)


def test_a_window_changes_what_a_tree_would_give(monkeypatch):
    """So the test above can fail: the tree would attend to all that the window leaves out."""
    torch.manual_seed(0)
    model = windowed().eval()
    monkeypatch.setattr(prefix, "shares_prefixes", lambda model: True)
    with torch.no_grad():
        in_trees = allowed_logits(model, CONTEXTS, ALLOWED)
        there = torch.isfinite(in_trees)
        assert (in_trees - one_at_a_time(model))[there].abs().max() > 0.1


def test_a_window_that_is_switched_off_is_none():
    model = Qwen2ForCausalLM(Qwen2Config(**SMALL, sliding_window=3, use_sliding_window=False))
    assert shares_prefixes(model)


@pytest.mark.parametrize("layers", [["full_attention", "linear_attention"], ["chunked_attention"] * 2])
def test_other_kinds_of_attention_do_not_share_prefixes(layers, tiny_model, monkeypatch):
    monkeypatch.setattr(tiny_model.config, "layer_types", layers, raising=False)
    assert not shares_prefixes(tiny_model)


# --- trees ----------------------------------------------------------------------------------------

CONTEXT = st.lists(st.integers(0, 2), min_size=1, max_size=7).map(tuple)


@given(contexts=st.sets(CONTEXT, min_size=1, max_size=25).map(sorted), limit=st.integers(1, 40))
def test_every_context_is_the_path_to_its_end(contexts, limit):
    made = list(trees(contexts, limit))
    assert sum(len(tree.ends) for tree in made) == len(contexts)
    spelled = []
    for tree in made:
        assert len(tree.tokens) == len(tree.positions) == len(tree.visible)
        assert len(tree.tokens) <= limit or len(tree.ends) == 1
        # A token sees itself, and everything it sees lies before it and sees no more than it does.
        for token, seen in enumerate(tree.visible):
            assert seen[token] and not seen[token + 1 :].any()
            assert seen.sum() == tree.positions[token] + 1
            assert all((tree.visible[ancestor] <= seen).all() for ancestor in seen.nonzero()[0])
        for end in tree.ends:
            path = tree.visible[end].nonzero()[0]
            assert list(tree.positions[path]) == list(range(len(path)))
            spelled.append(tuple(tree.tokens[path].tolist()))
    assert spelled == contexts


@given(contexts=st.sets(CONTEXT, min_size=1, max_size=25).map(sorted))
def test_without_a_limit_every_shared_beginning_is_there_once(contexts):
    (tree,) = trees(contexts, 10_000)
    beginnings = {context[:length] for context in contexts for length in range(1, len(context) + 1)}
    assert len(tree.tokens) == len(beginnings)


def test_trees_are_as_few_as_the_limit_allows_and_of_about_the_same_size():
    contexts = sorted((1, 2, 3, 10 + number) for number in range(20))
    assert [len(tree.tokens) for tree in trees(contexts, 20)] == [13, 13]  # not 20 and 6
    assert [len(tree.tokens) for tree in trees(contexts, 22)] == [13, 13]
    assert [len(tree.tokens) for tree in trees(contexts, 23)] == [23]
    made = list(trees([(1,), (2,), (3,), (4, 5, 6, 7)], 5))
    assert [len(tree.tokens) for tree in made] == [3, 4]


def test_a_context_longer_than_the_limit_has_a_tree_of_its_own():
    made = list(trees([(1,), (1, 2, 3, 4, 5), (2,)], 3))
    assert [len(tree.tokens) for tree in made] == [1, 5, 1]
