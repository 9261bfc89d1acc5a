"""LoRA: which layers it lands on, and in which precision the model below it is trained."""

from __future__ import annotations

import pytest
import tiny
import torch
from messages import message
from peft import get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from sepo_kit.models.loading import LoadedModel
from sepo_kit.models.lora import LORA_TARGETS, lora, require_targets, training_dtype


def test_lora_lands_on_q_k_v_and_o_of_every_layer_and_nowhere_else(tokenizer):
    adapted = get_peft_model(tiny.model(tokenizer), lora(4, 8, 0.05))
    inside = {name.split(".lora_A")[0] for name, _ in adapted.named_parameters() if "lora_A" in name}
    expected = {
        f"base_model.model.model.layers.{layer}.self_attn.{target}"
        for layer in (0, 1)
        for target in LORA_TARGETS
    }
    assert inside == expected
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert all(".lora_" in name for name in trained) and len(trained) == 2 * len(expected)


class Parts(torch.nn.Module):
    """Modules nested by name."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        for name in names:
            place = self
            *path, last = name.split(".")
            for step in path:
                if not hasattr(place, step):
                    place.add_module(step, torch.nn.Module())
                place = getattr(place, step)
            place.add_module(last, torch.nn.Linear(4, 4))


def test_lora_leaves_the_eyes_and_ears_of_a_multimodal_model_alone():
    config = lora(2, 4, 0.0)
    config.task_type = None
    language = [
        "model.language_model.layers.0.self_attn.q_proj",
        "model.language_model.layers.0.self_attn.o_proj",
    ]
    other = [
        "model.vision_tower.encoder.layers.0.self_attn.q_proj", "model.audio_tower.layers.0.attn.k_proj",
        "visual.blocks.0.attn.v_proj", "model.language_model.layers.0.mlp.gate_proj", "lm_head",
        "model.language_model.layers.0.self_attn.q_proj_norm",
    ]  # fmt: skip
    adapted = get_peft_model(Parts(language + other), config)
    inside = {name.split(".lora_A")[0] for name, _ in adapted.named_parameters() if "lora_A" in name}
    assert inside == {f"base_model.model.{name}" for name in language}


def test_lora_lands_on_fused_projections_too(tokenizer):
    config = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Phi3ForCausalLM(Phi3Config(**config, vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=2))
    require_targets(LoadedModel("phi", model, tokenizer))
    adapted = get_peft_model(model, lora(2, 4, 0.0))
    inside = {
        name.split(".lora_A")[0].split(".")[-1] for name, _ in adapted.named_parameters() if "lora_A" in name
    }
    assert inside == {"qkv_proj", "o_proj"}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (GPT2LMHeadModel, GPT2Config(n_embd=32, n_layer=1, n_head=2)),
        (GPTNeoXForCausalLM, GPTNeoXConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)),
    ],
)
def test_a_model_that_lora_does_not_fit_is_refused(tokenizer, kind, config):
    with pytest.raises(
        ValueError, match=r"model 'mine' \(GPT.*\) has none of the layers LoRA is put on"
    ) as error:
        require_targets(LoadedModel("mine", kind(config), tokenizer))
    message(error)


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_training_is_in_bfloat16_only_where_the_cpu_is_fast_at_it(monkeypatch, fast, dtype):
    for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, probe, lambda: fast, raising=False)
    assert training_dtype(torch.device("cpu")) is dtype
