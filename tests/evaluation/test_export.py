"""What leaves the kit is read by others as it is, says what it is, and takes no secret along."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import sepo_kit as sk
from sepo_kit.cli import main
from sepo_kit.evaluation import push as pushing
from sepo_kit.evaluation.export import GGUF, export
from sepo_kit.evaluation.model_card import CARD
from sepo_kit.evaluation.push import push
from sepo_kit.training import sft
from sepo_kit.training.demonstrations import demonstrations

IDS = torch.tensor([[5, 6, 7, 8], [9, 3, 2, 11]])
SFT = sk.SFTSettings(records=20, epochs=1, learning_rate=1e-2, lora_r=4, lora_alpha=8)
SEPO = sk.SEPOSettings(steps=2, rollouts=2, learning_rate=1e-2, beta=0.0, lora_r=4, lora_alpha=8)


@pytest.fixture(scope="module")
def run(tiny_folder, tmp_path_factory):
    """A SEPO run on top of a warm start, in Kuhn poker."""
    folder = tmp_path_factory.mktemp("runs")
    few = demonstrations("kuhn", 200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft, "demonstrations", lambda game: few)
        sk.train_sft(tiny_folder, "kuhn", folder / "sft", SFT)
    return sk.train_sepo(folder / "sft", "kuhn", folder / "sepo", SEPO).path


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.fixture(scope="module")
def merged(run, tmp_path_factory):
    return export(run, tmp_path_factory.mktemp("out") / "agent")


def test_plain_transformers_has_the_agent(run, merged, tiny_model):
    model = AutoModelForCausalLM.from_pretrained(merged, use_safetensors=True)
    ours = sk.load_model(run)
    assert torch.equal(logits(model), logits(ours.model))
    assert (logits(model) - logits(tiny_model)).abs().max() > 1e-3
    chat = [{"role": "user", "content": "Round 1."}]
    tokenizer = AutoTokenizer.from_pretrained(merged)
    assert tokenizer.apply_chat_template(chat) == ours.tokenizer.apply_chat_template(chat)


def test_plain_peft_has_the_agent(run, merged, tiny_folder, tmp_path):
    folder = export(run, tmp_path / "lora", "adapter", episodes=0)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_folder), folder)
    torch.testing.assert_close(
        logits(model), logits(AutoModelForCausalLM.from_pretrained(merged)), atol=1e-4, rtol=1e-4
    )
    assert str(tiny_folder.parent) not in "".join(f.read_text() for f in folder.glob("*[nd]"))


def test_the_card_says_what_it_is_and_what_it_does(run, merged):
    text = (merged / CARD).read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["library_name"] == "transformers" and "base_model" not in front  # the base is no hub's
    agent = sk.language_model(sk.load_model(run), "kuhn")
    report = sk.evaluate(agent, "kuhn", exact=True)
    for name, value in (("payoff", report.terms.payoff), ("worst case", report.terms.worst_case),
                        ("guaranteed", report.guaranteed)):  # fmt: skip
        row = re.search(rf"^\| {name} \| (\S+) \|", text, re.M)
        assert float(row[1]) == pytest.approx(value, abs=6e-4)
    for link in sk.load_model(run).chain[1:]:
        assert f"| {link['stage']} | kuhn | 0 | {link['commit']} | {link['code']} |" in text
        assert link["adapter_sha256"] in text
    assert '"learning_rate": 0.01' in text and "Exact: all of the game" in text
    assert sk.get_game("kuhn").system_prompt("direct").splitlines()[0] in text
    assert "{{" not in text and "{%" not in text and "\n\n\n" not in text


def test_a_sampled_card_has_intervals(run, tmp_path, monkeypatch):
    from sepo_kit.evaluation import model_card

    def sampled(agent, game, episodes, seed):
        return sk.evaluate(agent, game, episodes, seed, worst_case="none")

    monkeypatch.setattr(model_card, "measured", sampled)
    text = (export(run, tmp_path / "a", "adapter", episodes=2) / CARD).read_text()
    assert "Sampled: 2 episodes against each opponent" in text and "it is not known here" in text
    low, value, high = (
        sk.evaluate(sk.language_model(sk.load_model(run), "kuhn"), "kuhn", 2, 10_000).estimates["payoff"].low,
        *re.search(r"\| payoff \| (\S+) \| \S+ to (\S+) \|", text).groups(),
    )
    assert low <= float(value) <= float(high)


def test_a_base_model_is_exported_for_the_adapters_that_belong_on_it(tiny_folder, tiny_model, tmp_path):
    folder = export(tiny_folder, tmp_path / "base")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(tiny_model))
    assert "Nothing was trained" in (folder / CARD).read_text()


CONVERTER = """
import json, pathlib, sys
model, _, out, _, kind = sys.argv[1:]
shape = json.loads((pathlib.Path(model) / "config.json").read_text())
if FAILS:
    sys.exit("ERROR: unknown pre-tokenizer")
