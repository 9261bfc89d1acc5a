"""The paper's model families and a mixture of experts, tiny and with random weights, through every stage as the hub's
checkpoints would go."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import families
import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers.models.gemma4 import modeling_gemma4

from sepo_kit.games import get_game
from sepo_kit.games.kuhn import KuhnInformation
from sepo_kit.models.dropout import evaluating
from sepo_kit.models.loading import language_model, load_model
from sepo_kit.runs import METRICS, Run, read_lines
from sepo_kit.training import grpo, sft
from sepo_kit.training.demonstrations import demonstrations
from sepo_kit.training.settings import SEPOSettings, SFTSettings

SFT = SFTSettings(
    records=4, epochs=1, learning_rate=1e-2, batch=4, accumulation=1, lora_r=2, lora_alpha=4, max_length=1024
)
SEPO = {"steps": 1, "rollouts": 2, "learning_rate": 1e-2, "beta": 0.1, "lora_r": 2, "lora_alpha": 4}
STYLES = {
    "direct": SEPOSettings(**SEPO, temperature=3.0),
    "reasoned": SEPOSettings(**SEPO, temperature=3.0, style="reasoned", max_new_tokens=2, micro_rows=60),
}
SEEN = [KuhnInformation("K", ("BET",)), KuhnInformation("J", ()), KuhnInformation("Q", ("PASS", "BET"))]
# Gemma's second half of layers takes keys and values from the first; three of Qwen 3.5's four are linear attention.
ADAPTED = {
    "gemma4": {f"model.language_model.layers.{n}.self_attn.{p}_proj" for n in range(4) for p in "qkvo"
               if n < 2 or p in "qo"},
    "qwen3_5": {f"model.layers.3.self_attn.{p}_proj" for p in "qkvo"},
    "qwen3_moe": {f"model.layers.{n}.self_attn.{p}_proj" for n in range(4) for p in "qkvo"},
}  # fmt: skip


@pytest.fixture(scope="module", params=families.FAMILIES)
def family(request, tmp_path_factory, tokenizer):
    """One family: its saved model, and the runs of SFT and of SEPO in both styles on it. No eye or ear is used."""
    folder = tmp_path_factory.mktemp(request.param)
    base = families.save(request.param, tokenizer, folder / "base")
    frame = demonstrations("kuhn", 60)

    def used(*_, **__):
        pytest.fail("a picture or a sound was looked for")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft, "demonstrations", lambda game: frame)
        patch.setattr(modeling_gemma4.Gemma4VisionModel, "forward", used)
        patch.setattr(modeling_gemma4.Gemma4AudioModel, "forward", used)
        warm = sft.train_sft(base, "kuhn", folder / "sft", SFT)
        runs = {
            style: grpo.train_sepo(warm.path, "kuhn", folder / style, settings)
            for style, settings in STYLES.items()
        }
    return SimpleNamespace(name=request.param, base=base, sft=warm, **runs)


@pytest.fixture(scope="module")
def loaded(family):
    return load_model(family.base)


def test_a_checkpoint_with_eyes_loads_as_a_model_of_language(family, loaded):
    """Gemma comes with its towers, Qwen without; the words of both are spelled by one token each."""
    names = safe_open(family.base / "model.safetensors", "pt").keys()
    eyes = any("visual" in name or "vision_tower" in name for name in names)
    assert eyes is (family.name != "qwen3_moe")
    assert type(loaded.model).__name__ == {
        "gemma4": "Gemma4ForConditionalGeneration", "qwen3_5": "Qwen3_5ForCausalLM",
        "qwen3_moe": "Qwen3MoeForCausalLM",
    }[family.name]  # fmt: skip


@pytest.mark.parametrize("stage", ["sft", "direct", "reasoned"])
def test_adapters_are_on_the_attention_of_the_language_model_only(family, stage):
    run = getattr(family, stage)
    (row,) = read_lines(run.path / METRICS)
    assert row["grad_norm"] > 0
    names = safe_open(run.path / "adapter" / "adapter_model.safetensors", "pt").keys()
    assert {n.removeprefix("base_model.model.").split(".lora_")[0] for n in names} == ADAPTED[family.name]


def test_adapters_merge_and_come_back(family):
    warm, merged = load_model(family.sft.path), load_model(family.direct.path)
    before = language_model(warm, "kuhn", temperature=3.0).distributions(SEEN)
    raw = load_model(family.base)  # what the adapter belongs on, the warm start's part being in it
    agent = language_model(raw, "kuhn", temperature=3.0)
    agent.model = PeftModel.from_pretrained(raw.model, str(family.direct.path / "adapter"))
    expected = agent.distributions(SEEN)
    np.testing.assert_allclose(language_model(merged, "kuhn").distributions(SEEN), expected, atol=1e-4)
    assert np.abs(np.subtract(before, expected)).max() > 1e-4


def test_it_does_not_think_before_it_replies(family, loaded):
    agent = language_model(loaded, "kuhn")
    thought = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    opening = {"gemma4": "<|turn>model\n", "qwen3_5": thought, "qwen3_moe": thought}
    text = loaded.tokenizer.decode(agent.prompts.ids(SEEN[0]))
    assert text.endswith(opening[family.name]) and "<|think|>" not in text


def test_it_learns_what_to_say_where_it_will_be_asked(family, loaded, tmp_path, monkeypatch):
    """The demonstrations' contexts are, token by token, prompts of play; what closes them closes a reply."""
    frame = demonstrations("kuhn", 60)
    monkeypatch.setattr(sft, "demonstrations", lambda game: frame)
    agent = language_model(loaded, "kuhn")
    game = get_game("kuhn")
    prompts = {
        agent.prompts.ids(KuhnInformation(card, history))
        for card in "JQK"
        for history in ((), ("PASS",), ("BET",), ("PASS", "BET"))
    }
    trainer = sft._trainer(load_model(family.base), game, Run(tmp_path / "run", {}, writes=True), SFT, seed=0)
    batch = next(iter(trainer.get_train_dataloader()))
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        (learned,) = (labels != -100).nonzero(as_tuple=True)
        assert tuple(ids[: learned[0]].tolist()) in prompts
        reply = labels[learned].tolist()
        closed = reply.index(agent.prompts.end_of_reply)
        assert loaded.tokenizer.decode(reply[:closed]) in game.spec.actions
        assert loaded.tokenizer.decode(reply[closed + 1 :]).strip() == ""


