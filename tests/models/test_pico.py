"""pico: built in the run, on the kit's own words and random legal play, and the same every time."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from sepo_kit import exact
from sepo_kit.engine.policy import first_information
from sepo_kit.games import GAMES, PAPER_GAMES, get_game
from sepo_kit.games.base import REPLY_STYLES
from sepo_kit.models import pico
from sepo_kit.models.language_model import LanguageModel


@pytest.fixture(scope="module")
def dialogues():
    return {game_id: pico.random_dialogues(game, 16) for game_id, game in GAMES.items()}


@pytest.fixture(scope="module")
def built():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pico, "EPISODES_PER_GAME", 8)
        patch.setitem(pico.SPELLING, "steps", 2)
        return pico.build_pico(3)


def test_dialogues_are_legal_play_in_both_styles(dialogues):
    for game_id, texts in dialogues.items():
        game = get_game(game_id)
        styles = set()
        for text in texts:
            system, user, assistant, rest = text.split(f"{pico.END}\n")
            assert rest == "" and assistant.startswith(f"{pico.START}assistant\n")
            style = next(s for s in REPLY_STYLES if system == f"{pico.START}system\n{game.system_prompt(s)}")
            styles.add(style)
            reply = assistant.removeprefix(f"{pico.START}assistant\n")
            assert game.parse(reply, game.spec.actions) is not None
            assert (reply in game.spec.actions) == (style == "direct")
            assert user.startswith(f"{pico.START}user\n")
        assert styles == set(REPLY_STYLES)


def test_random_play_prefers_nothing(dialogues):
    """So that what SFT and SEPO show is theirs."""
    texts = pico.random_dialogues(get_game("ipd"), 400)
    share = sum(text.endswith(f"COOPERATE{pico.END}\n") for text in texts) / len(texts)
    assert abs(share - 0.5) < 4.5 * 0.5 / len(texts) ** 0.5


def test_the_tokenizer_speaks_the_prompts_and_any_other_text(dialogues):
    tokenizer = pico.learn_tokenizer([text for texts in dialogues.values() for text in texts])
    assert len(tokenizer) <= pico.VOCABULARY
    for text in (dialogues["kuhn"][0], "Zürich 東京 \t\n 🂡"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(pico.END) == [tokenizer.eos_token_id]
    assert (
        len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(pico.START)})
        == 3
    )


def test_the_chat_template_gives_the_text_of_the_dialogues(dialogues, built):
    """Pre-training writes its dialogues by hand; play uses the template."""
    _, tokenizer = built
    for text in (dialogues["ipd"][0], dialogues["kuhn"][1]):
        turns = [part.split("\n", 1) for part in text.replace(f"{pico.END}\n", "").split(pico.START)[1:]]
        messages = [{"role": role, "content": content} for role, content in turns]
        assert tokenizer.apply_chat_template(messages, tokenize=False) == text
        asked = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        assert text.startswith(asked) and asked.endswith(f"{pico.START}assistant\n")


def test_building_is_deterministic_and_leaves_the_random_state_alone(built, monkeypatch):
    monkeypatch.setattr(pico, "EPISODES_PER_GAME", 8)
    monkeypatch.setitem(pico.SPELLING, "steps", 2)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    model, tokenizer = pico.build_pico(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert tokenizer.get_vocab() == built[1].get_vocab()
    for one, other in zip(model.parameters(), built[0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_pico_has_about_a_million_parameters_and_plays_every_game(built):
    model, tokenizer = built
    assert 0.9e6 < sum(p.numel() for p in model.parameters()) < 1.5e6
    assert not model.training
    for game in GAMES.values():
        seen = first_information(game)
        (p,) = LanguageModel(model, tokenizer, game).distributions([seen])
        assert len(p) == len(seen.legal_actions) and p.sum() == pytest.approx(1)


def test_pretraining_learns_the_words(tokenizer, tiny_model):
    """From the surprise of a random model towards that of the few words there are."""
    model = copy.deepcopy(tiny_model)
    texts = pico.random_dialogues(get_game("kuhn"), 8)
    first = pico.pretrain(copy.deepcopy(model), tokenizer, texts, 1)
    assert pico.pretrain(model, tokenizer, texts, 60) < 0.5 * first
    assert not model.training


# --- words of other games -------------------------------------------------------------------------


def test_what_is_cut_is_the_same_text(built):
    _, tokenizer = built
    pieces, rng = pico.Pieces(tokenizer), np.random.default_rng(0)
    tokens = tokenizer.encode(pico.random_dialogues(get_game("kuhn"), 1)[0])
    cuts = [pieces.cut(tokens, rng) for _ in range(20)]
    assert all(tokenizer.decode(cut) == tokenizer.decode(tokens) for cut in cuts)
    assert len({len(cut) for cut in cuts}) > 10 and max(map(len, cuts)) > 2 * len(tokens)


def test_spelling_is_learned_beside_what_was_known(monkeypatch):
    """A text in letters is less of a surprise afterwards, and what pico plays in the paper's games is what it was."""
    monkeypatch.setattr(pico, "EPISODES_PER_GAME", 8)
    monkeypatch.setitem(pico.SPELLING, "steps", 0)
    before, tokenizer = pico.build_pico(20)
    texts = [text for name in PAPER_GAMES for text in pico.random_dialogues(GAMES[name], 8)]
    after = copy.deepcopy(before)
    monkeypatch.setitem(pico.SPELLING, "steps", 20)
    pico.learn_to_spell(after, tokenizer, texts)
    assert all(p.requires_grad for p in after.parameters()) and not after.training

    letters = [pico.Pieces(tokenizer).letters(token) for token in tokenizer.encode(texts[0])[5:40]]
    row = torch.tensor([[letter for token in letters for letter in token]])
    surprise = [float(model(row, labels=row).loss.detach()) for model in (before, after)]
    assert surprise[1] < surprise[0] - 1

    game = get_game("kuhn")
    seen = exact.information_states(game)
    played = [LanguageModel(model, tokenizer, game).distributions(seen) for model in (before, after)]
    assert all(np.array_equal(one, other) for one, other in zip(*played, strict=True))
