"""How many tokens go through a model at once."""

from __future__ import annotations

import pytest
import tiny
import torch
from peft import get_peft_model

from sepo_kit.models.lora import lora
from sepo_kit.training import memory

TOKENS = 400


def held_of(model, tokens: int) -> int:
    """Bytes that the backward pass of ``tokens`` keeps, without the weights."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model.get_base_model().model(input_ids=torch.arange(tokens)[None] % 50, use_cache=False)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    assert hidden.last_hidden_state.requires_grad
    return sum(size for place, size in kept.items() if place not in weights)


# With checkpointing the forward pass alone is measured, in which nothing is held of the layer that is computed again.
@pytest.mark.parametrize(("checkpointing", "least"), [(False, 0.5), (True, 0.1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("hidden", "inner", "layers"), [(64, 256, 6), (192, 512, 4)])
def test_a_pass_holds_at_most_what_was_counted(
    tokenizer, monkeypatch, hidden, inner, layers, dtype, checkpointing, least
):
    base = tiny.model(tokenizer, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers)
    model = get_peft_model(base.to(dtype), lora(16, 32, 0.0)).train()
    if checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    monkeypatch.setattr(memory, "HELD", held_of(model, TOKENS))
    assert least * TOKENS < memory.tokens_at_once(model) <= TOKENS


def test_a_model_too_large_for_any_reads_one_token_at_a_time(tokenizer, monkeypatch):
    monkeypatch.setattr(memory, "HELD", 1)
    assert memory.tokens_at_once(tiny.model(tokenizer)) == 1
