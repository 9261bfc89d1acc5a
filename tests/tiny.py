"""A language model too small to know anything, built in a moment: for tests of what is done with models."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sepo_kit.games import get_game
from sepo_kit.models import pico

torch.set_num_threads(1)

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    # Far from uniform: a model that prefers nothing hides mistakes.
    "initializer_range": 0.25,
}


def tokenizer():
    """pico's recipe, learned on a few dialogues of two games."""
    return pico.learn_tokenizer(
        [text for game in ("ipd", "kuhn") for text in pico.random_dialogues(get_game(game), 12)]
    )


def model(tokenizer, seed: int = 0, vocabulary: int | None = None, **shape) -> LlamaForCausalLM:
    """Random weights, in eval mode; ``vocabulary``: words it knows, if more than the tokenizer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = LlamaForCausalLM(
            LlamaConfig(
                **{**SHAPE, **shape},
                vocab_size=vocabulary or len(tokenizer),
                max_position_embeddings=1024,
                tie_word_embeddings=True,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
    return made.eval()


def with_adapters_that_act(model):
    """``model``, its LoRA adapters no longer 0, the same every time."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def tokens_read(model: torch.nn.Module, monkeypatch) -> list[int]:
    """The tokens of every forward pass of ``model`` from now on, padding included."""
    sizes: list[int] = []
    forward = model.forward

    def counted(*args, **kwargs):
        sizes.append(kwargs["input_ids"].numel())
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", counted)
    return sizes
