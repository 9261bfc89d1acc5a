"""Loading models: what comes out, and one clear line for everything that can be wrong with the files."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from messages import message
from peft import get_peft_model
from safetensors.torch import load_file, save_file

from sepo_kit.evaluation.archive import find_runs
from sepo_kit.games import get_game
from sepo_kit.models import loading
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.loading import adapters_of, chain_of, language_model, load_model
from sepo_kit.models.lora import lora
from sepo_kit.runs import Run, RunError, file_hash
from sepo_kit.runs.trace import trace


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


def test_a_model_is_saved_into_a_new_folder_only(tiny_folder, folder, tmp_path):
    """What a folder holds, another model, a run or somebody's notes, is theirs."""
    loaded = load_model(tiny_folder)
    (folder / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for place in (folder, folder / "notes.txt"):
        with pytest.raises(ValueError, match="holds something already; name a new folder"):
            loaded.save(place)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "new" / "one"):
        loaded.save(place)
        assert load_model(place).model.num_parameters() == loaded.model.num_parameters()


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
    monkeypatch.setattr(loading, "_load_pretrained", lambda *_: pytest.fail("the libraries try for a minute"))
    connect, patience = socket.create_connection, []

    def connecting(address, timeout):
        patience.append(timeout)
        return connect(address, timeout)

    monkeypatch.setattr(socket, "create_connection", connecting)
    with pytest.raises(
        OSError, match=r"'nobody/nothing' is no folder .* http://127.0.0.1:9 cannot be"
    ) as error:
        load_model("nobody/nothing")
    assert patience == [5]
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
    run = Run(tmp_path / "run", {"stage": "sft", "base": str(tiny_folder)}, writes=True)
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
    second = Run(tmp_path / "second", {"stage": "sepo", "base": str(path)}, writes=True)
    shutil.copytree(path / "adapter", second.path / "adapter")
    second.finish()
    weight = "model.layers.1.self_attn.v_proj.weight"
    base, once, twice = (load_model(x).model.state_dict()[weight] for x in (tiny_folder, path, second.path))
    torch.testing.assert_close(twice - once, once - base, atol=1e-5, rtol=1e-4)
    assert (once - base).abs().max() > 0.01


def test_a_run_that_has_not_finished(tiny_folder, tmp_path):
    Run(tmp_path, {"stage": "sft", "base": str(tiny_folder)}, writes=True).release()
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


def test_an_adapter_for_which_there_is_no_memory_is_not_called_broken(trained, monkeypatch):
    def full(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    monkeypatch.setattr("sepo_kit.models.loading.put_on", full)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load_model(trained[0])


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_missing_part_of_an_adapter(trained, name):
    path, _ = trained
    (path / "adapter" / name).unlink()
    with pytest.raises(RunError, match=r"the adapter in .* cannot be read") as error:
        load_model(path)
    message(error)


def test_a_run_that_is_no_model(tmp_path, trained):
    run = Run(tmp_path / "evaluation", {"stage": "evaluation"}, writes=True)
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
    second = Run(tmp_path / "second", {"stage": "sepo", "base": str(path)}, writes=True)
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
