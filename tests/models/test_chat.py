"""Chat templates: rules go where a template has a place for them, and one that will not do is named at loading."""

from __future__ import annotations

import json
import shutil
import signal
import time

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from sepo_kit.games import get_game
from sepo_kit.games.kuhn import KuhnInformation
from sepo_kit.models import adapters, chat
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.loading import load_model
from sepo_kit.training import sft
from sepo_kit.training.demonstrations import demonstrations

NO_SYSTEM = (
    "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SHOW = NO_SYSTEM.replace(
    "{{ raise_exception('System role not supported') }}{% endif %}", "{% else %}"
).replace("<|im_end|>\n{% endfor %}", "<|im_end|>\n{% endif %}{% endfor %}")
KUHN = get_game("kuhn")
SEEN = KuhnInformation("K", ("PASS", "BET"))


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def with_template(folder, template: str):
    for file in folder.glob("chat_template*"):
        file.unlink()
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize("template", [NO_SYSTEM, NO_SHOW], ids=["raises", "does not show it"])
def test_rules_are_said_by_the_user_where_there_is_no_system(folder, template, monkeypatch):
    loaded = load_model(with_template(folder, template))
    agent = LanguageModel(loaded.model, loaded.tokenizer, KUHN)
    (message,) = agent.prompts.messages(SEEN)
    rules, said = KUHN.system_prompt("direct"), KUHN.render(SEEN)
    assert message == {"role": "user", "content": f"{rules}\n\n{said}"}
    assert rules in (prompt := loaded.tokenizer.decode(agent.prompts.ids(SEEN))) and said in prompt
    assert sum(agent.distributions([SEEN])[0]) == pytest.approx(1.0)
    # It learns where it will be asked.
    frame = demonstrations("kuhn", 20)
    monkeypatch.setattr(sft, "demonstrations", lambda game: frame)
    settings = sft.SFTSettings(
        records=4, epochs=1, learning_rate=1e-2, batch=4, accumulation=1, max_length=1024
    )
    sft._check(loaded, KUHN, settings, 0)
    for row in sft._asked(loaded, sft._rows(KUHN, settings, 0)):
        (asked,) = row["prompt"]
        assert asked["role"] == "user" and asked["content"].startswith(rules)


def test_rules_are_the_systems_where_there_is_one(tiny_folder):
    loaded = load_model(tiny_folder)
    agent = LanguageModel(loaded.model, loaded.tokenizer, KUHN)
    assert [message["role"] for message in agent.prompts.messages(SEEN)] == ["system", "user"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('no talk today') }}", "fails: no talk today"),
        ("{% for m in messages %}{{ m.content", "fails: unexpected end of template"),
        ("{{ messages[9].content }}", "fails: "),
        ("{% for m in messages %}{{ m.role }}\n{% endfor %}", "leaves out what was said: RULES7, SAID8, PASS"),
        ("{{ messages[0].content }}", "leaves out what was said: SAID8, PASS"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails: access to attribute '__class__'"),
    ],
)  # fmt: skip
def test_a_template_that_will_not_do_is_one_line_when_it_is_loaded(folder, template, said):
    with pytest.raises(OSError, match="cannot be loaded: its chat template") as error:
        load_model(with_template(folder, template))
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("named", [True, False], ids=["named", "of no name"])
def test_a_reply_ends_with_the_token_that_closes_it(folder, named):
    """Gemma's and Phi-3's is special, and is none of their tokenizer's named tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if named:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<turn|>"]})
    else:
        tokenizer.add_tokens(["<turn|>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    loaded = load_model(with_template(folder, NO_SYSTEM.replace("<|im_end|>", "<turn|>")))
    closing = tokenizer.convert_tokens_to_ids("<turn|>")
    assert loaded.tokenizer.eos_token_id == loaded.model.generation_config.eos_token_id == closing
    agent = LanguageModel(loaded.model, loaded.tokenizer, KUHN)
    assert all(reply[-1] == closing for reply in agent.prompts.reply_tree(("PASS", "BET")).replies)
    assert (
        loaded.tokenizer.decode([*loaded.tokenizer.encode("BET"), closing], skip_special_tokens=True) == "BET"
    )


def test_a_model_whose_replies_no_token_ends_is_refused(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(OSError, match="cannot be loaded: no token ends a reply") as error:
        load_model(with_template(folder, NO_SYSTEM.replace("<|im_end|>", "")))
    assert "\n" not in str(error.value)


def test_a_template_that_never_ends_is_stopped(folder, monkeypatch):
    monkeypatch.setattr(chat, "PATIENCE", 0.3)
    loop = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    began = time.monotonic()
    with pytest.raises(OSError, match="its chat template fails: it has not come to an end in"):
        load_model(with_template(folder, loop))
    assert time.monotonic() - began < 30


def test_an_expression_that_never_ends_is_stopped(tmp_path, tiny_model, monkeypatch):
    monkeypatch.setattr(adapters, "PATIENCE", 0.3)
    (tmp_path / adapters.CONFIG).write_text(json.dumps({"target_modules": r"(([a-z0-9._]+)+)+!"}))
    with pytest.raises(ValueError, match="its target_modules cannot be used: it has not come to an end"):
        adapters.put_on(tiny_model, tmp_path)
    (tmp_path / adapters.CONFIG).write_text(json.dumps({"target_modules": "("}))
    with pytest.raises(ValueError, match="its target_modules cannot be used"):
        adapters.put_on(tiny_model, tmp_path)


def test_a_block_in_time_is_not_disturbed():
    before = signal.getsignal(signal.SIGALRM)
    with chat.within(60):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0) and signal.getsignal(signal.SIGALRM) is before
    with pytest.raises(TimeoutError), chat.within(0.05):
        time.sleep(1.0)
