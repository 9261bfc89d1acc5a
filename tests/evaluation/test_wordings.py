"""An agent asked in other words: what it plays is what it was asked, in the game's own actions."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from finished import evaluation

import sepo_kit as sk
from sepo_kit.adversaries.exploiters import states_distributions
from sepo_kit.engine.policy import Policy
from sepo_kit.engine.reworded import reworded
from sepo_kit.evaluation.wordings import prompt_invariance_of
from sepo_kit.figures import in_other_words
from sepo_kit.games.wordings import WordedGame
from sepo_kit.models import PICO
from sepo_kit.models.language_model import LanguageModel

KUHN = sk.get_game("kuhn")
KING = KUHN.initial_state().apply_chance(("K", "J")).information(0)


class ByLastLetter(Policy):
    """Plays the legal action whose name ends earliest in the alphabet: by the words alone."""

    name = "by-last-letter"

    def asked_by(self, game):
        return self

    def distributions(self, seen):
        chosen = [min(state.legal_actions, key=lambda name: name[-1]) for state in seen]
        return [
            np.array([float(name == best) for name in state.legal_actions])
            for state, best in zip(seen, chosen, strict=True)
        ]


def test_one_that_goes_by_names_plays_otherwise_where_they_are_others():
    found = sk.prompt_invariance(ByLastLetter(), KUHN).set_index(["wording", "metric"])
    assert found.loc["own", "moved"].dropna().eq(0).all() and found.loc["story", "moved"].dropna().eq(0).all()
    assert found.loc[("renamed", "payoff"), "moved"] != 0 != found.loc[("renamed", "worst_case"), "moved"]
    actions = [
        agent.act([KING], [0.5])[0].action
        for agent in (ByLastLetter(), reworded(ByLastLetter(), KUHN, "renamed"))
    ]
    assert actions == ["PASS", "BET"]  # GREEN and BLUE


def test_it_is_known_by_who_is_asked_and_in_which_words():
    class Other(ByLastLetter):
        def identity(self):
            return "another of that name"

    agents = [(ByLastLetter(), "renamed"), (ByLastLetter(), "story"), (Other(), "renamed")]
    identities = [reworded(agent, KUHN, wording).identity() for agent, wording in agents]
    assert len(set(identities)) == 3
    assert reworded(ByLastLetter(), KUHN, "renamed").identity() == identities[0]


def test_an_agent_that_answers_in_text_does_so_in_all_words(tiny_model, tokenizer):
    for style in ("direct", "reasoned"):
        agent = LanguageModel(tiny_model, tokenizer, KUHN, style=style)
        assert states_distributions(reworded(agent, KUHN, "renamed")) == (style == "direct")


@pytest.mark.parametrize("style", ["direct", "reasoned"])
def test_a_language_model_is_asked_what_the_wording_says(style):
    words = tiny.tokenizer()
    agent = LanguageModel(tiny.model(words), words, KUHN, style=style, max_new_tokens=6)
    other = reworded(agent, KUHN, "renamed")
    (decision,) = other.act([KING], [0.3])
    worded = WordedGame(KUHN, KUHN.wordings["renamed"])
    asked = agent.asked_by(worded)
    assert decision.prompt_ids == asked.prompts.ids(worded.reword(KING)) != agent.prompts.ids(KING)
    assert decision.action in KING.legal_actions
    if style == "direct":
        assert decision.reply in ("GREEN", "BLUE")
        (own,), (p,) = asked.distributions([worded.reword(KING)]), other.distributions([KING])
        assert p.tolist() == own.tolist()


def test_the_exploit_pool_in_other_words_is_a_suite():
    found = sk.held_out(ByLastLetter(), KUHN, "wordings", episodes=20)
    assert len(found.frame) == 5 * len(KUHN.spec.pools.exploit)
    by_name = found.frame.set_index("adversary")["gain"]
    assert by_name["always-bet in renamed words"] != by_name["always-bet in story words"]


def test_what_cannot_be_asked_in_other_words_is_one_line(monkeypatch):
    with pytest.raises(ValueError, match="uniform reads no prompts"):
        sk.prompt_invariance(sk.uniform("kuhn"), "kuhn")
    with pytest.raises(
        ValueError, match="kuhn has no wording 'rhymes'; known: plain, formal, story, terse, renamed"
    ):
        reworded(ByLastLetter(), "kuhn", "rhymes")
    monkeypatch.setattr(type(KUHN), "wordings", {})
    with pytest.raises(ValueError, match="kuhn has no wordings; give the game `wordings`"):
        sk.held_out(ByLastLetter(), "kuhn", "wordings")


@pytest.mark.usefixtures("ready_pico")
def test_agents_of_results_are_asked_and_drawn(tmp_path):
    evaluation(tmp_path, "kuhn", "base", "uniform", model=PICO)
    found = prompt_invariance_of(list(tmp_path.glob("*/kuhn/results/*.json")))
    agent = sk.language_model(sk.load_model(PICO), "kuhn", temperature=0.8)
    again = sk.prompt_invariance(agent, "kuhn")
    assert found["value"].astype(float).tolist() == pytest.approx(
        again["value"].astype(float).tolist(), nan_ok=True
    )
    assert list(found["stage"].unique()) == ["base"] and found["wording"].nunique() == 6
    figure = in_other_words(found, PICO, "kuhn")
    assert [len(axis.get_xticks()) for axis in figure.axes] == [6, 6, 6]
    assert prompt_invariance_of([]).empty