def test_a_batch_says_what_its_rows_say_alone(family, loaded):
    """Sliding windows and linear attention both mind the padding."""
    agent = language_model(loaded, "kuhn", temperature=3.0)
    together = agent.distributions(SEEN)
    alone = [agent.distributions([seen])[0] for seen in SEEN]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_what_is_trained_is_the_log_probability_of_the_reply(family, tmp_path, monkeypatch):
    """Scored without the logits: soft caps, windows, shared keys and recurrent states come out the same."""
    monkeypatch.setattr(grpo, "training_dtype", lambda device: torch.float32)
    settings = replace(STYLES["reasoned"], max_new_tokens=3)
    trainer = grpo.sepo_trainer(
        load_model(family.base), get_game("kuhn"), Run(tmp_path / "run", {}, writes=True), settings, seed=0
    )
    prompts = [list(trainer.rollouts.player.prompts.ids(seen)) for seen in SEEN]
    end = trainer.rollouts.player.prompts.end_of_reply
    reply = [token for token in (5, 9, 7, 11) if token != end][:3]  # what follows an end is no reply
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p + reply for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * (len(p) + len(reply)) for p in prompts])
    with evaluating(trainer.model), torch.no_grad():
        found, entropies, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, 3, None, True
        )
        for row, prompt in enumerate(prompts):
            logits = trainer.model(input_ids=torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]
            log_p = torch.log_softmax(logits / STYLES["reasoned"].temperature, -1)
            torch.testing.assert_close(found[row], log_p[range(3), reply], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(
                entropies[row], torch.special.entr(log_p.exp()).sum(-1), atol=1e-4, rtol=1e-4
            )
