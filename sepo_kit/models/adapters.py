"""The adapters of a run: one that fits the raw base model, checked when it is read, with a README that says so.

A run that begins where another ended trains its LoRA on top of the other's. What it keeps is both in one: matrices laid
side by side are a LoRA of higher rank, whose product is exactly the sum. So the folder of every run stands for itself,
and whoever puts its adapter on the base model, with PEFT or a server, gets the agent that was trained.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sepo_kit.models.chat import PATIENCE, within
from sepo_kit.runs import ADAPTER, WEIGHTS, read_json

CONFIG = "adapter_config.json"
# What our own adapters never have, and what would change the meaning of A and B laid side by side.
PLAIN = {"bias": "none", "use_dora": False, "use_rslora": False, "fan_in_fan_out": False}


def put_on(model: torch.nn.Module, folder: Path) -> PeftModel:
    """``model`` with the adapter in ``folder``; ValueError where tensors of it are missing or have no place."""
    _require_quick_targets(model, folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)  # an error, below
        adapted = PeftModel.from_pretrained(model, str(folder))
    with safe_open(folder / WEIGHTS, "pt") as file:
        found = set(file.keys())
    # Embeddings are no part of our adapters, and whether they are is otherwise looked up on the hub.
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    for names, what in (
        (wanted - found, "lacks"),
        (found - wanted, "holds what the model has no place for:"),
    ):
        if names:
            raise ValueError(
                f"it {what} {min(names)}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            )
    return adapted


def _require_quick_targets(model: torch.nn.Module, folder: Path) -> None:
    """ValueError where the regular expression that says what an adapter belongs on takes for ever on some name."""
    targets = read_json(folder / CONFIG, dict).get("target_modules")
    if not isinstance(targets, str):
        return
    try:
        with within(PATIENCE):
            for name, _ in model.named_modules():
                re.fullmatch(targets, name)
    except (re.error, TimeoutError) as error:
        raise ValueError(f"its target_modules cannot be used: {error}") from None


def combine(folders: Sequence[Path], target: Path) -> None:
    """Write into ``target`` the one adapter that does what those in ``folders`` do on top of each other.

    Of B1 A1 s1 + B2 A2 s2 (s = alpha / r) the new A is (A1; A2), r x in, and the new B is (B1 s1, B2 s2), out x r.
    Where one has no matrices for a layer, zeros stand in their place. The configuration is that of the last.

    Raises
    ------
    ValueError
        An adapter is no plain LoRA.
    """
    parts = [(load_file(folder / WEIGHTS), json.loads((folder / CONFIG).read_text())) for folder in folders]
    for folder, (_, config) in zip(folders, parts, strict=True):
        odd = [name for name, usual in PLAIN.items() if config.get(name, usual) != usual]
        odd += [name for name in ("rank_pattern", "alpha_pattern", "modules_to_save") if config.get(name)]
        if odd or config.get("peft_type") != "LORA":
            raise ValueError(
                f"the adapter in {folder} is no plain LoRA ({', '.join(odd)}): train anew from a model"
            )
    ranks = [config["r"] for _, config in parts]
    layers = sorted({name.rsplit(".lora_", 1)[0] for tensors, _ in parts for name in tensors})
    combined = {}
    for layer in layers:
        name_a, name_b = f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"
        like_a = next(tensors[name_a] for tensors, _ in parts if name_a in tensors)
        like_b = next(tensors[name_b] for tensors, _ in parts if name_b in tensors)
        many_a, many_b = [], []
        for (tensors, config), rank in zip(parts, ranks, strict=True):
            a = tensors.get(name_a, torch.zeros(rank, like_a.shape[1]))
            b = tensors.get(name_b, torch.zeros(like_b.shape[0], rank))
            many_a.append(a.float())
            many_b.append(b.float() * (config["lora_alpha"] / rank))
        combined[name_a] = torch.cat(many_a, 0).contiguous()  # (r, in)
        combined[name_b] = torch.cat(many_b, 1).contiguous()  # (out, r)
    config = {**parts[-1][1], "r": sum(ranks), "lora_alpha": sum(ranks)}
    if any(other["target_modules"] != config["target_modules"] for _, other in parts):
        config["target_modules"] = [layer.removeprefix("base_model.model.") for layer in layers]
    save_file(combined, target / WEIGHTS, {"format": "pt"})
    (target / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def describe(folder: Path, chain: Sequence[dict[str, Any]]) -> None:
    """Name the base model in the adapter's configuration and say in its README what it must be put on."""
    base = chain[0]["model"]
    config = json.loads((folder / CONFIG).read_text())
    config["base_model_name_or_path"] = base
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    lines = [
        f"{n}. {link['stage']} on {link['game']}, seed {link['seed']}" for n, link in enumerate(chain[1:], 1)
    ]
    known = {name: chain[0][name] for name in ("sha256", "revision") if chain[0].get(name)}
    which = "".join(f" ({name} {value})" for name, value in known.items())
    (folder / "README.md").write_text(
        f"""# A LoRA adapter for {base}

It belongs on the base model{which} as it is, with nothing merged into it. In it are, in this order:

{chr(10).join(lines)}

With sepo_kit the folder above this one is a model: `sk.load_model("RUN")`. With PEFT:

```python
import sepo_kit as sk
from peft import PeftModel
model = PeftModel.from_pretrained(sk.load_model({base!r}).model, "RUN/{ADAPTER}")
```

Where other software wants the base as a folder: `sk.load_model({base!r}).save("FOLDER")` writes it.
"""
    )
