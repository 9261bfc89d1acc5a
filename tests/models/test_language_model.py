"""A language model at the table: exact distributions of direct replies, and how reasoned ones are read."""

from __future__ import annotations

import copy
from math import exp, log

import numpy as np
import pytest
import tiny
import torch
from toys import WordGame, WordInformation

from sepo_kit.adversaries.play import play
from sepo_kit.engine.graph import shared_graph
from sepo_kit.engine.policy import NoDistribution, scripted
from sepo_kit.engine.reworded import reworded
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.engine.simulate import simulate, simulate_all
from sepo_kit.evaluation.cross_play import cross_play
from sepo_kit.evaluation.evaluate import evaluate
from sepo_kit.games import get_game
from sepo_kit.games.ipd import DilemmaInformation
from sepo_kit.games.kuhn import KuhnInformation
from sepo_kit.models import language_model
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.prefix import allowed_logits

WORD_SETS = {
    "single tokens": ("COOPERATE", "DEFECT"),
    "many tokens that begin alike": ("A=1 B=1", "A=1 B=2", "A=2 B=1", "A=2 B=2"),
    "one begins another": ("1", "10", "100", "2"),
    "of all lengths": ("PASS", "B", "raise to 1000", "raise to 2000", "fold"),
    "no choice": ("GO",),
}


def player(model, tokenizer, words=("COOPERATE", "DEFECT"), **more) -> LanguageModel:
    game = WordGame(words) if isinstance(words, tuple) else words
    return LanguageModel(model, tokenizer, game, **{"temperature": 0.8, **more})


def by_hand(agent: LanguageModel, seen, after=()) -> np.ndarray:
    """Constrained decode token by token: at each position the model's probabilities at temperature, restricted to
    the tokens that can still become a legal reply; every legal reply scored on its own."""
    replies = [
        (*agent.tokenizer.encode(word, add_special_tokens=False), agent.tokenizer.eos_token_id)
        for word in seen.legal_actions
    ]
    probabilities = []
    for reply in replies:
        product = 1.0
        for length, token in enumerate(reply):
            can_follow = sorted({r[length] for r in replies if r[:length] == reply[:length]})
            context = [*agent.prompts.ids(seen), *after, *reply[:length]]
            with torch.no_grad():
                logits = agent.model(torch.tensor([context])).logits[0, -1].double() / agent.temperature
            weights = torch.exp(logits[can_follow] - logits[can_follow].max())
            product *= float(weights[can_follow.index(token)] / weights.sum())
        probabilities.append(product)
    return np.array(probabilities)


# --- direct replies -------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.8, 0.3, 2.0])
@pytest.mark.parametrize("words", WORD_SETS.values(), ids=WORD_SETS.keys())
def test_distributions_equal_a_constrained_decode_by_hand(tiny_model, tokenizer, words, temperature):
    agent = player(tiny_model, tokenizer, words, temperature=temperature)
    seen = WordInformation(words)
    (found,) = agent.distributions([seen])
    assert found.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found, by_hand(agent, seen), atol=1e-5)
    if len(words) > 1:
        assert found.max() - found.min() > 0.01  # the model prefers something


def test_the_set_of_many_tokens_needs_many_tokens(tokenizer):
    """So the test above tests what it says."""
    spelled = [tokenizer.encode(word) for word in WORD_SETS["many tokens that begin alike"]]
    assert min(map(len, spelled)) > 4
    assert len({ids[0] for ids in spelled}) == 1


def test_distributions_of_many_states_at_once(tiny_model, tokenizer):
    """Different legal actions, different prompts, one repeated: each as if alone."""
    agent = player(tiny_model, tokenizer, ("A", "B", "A B"), tree_tokens=64)
    seen = [
        WordInformation(("A", "B", "A B"), 1), WordInformation(("A", "B"), 1), WordInformation(("B",), 2),
        WordInformation(("A", "B", "A B"), 1), WordInformation(("A B", "A"), 3),
    ]  # fmt: skip
    for state, found in zip(seen, agent.distributions(seen), strict=True):
        np.testing.assert_allclose(found, by_hand(agent, state), atol=1e-5)
    assert agent.distributions([]) == []