pathlib.Path(out).write_text(f"GGUF {kind} {shape['hidden_size']}")
"""


def test_gguf_is_made_by_the_converter_of_llama_cpp(run, tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text(CONVERTER.replace("FAILS", "False"))
    folder = export(run, tmp_path / "gguf", "gguf", episodes=0)
    assert sorted(file.name for file in folder.iterdir()) == [CARD, GGUF]
    assert (folder / GGUF).read_text() == "GGUF f32 32"
    script.write_text(CONVERTER.replace("FAILS", "True"))
    with pytest.raises(OSError, match=r"cannot convert .*: ERROR: unknown pre-tokenizer; export it merged"):
        export(run, tmp_path / "other", "gguf", episodes=0)
    assert not (tmp_path / "other").exists()


def test_without_a_converter_one_line_says_how_to_get_it(run, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["export", str(run), str(tmp_path / "out"), "--gguf"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs llama.cpp's converter, convert_hf_to_gguf.py" in line and "set LLAMA_CPP" in line
    assert not (tmp_path / "out").exists()


def test_mistakes_are_refused_before_anything_is_written(run, merged, tiny_folder, tmp_path):
    with pytest.raises(ValueError, match="holds something already; name a new folder"):
        export(run, merged)
    with pytest.raises(ValueError, match="is no run and has no adapter"):
        export(tiny_folder, tmp_path / "out", "adapter")
    with pytest.raises(ValueError, match="form must be one of merged, adapter, gguf, got 'onnx'"):
        export(run, tmp_path / "out", "onnx")
    with pytest.raises(ValueError, match="unknown model"):
        export(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- to a hub -------------------------------------------------------------------------------------


class Hub:
    """Takes what it is given, or refuses it with the token in what it says."""

    refuses = False

    def __init__(self, token):
        self.token, Hub.got = token, []

    def create_repo(self, hub_id, **how):
        Hub.got.append((hub_id, how))

    def upload_folder(self, **how):
        if Hub.refuses:
            raise RuntimeError(f"403 Forbidden for {self.token}\nmore")
        Hub.got.append(how["allow_patterns"])


def test_a_dry_run_lists_the_files_and_asks_nobody(merged, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(pushing, "HfApi", None)
    (merged / ".cache").write_text("mine")
    assert main(["push", str(merged), "me/agent", "--dry-run"]) == 0
    listed = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert set(listed) == {f.name for f in merged.iterdir()} - {".cache"}
    assert {CARD, "model.safetensors", "config.json"} <= set(listed)


def test_the_token_comes_from_the_environment_and_is_told_to_nobody(merged, monkeypatch):
    monkeypatch.setattr(pushing, "HfApi", Hub)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ValueError, match="HF_TOKEN is not set"):
        push(merged, "me/agent")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    files = push(merged, "me/agent")
    assert Hub.got == [("me/agent", {"private": True, "exist_ok": True}), [str(f) for f in files]]
    monkeypatch.setattr(Hub, "refuses", True)
    with pytest.raises(OSError, match=r"was not pushed to me/agent: 403 Forbidden for \*\*\*; push again"):
        push(merged, "me/agent")


@pytest.mark.parametrize("hub_id", ["agent", "me/my agent", "me/agent/v1", "", "/agent"])
def test_what_is_no_hub_id_is_refused(merged, hub_id):
    with pytest.raises(ValueError, match="a hub id is 'owner/name'"):
        push(merged, hub_id, dry_run=True)


def test_only_exports_are_pushed(run, merged, tmp_path):
    with pytest.raises(ValueError, match="is a run folder; write what is to travel with sepo-kit export"):
        push(run, "me/agent", dry_run=True)
    bare = shutil.copytree(merged, tmp_path / "bare")
    (bare / CARD).unlink()
    with pytest.raises(ValueError, match=r"is no export: it needs a README\.md and weights"):
        push(bare, "me/agent", dry_run=True)
