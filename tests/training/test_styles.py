"""How replies in free text are scored: the choice after one that could not be read is part of what was done."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import pytest
import tiny
import torch
from toys import WordGame, WordInformation

from sepo_kit.models.language_model import LanguageModel
from sepo_kit.training.styles import Reasoned

WORDS = ("1", "10", "BET")  # the first begins the second: whether it ends there is a choice
PAYS = {"1": 1.0, "10": -0.5, "BET": 0.3}


@pytest.fixture
def asked(tokenizer):
    """A player that knows four tokens and says two at most, so that whatever it may do can be counted up."""
    model = tiny.model(tokenizer)
    known = [
        tokenizer.eos_token_id,
        *(tokenizer.encode(w, add_special_tokens=False)[0] for w in ("0", "1", "BET")),
    ]
    others = torch.ones(len(tokenizer), dtype=torch.bool)
    others[known] = False
    model.lm_head.register_forward_hook(lambda module, args, output: output.masked_fill(others, -torch.inf))
    player = LanguageModel(
        model, tokenizer, WordGame(WORDS), style="reasoned", temperature=1.5, max_new_tokens=2
    )
    return SimpleNamespace(player=player, model=model, seen=WordInformation(WORDS, 1), known=known)


def everything(asked) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """All that may happen: the action, the reply, and the tokens of the choice after a reply that is not read."""
    player, end, found = asked.player, asked.player.prompts.end_of_reply, []
    for reply in [(end,), *product([t for t in asked.known if t != end], asked.known)]:
        text = player.tokenizer.decode(reply, skip_special_tokens=True)
        action = player.game.parse(text, WORDS) if reply[-1] == end else None
        if action is not None:
            found.append((action, reply, ()))
        else:
            tree = player.prompts.reply_tree(WORDS)
            found += [(word, reply, tree.decisive(number)) for number, word in enumerate(WORDS)]
    return found


def log_probs(asked) -> torch.Tensor:
    """Of everything that may happen, as a trainer is told them; shape (N, tokens)."""
    prompt = asked.player.prompts.ids(asked.seen)
    said = [reply + choice for _, reply, choice in everything(asked)]
    width = max(map(len, said))
    ids = torch.tensor([[*prompt, *tokens] + [0] * (width - len(tokens)) for tokens in said])
    mask = torch.tensor([[1] * len(prompt + tokens) + [0] * (width - len(tokens)) for tokens in said])
    style = Reasoned(asked.player, asked.player.game, SimpleNamespace(pass_tokens=1000))
    return style.score(asked.model, ids, mask, width, None, padded=None)[0]


def payoffs(asked) -> torch.Tensor:
    return torch.tensor([PAYS[action] for action, _, _ in everything(asked)])


def value(asked) -> float:
    with torch.no_grad():
        return float((log_probs(asked).sum(1).double().exp() * payoffs(asked)).sum())


def test_all_that_may_happen_has_probability_one(asked):
    p = log_probs(asked).detach().sum(1).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-4)
    unread = torch.tensor([bool(choice) for _, _, choice in everything(asked)])
    assert 0.3 < float(p[unread].sum()) < 0.999, "the example must have replies of both kinds"


def test_it_happens_as_often_as_it_is_said_to(asked):
    """The player's own draws, against the log-probabilities that are trained on."""
    count = 400
    made = asked.player.act([asked.seen] * count, [(n + 0.5) / count for n in range(count)])
    names = [(action, reply, choice) for action, reply, choice in everything(asked)]
    p = log_probs(asked).detach().sum(1).exp()
    drawn = torch.zeros(len(names))
    for decision in made:
        assert decision.fallback == bool(decision.choice_ids)
        drawn[names.index((decision.action, decision.completion_ids, decision.choice_ids))] += 1 / count
    assert float((drawn - p).abs().sum()) < 0.2


def test_the_expected_update_is_the_gradient_of_the_payoff_where_replies_cannot_be_read(asked):
    """Payoff times grad log-probability, summed over everything, against differences of the payoff itself; without the
    choices' part it is another direction."""
    asked.player.prompts.ids(asked.seen)
    weights = list(asked.model.parameters())

    def update(scores: torch.Tensor) -> torch.Tensor:
        asked.model.zero_grad()
        weight = log_probs(asked).detach().sum(1).exp() * payoffs(asked)
        (weight * scores.sum(1)).sum().backward()
        return torch.cat([p.grad.ravel() for p in weights])

    found = update(log_probs(asked))
    direction = found / found.norm()
    sizes = [p.numel() for p in weights]

    def moved(by: float) -> float:
        steps = (by * direction).split(sizes)
        with torch.no_grad():
            for weight, step in zip(weights, steps, strict=True):
                weight += step.view_as(weight)
        there = value(asked)
        with torch.no_grad():
            for weight, step in zip(weights, steps, strict=True):
                weight -= step.view_as(weight)
        return there

    slope = (moved(1e-2) - moved(-1e-2)) / 2e-2
    assert float(found.norm()) == pytest.approx(slope, rel=0.01)
    replies = log_probs(asked)
    for row, (_, reply, _) in enumerate(everything(asked)):
        replies = replies.index_put(
            (torch.tensor([row]), torch.arange(len(reply), replies.shape[1])), torch.zeros(())
        )
    without = update(replies)
    assert float(without @ direction) < 0.9 * slope