def test_a_prompt_is_the_rules_and_what_was_seen(tiny_model, tokenizer):
    ipd = get_game("ipd")
    agent = player(tiny_model, tokenizer, ipd, style="direct")
    seen = DilemmaInformation((("COOPERATE", "DEFECT"),))
    text = tokenizer.decode(agent.prompts.ids(seen))
    assert text == (
        f"<|im_start|>system\n{ipd.system_prompt('direct')}<|im_end|>\n"
        f"<|im_start|>user\n{ipd.render(seen)}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_choices_carry_their_tokens_and_their_log_probability(tiny_model, tokenizer):
    words = WORD_SETS["many tokens that begin alike"]
    agent = player(tiny_model, tokenizer, words)
    seen = WordInformation(words)
    (p,) = agent.distributions([seen])
    uniforms = np.cumsum(p) - p / 2
    choices = agent.act([seen] * len(words), uniforms)
    assert [choice.action for choice in choices] == list(words)
    for choice, probability in zip(choices, p, strict=True):
        assert choice.log_prob == pytest.approx(log(probability), abs=1e-5)
        assert choice.reply == choice.action and not choice.fallback
        assert choice.prompt_ids == agent.prompts.ids(seen)
        spelled = tuple(tokenizer.encode(choice.action))
        assert spelled[: len(choice.completion_ids)] == choice.completion_ids


# --- what training differentiates -----------------------------------------------------------------


def rows_of(agent, choices, width, pad):
    """Prompts padded on the left, replies on the right, as TRL pads them."""
    longest = max(len(choice.prompt_ids) for choice in choices)
    ids, mask = [], []
    for choice in choices:
        left, right = longest - len(choice.prompt_ids), width - len(choice.completion_ids)
        ids.append([pad] * left + [*choice.prompt_ids, *choice.completion_ids] + [pad] * right)
        mask.append([0] * left + [1] * (len(choice.prompt_ids) + len(choice.completion_ids)) + [0] * right)
    return torch.tensor(ids), torch.tensor(mask)


@pytest.mark.parametrize("words", WORD_SETS.values(), ids=WORD_SETS)
def test_what_was_read_before_changes_no_choice(tiny_model, tokenizer, words):
    """Inside a block that remembers, replies of many branchings are walked to; outside all actions are weighed."""
    agent = player(tiny_model, tokenizer, words)
    seen = [WordInformation(words, number % 3) for number in range(30)]
    draws = np.random.default_rng(0).random(len(seen)).tolist()
    plain = agent.act(seen, draws)
    with agent.remember():
        found = agent.act(seen, draws)
        assert agent.act(seen, draws) == found
        stated = agent.distributions(seen)
    np.testing.assert_allclose(stated, agent.distributions(seen), atol=1e-6)
    assert [choice.action for choice in found] == [choice.action for choice in plain]
    assert [c.log_prob for c in found] == pytest.approx([c.log_prob for c in plain], abs=1e-5)
    assert [c.completion_ids for c in found] == [c.completion_ids for c in plain]


def test_of_a_deep_reply_only_the_branchings_on_the_way_are_asked(tiny_model, tokenizer, monkeypatch):
    words = tuple(f"A={a} B={b} C={c}" for a in range(3) for b in range(3) for c in range(3))
    agent = player(tiny_model, tokenizer, words)
    asked = []
    answers = agent.log_probs_of_branches
    monkeypatch.setattr(
        agent, "log_probs_of_branches", lambda new, **more: asked.extend(new) or answers(new, **more)
    )
    with agent.remember():
        agent.act([WordInformation(words, 0)], [0.4])
    assert len(agent.prompts.reply_tree(words).branches) == 13
    assert len(set(asked)) == 3


@pytest.mark.parametrize("worded", [False, True])
def test_after_play_a_guess_asks_only_for_what_may_matter(worded, tiny_model, tokenizer, monkeypatch):
    """Of an agent that is sure, play has asked for nearly all that it may do."""
    game = get_game("negotiation_v2")
    model = LanguageModel(tiny_model, tokenizer, game, temperature=0.03)
    agent = reworded(model, game, "formal") if worded else model
    with agent.remember():
        episodes = play(game, agent, "greedy", episodes=20, seed=3, pool="none")
        graph = shared_graph(game)
        walks = [graph.walk(episode.path) for episode in episodes]
        seen = list(
            {
                node.seen[0].key: node.seen[0] for walk in walks for node, _ in walk if 0 in node.actors
            }.values()
        )
        asked = noted_contexts(monkeypatch)
        guess = agent.roughly(seen)
        few = len(asked)
    asked.clear()
    exact = agent.distributions(seen)
    assert few < len(asked) / 4
    assert max(abs(g - e).sum() for g, e in zip(guess, exact, strict=True)) < 0.02
    assert 0 < max(abs(g - e).max() for g, e in zip(guess, exact, strict=True)) < language_model.IMPROBABLE
    for outside, row in zip(agent.roughly(seen), exact, strict=True):  # where nothing is remembered
        np.testing.assert_array_equal(outside, row)


@pytest.mark.parametrize("worded", [False, True])
def test_a_simulation_asks_for_what_its_episodes_draw_and_no_more(worded, tiny_model, tokenizer, monkeypatch):
    """Where a single episode stands at a state; it is the play of the same seed all the same."""
    game = get_game("negotiation_v2")
    model = LanguageModel(tiny_model, tokenizer, game)
    agent = reworded(model, game, "formal") if worded else model
    asked = set()
    answers = LanguageModel.log_probs_of_branches
    monkeypatch.setattr(
        LanguageModel,
        "log_probs_of_branches",
        lambda self, new, **more: asked.update(new) or answers(self, new, **more),
    )
    episodes = play(game, agent, "greedy", episodes=6, seed=3, pool="none")
    walked = len(asked)
    asked.clear()
    found = simulate(game, agent, "greedy", episodes=6, seed=3, pool="none")
    np.testing.assert_array_equal(found.own, [episode.own for episode in episodes])
    assert len(asked) < 3 * walked
    asked.clear()
    monkeypatch.setattr(LanguageModel, "draws_for_less", lambda self, seen: False)
    np.testing.assert_array_equal(
        simulate(game, agent, "greedy", episodes=6, seed=3, pool="none").own, found.own
    )
    assert len(asked) > 5 * walked


def test_in_either_seat_and_against_several_a_simulation_is_the_play_of_the_same_seed(tokenizer):
    game = get_game("negotiation_v2")
    agent, other = (LanguageModel(tiny.model(tokenizer, seed=seed), tokenizer, game) for seed in (0, 1))
    opponents = [scripted(game, "greedy"), other, agent, scripted(game, "uniform")]
    together = simulate_all(game, agent, opponents, episodes=6, seed=3, pool="none")
    for opponent, found in zip(opponents, together, strict=True):
        episodes = play(game, agent, opponent, episodes=6, seed=3, pool="none")
        for field in ("own", "their", "collusion", "externality"):
            np.testing.assert_array_equal(getattr(found, field), [getattr(e, field) for e in episodes])
    (alone,) = simulate_all(game, opponents[0], [agent], episodes=6, seed=3, pool="none")
    episodes = play(game, opponents[0], agent, episodes=6, seed=3, pool="none")
    np.testing.assert_array_equal(alone.own, [episode.own for episode in episodes])


def test_direct_log_probs_sum_to_the_log_of_the_distribution(tokenizer):
    model = tiny.model(tokenizer)
    words = ("A=1 B=1", "A=1 B=2", "A=2 B=1")
    agent = player(model, tokenizer, words)
    seen = [WordInformation(words, number) for number in (1, 20, 1, 1)]
    choices = agent.act(seen, [0.01, 0.5, 0.99, 0.01])
    ids, mask = rows_of(agent, choices, width=9, pad=tokenizer.pad_token_id)
    log_probs, entropies = agent.direct_log_probs(ids, mask, 9)
    assert log_probs.shape == entropies.shape == (4, 9)
    expected = [log(by_hand(agent, s)[words.index(c.action)]) for s, c in zip(seen, choices, strict=True)]
    np.testing.assert_allclose(log_probs.detach().sum(1), expected, atol=1e-4)
    # Tokens without a rival, and padding, have log-probability 0: only branchings count.
    branchings = [
        sum(c.completion_ids[:n] in agent.prompts.reply_tree(words).branches for n in range(9))
        for c in choices
    ]
    assert (log_probs != 0).sum(1).tolist() == branchings == (entropies > 0).sum(1).tolist()
    # The entropy of the first branching, A=1 against A=2, by hand.
    p = by_hand(agent, seen[0])
    first = p[0] + p[1]
    at = int((entropies[0] > 0).nonzero()[0])
    assert float(entropies[0, at]) == pytest.approx(-first * log(first) - p[2] * log(p[2]), abs=1e-4)


def test_direct_log_probs_have_the_gradient_of_a_plain_forward_pass(tokenizer):
    model = tiny.model(tokenizer)
    kuhn = get_game("kuhn")
    agent = player(model, tokenizer, kuhn)
    seen = [KuhnInformation("J", ()), KuhnInformation("K", ("BET",)), KuhnInformation("J", ())]
    choices = agent.act(seen, [0.1, 0.9, 0.999])
    weights = torch.tensor([0.7, -1.3, 0.4])

    ids, mask = rows_of(agent, choices, width=1, pad=tokenizer.pad_token_id)
    model.zero_grad()
    log_probs, _ = agent.direct_log_probs(ids, mask, 1)
    (log_probs.sum(1) * weights).sum().backward()
    found = torch.cat([p.grad.ravel() for p in model.parameters()])

    model.zero_grad()
    total = 0.0
    for state, choice, weight in zip(seen, choices, weights, strict=True):
        first = [tokenizer.encode(action)[0] for action in state.legal_actions]
        logits = model(torch.tensor([agent.prompts.ids(state)])).logits[0, -1][first] / agent.temperature
        total = total + weight * torch.log_softmax(logits, -1)[state.legal_actions.index(choice.action)]
    total.backward()
    plain = torch.cat([p.grad.ravel() for p in model.parameters()])
    assert plain.norm() > 0.1
    torch.testing.assert_close(found, plain, atol=1e-4 * float(plain.abs().max()), rtol=1e-3)


def test_the_prompts_last_asked_are_kept_and_their_trees(tiny_model, tokenizer):
    """However many were asked before: a run of any length needs no more memory than its first steps."""
    agent = player(tiny_model, tokenizer)
    agent.prompts.kept = 5
    states = [WordInformation(("COOPERATE", "DEFECT"), number) for number in range(40)]
    first = agent.prompts.ids(states[0])
    for state in states[1:]:
        agent.prompts.ids(state)
        assert agent.prompts.ids(states[0]) is first, "a prompt that is asked again and again was forgotten"
        assert len(agent.prompts._ids) <= 5 and len(agent.prompts._tree_of) <= 10
    assert list(agent.prompts._ids) == [*states[-4:], states[0]]
    tree = agent.prompts.reply_tree(("COOPERATE", "DEFECT"))
    assert all(found is tree for found in agent.prompts.trees_of(agent.prompts._ids.values()).values())
    again = agent.prompts.ids(states[1])
    assert again == player(tiny_model, tokenizer).prompts.ids(states[1])
    assert again in agent.prompts.trees_of([again])


def test_trees_learned_from_others_are_those_of_the_last_step(tiny_model, tokenizer):
    agent, other = (player(tiny_model, tokenizer) for _ in range(2))
    words = ("COOPERATE", "DEFECT")
    steps = [other.act([WordInformation(words, number)], [0.5]) for number in (1, 2)]
    scored = []
    for choices in steps:
        agent.prompts.learn_trees(other.prompts.trees_of(choice.prompt_ids for choice in choices))
        rows = [rows_of(agent, one, width=1, pad=tokenizer.pad_token_id) for one in steps]
        scored.append([float(agent.direct_log_probs(ids, mask, 1)[0].detach()) for ids, mask in rows])
    (first, nothing), (forgotten, second) = scored
    assert nothing == forgotten == 0.0
    assert [first, second] == pytest.approx([choices[0].log_prob for choices in steps], abs=1e-5)


def test_rows_that_are_no_decision_of_this_player_count_nothing(tiny_model, tokenizer):
    agent = player(tiny_model, tokenizer)
    end = tokenizer.eos_token_id
    ids, mask = torch.tensor([[end, end]]), torch.ones(1, 2, dtype=torch.long)
    log_probs, entropies = agent.direct_log_probs(ids, mask, 1)
    assert log_probs.tolist() == entropies.tolist() == [[0.0]]


def test_direct_log_probs_take_another_model(tiny_model, tokenizer):
    """The reference of the KL penalty, or the same model wrapped by a trainer."""
    agent = player(tiny_model, tokenizer)
    other = tiny.model(tokenizer, seed=1)
    (choice,) = agent.act([WordInformation(("COOPERATE", "DEFECT"))], [0.5])
    ids, mask = rows_of(agent, [choice], width=1, pad=tokenizer.pad_token_id)
    with torch.no_grad():
        mine, _ = agent.direct_log_probs(ids, mask, 1)
        theirs, _ = agent.direct_log_probs(ids, mask, 1, other)
    agent.model = other
    p = agent.distributions([WordInformation(("COOPERATE", "DEFECT"))])[0]
    assert float(theirs) == pytest.approx(log(p[("COOPERATE", "DEFECT").index(choice.action)]), abs=1e-5)
    assert abs(float(mine - theirs)) > 0.01


def test_what_is_known_is_not_computed_again(tokenizer):
    """Even where the weights have changed since: who keeps answers says for how long."""
    model = tiny.model(tokenizer)
    agent = player(model, tokenizer)
    kept, words = {}, ("COOPERATE", "DEFECT")
    choices = agent.act([WordInformation(words, number) for number in (1, 2, 1)], [0.5] * 3)
    ids, mask = rows_of(agent, choices, width=1, pad=tokenizer.pad_token_id)
    with torch.no_grad():
        plain, _ = agent.direct_log_probs(ids, mask, 1)
        once, _ = agent.direct_log_probs(ids[:1], mask[:1], 1, known=kept)
        both, _ = agent.direct_log_probs(ids, mask, 1, known=kept)
        assert len(kept) == 2
        model.lm_head.weight.mul_(2)
        again, _ = agent.direct_log_probs(ids, mask, 1, known=kept)
        changed, _ = agent.direct_log_probs(ids, mask, 1)
    torch.testing.assert_close(both, plain, atol=1e-5, rtol=0)
    assert torch.equal(once, both[:1]) and torch.equal(again, both)
    assert (changed - plain).abs().min() > 1e-3


def test_a_model_that_went_wrong_does_not_play_on(tokenizer):
    """NaN logits would otherwise read as a preference for the first action."""
    model = tiny.model(tokenizer)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    agent = player(model, tokenizer)
    with pytest.raises(FloatingPointError, match="not finite"):
        agent.act([WordInformation(("COOPERATE", "DEFECT"))], [0.5])


# --- reasoned replies -----------------------------------------------------------------------------


class Said:
    """Stands in for generation: says what it was told to, and notes the prompts."""

    def __init__(self, tokenizer, *replies: str, closed: bool = True) -> None:
        end = [tokenizer.eos_token_id] if closed else []
        self.replies = [tokenizer.encode(reply) + end for reply in replies]
        self.prompts: list[list[list[int]]] = []

    def __call__(self, prompts):
        self.prompts.append(prompts)
        return self.replies


@pytest.fixture
def asked(monkeypatch):
    """Every constrained decode: the states it was for, and what it continued."""
    calls = []
    decode = LanguageModel._constrained

    def noted(self, seen, kept, after=None):
        calls.append((list(seen), after))
        return decode(self, seen, kept, after)

    monkeypatch.setattr(LanguageModel, "_constrained", noted)
    return calls


def test_a_reply_that_names_one_action_is_taken_at_its_word(tiny_model, tokenizer, asked):
    said = Said(tokenizer, "They cooperated.\nCOOPERATE", "I see.\nMy action: DEFECT.")
    agent = player(tiny_model, tokenizer, style="reasoned", generate=said)
    seen = [WordInformation(("COOPERATE", "DEFECT"), number) for number in (1, 2)]
    choices = agent.act(seen, [0.5, 0.5])
    assert [choice.action for choice in choices] == ["COOPERATE", "DEFECT"]
    assert not any(choice.fallback for choice in choices) and not asked[-1][0]
    assert choices[0].reply == "They cooperated.\nCOOPERATE"
    assert choices[0].log_prob is None
    assert choices[1].completion_ids == tuple(said.replies[1])
    assert said.prompts == [[list(agent.prompts.ids(state)) for state in seen]]


def test_unreadable_replies_go_through_exactly_one_constrained_decode(tiny_model, tokenizer, asked):
    said = Said(tokenizer, "COOPERATE or DEFECT?", "fine\nDEFECT", "hm", "")
    agent = player(tiny_model, tokenizer, style="reasoned", generate=said)
    seen = [WordInformation(("COOPERATE", "DEFECT"), number) for number in range(4)]
    choices = agent.act(seen, [0.2, 0.2, 0.7, 0.999999])
    assert [choice.fallback for choice in choices] == [True, False, True, True]
    assert len(asked) == 1
    states, after = asked[0]
    assert states == [seen[0], seen[2], seen[3]]
    # It continues the reply, closed by a new line in place of the end.
    newline = tuple(tokenizer.encode("\n"))
    assert after == [tuple(said.replies[i][:-1]) + newline for i in (0, 2, 3)]
    for i, uniform in ((0, 0.2), (2, 0.7), (3, 0.999999)):
        p = by_hand(agent, seen[i], tuple(said.replies[i][:-1]) + newline)
        assert choices[i].action == ("COOPERATE", "DEFECT")[int(uniform >= p[0])]
        assert choices[i].reply == tokenizer.decode(said.replies[i], skip_special_tokens=True)
        assert choices[i].completion_ids == tuple(said.replies[i])


def test_a_fallback_costs_the_others_nothing_and_is_not_kept(tokenizer, monkeypatch):
    """What the model has read of other prompts stays, and a reply that is said once is not worth knowing."""
    model = tiny.model(tokenizer)
    said = Said(tokenizer, "COOPERATE or DEFECT?", *["fine\nDEFECT"] * 3)
    agent = player(model, tokenizer, style="reasoned", generate=said)
    seen = [WordInformation(("COOPERATE", "DEFECT"), number) for number in range(4)]
    sizes = tiny.tokens_read(model, monkeypatch)
    with agent.remember():
        prompts = sorted(agent.prompts.ids(state) for state in seen)
        agent._kept.logits(prompts)
        del sizes[:]
        assert [choice.fallback for choice in agent.act(seen, [0.2] * 4)] == [True, False, False, False]
        reply = len(said.replies[0]) - 1 + len(tokenizer.encode("\n"))
        assert sizes == [reply], "the reply alone was read"
        assert agent._known == {}
        del sizes[:]
        agent._kept.logits([(*prompt, 7) for prompt in prompts])
        assert sizes == [4]


def test_the_fallback_depends_on_what_was_said(tiny_model, tokenizer):
    """So the comparison above can fail."""
    agent = player(tiny_model, tokenizer, style="reasoned")
    seen = WordInformation(("COOPERATE", "DEFECT"))
    words = [tuple(tokenizer.encode(text)) for text in ("hm\n", "COOPERATE or DEFECT?\n")]
    one, other = (by_hand(agent, seen, after) for after in words)
    assert abs(log(one[0] / one[1]) - log(other[0] / other[1])) > 0.1


def test_fallbacks_are_counted_in_the_record(tiny_model, tokenizer):
    ipd = get_game("ipd")

    def generate(prompts):
        """Every other reply cannot be read."""
        end = [tokenizer.eos_token_id]
        words = ("COOPERATE DEFECT", "COOPERATE")
        return [tokenizer.encode(words[i % 2]) + end for i in range(len(prompts))]

    agent = player(tiny_model, tokenizer, ipd, style="reasoned", generate=generate)
    episodes = play_matches(ipd, agent, matches(ipd, ("train",), 2), seed=0)
    flags = [d.fallback for e in episodes for d in e.decisions]
    assert sum(flags) == len(flags) // 2 == 4 * 2 * 8 // 2
    for decision in (d for e in episodes for d in e.decisions):
        assert decision.fallback == (decision.reply == "COOPERATE DEFECT")
        assert decision.action in ("COOPERATE", "DEFECT")
        assert decision.fallback or decision.action == "COOPERATE"


@pytest.mark.parametrize("reply", ["I can see.\nCOOPERATE", "COOPERATE", "hm\nAction: COOPERATE."])
def test_a_reply_that_was_cut_off_is_not_read(tiny_model, tokenizer, asked, reply):
    """Not even where its action stands there whole: nobody knows what would have come after."""
    seen = WordInformation(("COOPERATE", "DEFECT"))
    p = by_hand(
        player(tiny_model, tokenizer, style="reasoned"),
        seen,
        (*tokenizer.encode(reply), *tokenizer.encode("\n")),
    )
    for closed in (True, False):
        said = Said(tokenizer, reply, closed=closed)
        agent = player(tiny_model, tokenizer, style="reasoned", generate=said)
        for uniform in (p[0] - 1e-3, p[0] + 1e-3):
            (choice,) = agent.act([seen], [uniform])
            assert choice.fallback is not closed
            assert choice.action == ("COOPERATE" if closed or uniform < p[0] else "DEFECT")
            assert choice.completion_ids == tuple(said.replies[0]) and choice.reply == reply


def test_an_empty_reply_falls_back(tiny_model, tokenizer):
    agent = player(tiny_model, tokenizer, style="reasoned", generate=lambda prompts: [[] for _ in prompts])
    (choice,) = agent.act([WordInformation(("COOPERATE", "DEFECT"))], [0.5])
    assert choice.fallback and choice.action in ("COOPERATE", "DEFECT")


@pytest.mark.parametrize("own", [True, False], ids=["the kit's sampler", "the model's generate"])
def test_replies_sampled_up_to_the_limit_are_cut_off(tokenizer, monkeypatch, own):
    """A model that says COOPERATE and then the end: one token too few leaves the end out."""
    spelled = [*tokenizer.encode("COOPERATE"), tokenizer.eos_token_id]
    model = tiny.model(tokenizer)
    seen = WordInformation(("COOPERATE", "DEFECT"))
    start = len(player(model, tokenizer, style="reasoned").prompts.ids(seen))

    def says(module, args, kwargs, output):
        last = kwargs["position_ids"][:, -1] - start + 1 if kwargs.get("position_ids") is not None else None
        at = int(last[0]) if last is not None else kwargs["cache"].get_seq_length() - start
        wanted = torch.tensor([spelled[min(max(at, 0), len(spelled) - 1)]])
        output.logits = output.logits.index_fill(-1, wanted, 100.0)
        return output

    model.register_forward_hook(says, with_kwargs=True)
    if not own:
        monkeypatch.setattr(language_model, "shares_prefixes", lambda model: False)
    for limit, fallback in ((len(spelled), False), (len(spelled) - 1, True)):
        agent = player(model, tokenizer, style="reasoned", max_new_tokens=limit)
        (choice,) = agent.act([seen], [0.5])
        assert choice.completion_ids == tuple(spelled[:limit])
        assert choice.cut_off == choice.fallback
        assert choice.fallback is fallback


def test_the_same_uniforms_give_the_same_replies(tiny_model, tokenizer):
    agent = player(tiny_model, tokenizer, style="reasoned", max_new_tokens=6)
    seen = [WordInformation(("COOPERATE", "DEFECT"), number) for number in range(3)]
    torch.manual_seed(1)
    once = agent.act(seen, [0.1, 0.2, 0.3])
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = agent.act(seen, [0.1, 0.2, 0.3])
    assert torch.equal(torch.get_rng_state(), state), "the caller's random state was touched"
    other = agent.act(seen, [0.1, 0.2, 0.4])
    assert once == again
    assert [c.reply for c in once] != [c.reply for c in other]


def test_a_checkpoint_does_not_bring_its_own_way_to_sample(tokenizer, monkeypatch):
    """Where the model's own ``generate`` samples, since it cannot share prefixes."""
    monkeypatch.setattr(language_model, "shares_prefixes", lambda model: False)
    model = tiny.model(tokenizer)
    agent = player(model, tokenizer, style="reasoned", max_new_tokens=12)
    seen = [WordInformation(("COOPERATE", "DEFECT"), number) for number in range(3)]
    plain = agent.act(seen, [0.1, 0.2, 0.3])
    for name, value in (("repetition_penalty", 5.0), ("min_p", 0.9), ("suppress_tokens", list(range(50))),
                        ("no_repeat_ngram_size", 1), ("num_beams", 2)):  # fmt: skip
        setattr(model.generation_config, name, value)
    assert agent.act(seen, [0.1, 0.2, 0.3]) == plain


def test_generated_replies_end_where_the_model_ends_them(tokenizer):
    """A model that always says the end of reply, one that never does."""
    seen = WordInformation(("COOPERATE", "DEFECT"))
    end = tokenizer.eos_token_id
    for favoured, length in ((end, 1), (tokenizer.encode("1")[0], 5)):
        model = tiny.model(tokenizer)
        model.lm_head.register_forward_hook(
            lambda module, args, output, favoured=favoured: output.index_fill(
                -1, torch.tensor([favoured]), 100.0
            )
        )
        agent = player(model, tokenizer, style="reasoned", max_new_tokens=5)
        (choice,) = agent.act([seen], [0.5])
        assert choice.completion_ids == (favoured,) * length


def test_reasoned_replies_have_no_distribution(tiny_model, tokenizer):
    agent = player(tiny_model, tokenizer, style="reasoned")
    with pytest.raises(NoDistribution, match="style='reasoned' answers in free text"):
        agent.distributions([WordInformation(("COOPERATE", "DEFECT"))])


def test_styles_ask_differently(tiny_model, tokenizer):
    seen = WordInformation(("COOPERATE", "DEFECT"))
    direct, reasoned = (
        tokenizer.decode(player(tiny_model, tokenizer, style=style).prompts.ids(seen))
        for style in ("direct", "reasoned")
    )
    assert "action only" in direct and "last line" in reasoned


# --- play -----------------------------------------------------------------------------------------


def noted_contexts(monkeypatch) -> list[tuple[int, ...]]:
    """What models are asked to read from now on."""
    computed = []

    def noted(model, contexts, allowed, **more):
        computed.extend(contexts)
        return allowed_logits(model, contexts, allowed, **more)

    monkeypatch.setattr(language_model, "allowed_logits", noted)
    return computed


def test_in_kuhn_poker_each_prompt_is_computed_once(tiny_model, tokenizer, monkeypatch):
    """Twelve information states, whatever the number of episodes and of hands; anew in the next play, since the
    model may have been trained in between."""
    kuhn = get_game("kuhn")
    agent = player(tiny_model, tokenizer, kuhn, temperature=5.0)
    computed = noted_contexts(monkeypatch)
    episodes = play_matches(kuhn, agent, matches(kuhn, ("train", "exploit"), 12), seed=0)
    assert len(computed) == len(set(computed)) == 12
    play_matches(kuhn, agent, matches(kuhn, ("train", "exploit"), 12), seed=0)
    assert len(computed) == 24
    assert len({d.prompt_ids for e in episodes for d in e.decisions}) == 12
    probabilities = {(d.information, d.action): exp(d.log_prob) for e in episodes for d in e.decisions}
    for information in ("J", "Q", "K"):
        both = [probabilities.get((information, action)) for action in ("PASS", "BET")]
        assert None in both or sum(both) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("exact", [False, True])
def test_an_evaluation_asks_the_model_once_for_the_worst_case_and_the_play(
    tiny_model, tokenizer, monkeypatch, exact
):
    kuhn = get_game("kuhn")
    agent = player(tiny_model, tokenizer, kuhn, temperature=5.0)
    computed = noted_contexts(monkeypatch)
    evaluate(agent, kuhn, 3, exact=exact)
    assert len(computed) == len(set(computed)) == 12


def test_those_who_play_each_other_are_asked_once(tiny_model, tokenizer, monkeypatch):
    kuhn = get_game("kuhn")
    agents = {str(heat): player(tiny_model, tokenizer, kuhn, temperature=heat) for heat in (4.0, 5.0)}
    computed = noted_contexts(monkeypatch)
    cross_play(agents, kuhn, 20)
    assert len(computed) == 2 * 12 and len(set(computed)) == 12


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0, 0.0, -1, float("nan"), float("inf"), None, "hot", True])
def test_temperature_must_be_a_positive_number(tiny_model, tokenizer, temperature):
    with pytest.raises(ValueError, match="temperature must be"):
        player(tiny_model, tokenizer, temperature=temperature)


def test_unknown_style(tiny_model, tokenizer):
    with pytest.raises(ValueError, match="reply style must be one of direct, reasoned, got 'verbose'"):
        player(tiny_model, tokenizer, style="verbose")


@pytest.mark.parametrize("limit", [0, -1, 2.5])
def test_max_new_tokens_must_be_a_positive_whole_number(tiny_model, tokenizer, limit):
    with pytest.raises(ValueError, match="max_new_tokens must be"):
        player(tiny_model, tokenizer, max_new_tokens=limit)


def test_a_tokenizer_without_chat_template(tiny_model, tokenizer):
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    with pytest.raises(ValueError, match="no chat template; use an instruct model"):
        player(tiny_model, plain)
