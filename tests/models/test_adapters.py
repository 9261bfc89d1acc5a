"""Adapters: several in one, exactly; what is missing or too much is an error; the README says what they belong on."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from sepo_kit.models.adapters import CONFIG, WEIGHTS, combine, describe, put_on
from sepo_kit.models.loading import load_model
from sepo_kit.models.lora import lora

IDS = torch.tensor([[5, 6, 7, 8], [9, 3, 2, 11]])


def trained(model, folder, config, seed):
    """Put an adapter on ``model``, save it, and merge it: the next is trained on that."""
    adapted = get_peft_model(model, config)
    torch.manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(folder)
    return adapted.merge_and_unload()


@pytest.fixture
def two(tiny_folder, tmp_path):
    """Adapters of different rank and scale, the second on less layers, and the logits of the model with both."""
    model = trained(load_model(tiny_folder).model, tmp_path / "one", lora(4, 8, 0.0), 0)
    config = LoraConfig(r=2, lora_alpha=7, target_modules=r".*\.(q_proj|o_proj)", task_type="CAUSAL_LM")
    model = trained(model, tmp_path / "two", config, 1)
    with torch.no_grad():
        return tmp_path / "one", tmp_path / "two", model(IDS).logits


def test_two_adapters_in_one_are_both_on_the_raw_base(two, tiny_folder, tmp_path):
    one, other, expected = two
    combined = shutil.copytree(other, tmp_path / "both")
    combine([one, other], combined)
    base = load_model(tiny_folder).model
    with torch.no_grad():
        raw = base(IDS).logits
        found = PeftModel.from_pretrained(base, str(combined)).eval()(IDS).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (expected - raw).abs().max() > 0.5
    assert json.loads((combined / CONFIG).read_text())["r"] == 6
    assert (
        load_file(combined / WEIGHTS)["base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight"].shape[
            0
        ]
        == 6
    )


def test_adapters_of_another_kind_are_not_combined(two):
    one, other, _ = two
    config = json.loads((one / CONFIG).read_text()) | {"use_rslora": True}
    (one / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"one is no plain LoRA \(use_rslora\): train anew from a model"):
        combine([one, other], other)


def test_missing_and_superfluous_tensors_are_errors(two, tiny_folder):
    one, _, _ = two
    tensors = load_file(one / WEIGHTS)
    name = min(tensors)
    rest = {k: v for k, v in tensors.items() if k != name}
    strange = tensors | {name.replace("layers.0", "layers.7"): tensors[name].clone()}
    for changed, said in (
        (rest, f"it lacks {name}$"),
        (strange, "it holds what the model has no place for: .*layers.7"),
    ):
        save_file(changed, one / WEIGHTS, {"format": "pt"})
        with pytest.raises(ValueError, match=said):
            put_on(load_model(tiny_folder).model, one)


def test_nothing_is_looked_up_to_read_one(two, tiny_folder, recwarn):
    """PEFT would ask the hub for the configuration of the base that an adapter names."""
    one, _, _ = two
    describe(one, [{"stage": "base", "model": "pico"}])
    put_on(load_model(tiny_folder).model, one)
    assert not [str(w.message) for w in recwarn if "pico" in str(w.message)]


def test_an_adapter_says_what_it_must_be_put_on(two):
    one, _, _ = two
    link = {"stage": "sft", "game": "kuhn", "seed": 3}
    describe(
        one, [{"stage": "base", "model": "owner/name", "revision": "abc"}, link, {**link, "stage": "sepo"}]
    )
    assert json.loads((one / CONFIG).read_text())["base_model_name_or_path"] == "owner/name"
    text = (one / "README.md").read_text()
    assert (
        "base model (revision abc) as it is" in text
        and "1. sft on kuhn, seed 3\n2. sepo on kuhn, seed 3" in text
    )
