"""What is trained of a model: LoRA, on which layers, and in which precision the model below it is."""

from __future__ import annotations

import re

import torch
from peft import LoraConfig

from sepo_kit.models.loading import LoadedModel

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
FUSED_TARGETS = ("qkv_proj",)  # q, k and v in one matrix: Phi-3
TARGETS = rf"(?!.*(vision|audio|visual)).*\.({'|'.join(LORA_TARGETS + FUSED_TARGETS)})"


def lora(r: int, alpha: int, dropout: float) -> LoraConfig:
    """LoRA on q, k, v and o of the language model only, or on qkv and o where the three are one matrix.

    Layers of linear attention (three of four in Qwen3.5) have projections of other names and get none, and layers
    that take keys and values from another (Gemma 4's later ones) have q and o only.
    """
    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=TARGETS,
        task_type="CAUSAL_LM",
    )


def require_targets(loaded: LoadedModel) -> None:
    """ValueError where the attention of a model has other names than ``lora`` knows."""
    found = {n.rsplit(".", 1)[-1] for n, _ in loaded.model.named_modules() if re.fullmatch(TARGETS, n)}
    if not found & {"q_proj", *FUSED_TARGETS}:
        raise ValueError(
            f"model {loaded.name!r} ({type(loaded.model).__name__}) has none of the layers LoRA is put on "
            f"({', '.join(LORA_TARGETS + FUSED_TARGETS)}); use a model of another family"
        )


def training_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it fast, else float32. Adapters are float32 either way."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    fast = any(
        getattr(torch.cpu, probe, lambda: False)()
        for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return torch.bfloat16 if fast else torch.float32
