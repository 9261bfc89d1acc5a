"""Tiny models of the paper's families and a mixture of experts, with random weights: those with eyes as the hub's
checkpoints hold them, the language model inside its multimodal wrapper; and their chat templates."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import trl
from transformers import (
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "initializer_range": 0.1,
}
# The checkpoints' own templates come with TRL.
TEMPLATES = {"gemma4": "gemma4_v5.jinja", "qwen3_5": "qwen3_5_think.jinja", "qwen3_moe": "qwen3.jinja"}
THOUGHT = ["<think>", "</think>"]
WORDS = {"gemma4": ["<|turn>", "<turn|>", "<|think|>"], "qwen3_5": THOUGHT, "qwen3_moe": THOUGHT}


def tokenizer_of(family: str, tokenizer):
    """``tokenizer`` with the template and the special words of the family."""
    own = copy.deepcopy(tokenizer)
    own.add_tokens(WORDS[family], special_tokens=True)  # by no name, as Gemma's
    own.chat_template = (Path(trl.__file__).parent / "chat_templates" / TEMPLATES[family]).read_text()
    return own


def _tokens(tokenizer) -> dict:
    """What a configuration says about the vocabulary; the last ids stand for pictures and sounds."""
    size = len(tokenizer)
    return {
        "text": {"vocab_size": size + 8, "pad_token_id": tokenizer.pad_token_id,
                 "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None},
        "other": range(size, size + 8),
    }  # fmt: skip


def gemma4(tokenizer) -> Gemma4ForConditionalGeneration:
    """Sliding windows, layers that share keys and values, per-layer inputs, eyes and ears."""
    tokens = _tokens(tokenizer)
    image, audio, video, boi, eoi, boa, *_ = tokens["other"]
    return Gemma4ForConditionalGeneration(
        Gemma4Config(
            text_config={
                **SHAPE, **tokens["text"], "vocab_size_per_layer_input": tokens["text"]["vocab_size"],
                "global_head_dim": 32, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2,
                "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"] * 2,
                "final_logit_softcapping": 30.0,
            },
            vision_config={
                "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                "num_key_value_heads": 2, "head_dim": 8, "patch_size": 4, "position_embedding_size": 16,
            },
            audio_config={
                "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                "subsampling_conv_channels": [4, 4], "output_proj_dims": 16,
            },
            image_token_id=image, audio_token_id=audio, video_token_id=video, boi_token_id=boi, eoi_token_id=eoi,
            boa_token_id=boa,
        )
    )  # fmt: skip


def qwen3_5(tokenizer) -> Qwen3_5ForConditionalGeneration:
    """Three layers of linear attention, one of full attention, eyes."""
    tokens = _tokens(tokenizer)
    image, video, start, end, *_ = tokens["other"]
    return Qwen3_5ForConditionalGeneration(
        Qwen3_5Config(
            text_config={
                **SHAPE, **tokens["text"], "linear_num_key_heads": 2, "linear_num_value_heads": 2,
                "linear_key_head_dim": 8, "linear_value_head_dim": 8,
            },
            vision_config={
                "depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "patch_size": 4,
                "out_hidden_size": 32, "num_position_embeddings": 16,
            },
            image_token_id=image, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
        )
    )  # fmt: skip


def qwen3_moe(tokenizer) -> Qwen3MoeForCausalLM:
    """Every token read by two of four experts, of a checkpoint that asks for what its routers say."""
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            **SHAPE, **_tokens(tokenizer)["text"], num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
            output_router_logits=True,
        )
    )  # fmt: skip


FAMILIES = {"gemma4": gemma4, "qwen3_5": qwen3_5, "qwen3_moe": qwen3_moe}


def save(family: str, tokenizer, folder: Path) -> Path:
    """The model and its tokenizer as a folder that ``load_model`` reads."""
    own = tokenizer_of(family, tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FAMILIES[family](own)
    model.save_pretrained(folder)
    own.save_pretrained(folder)
    return folder
