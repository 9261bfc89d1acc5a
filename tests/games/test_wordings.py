"""Other wordings of a game: complete, apart from each other, and read back into the game's own actions."""

from __future__ import annotations

import pytest

import sepo_kit as sk
from sepo_kit.engine.graph import shared_graph
from sepo_kit.exact.fitted import explored
from sepo_kit.games.wordings import WordedGame

GAMES = ("ipd", "auction", "negotiation_v1", "negotiation_v2", "kuhn", "leduc")
CASES = [(game, wording) for game in GAMES for wording in sk.get_game(game).wordings]


def states(game, matches):
    """Information states that random play meets."""
    played = explored(game, sk.uniform(game), matches, seed=7)
    walked = (node for episode in played for node, _ in shared_graph(game).walk(episode.path))
    return list(dict.fromkeys(seen for node in walked for seen in node.seen.values()))


@pytest.mark.parametrize("game_id", GAMES)
def test_every_game_has_five_that_no_two_share_a_prompt(game_id):
    game = sk.get_game(game_id)
    assert len(game.wordings) == 5
    rules = {game.system_prompt()} | {WordedGame(game, w).system_prompt() for w in game.wordings.values()}
    assert len(rules) == 6


@pytest.mark.parametrize(("game_id", "wording"), CASES)
def test_it_says_all_that_the_game_says(game_id, wording):
    """States that the game tells apart are told apart, every phrase is used, and every action is named."""
    game = sk.get_game(game_id)
    worded = WordedGame(game, game.wordings[wording])
    met = states(game, 60)
    own, other = [game.render(seen) for seen in met], [worded.render(worded.reword(seen)) for seen in met]
    assert len(set(zip(own, other, strict=True))) == len(set(own)) == len(set(other))
    said = "\n".join(own)
    assert [phrase for phrase in worded.wording.phrases if phrase not in said] == []
    rules = worded.system_prompt()
    names = (
        worded.spec.actions
        if game_id != "negotiation_v2"
        else worded.spec.actions[0].replace("=0", "").split()
    )
    assert [name for name in names if name not in rules] == []
    assert not [name for name in worded.wording.names if name in rules or name in "\n".join(other)]


@pytest.mark.parametrize(("game_id", "wording"), CASES)
def test_what_it_calls_an_action_is_read_as_that_action(game_id, wording):
    game = sk.get_game(game_id)
    worded = WordedGame(game, game.wordings[wording])
    for seen in states(game, 4)[:8]:
        legal = worded.reword(seen).legal_actions
        assert len(set(legal)) == len(seen.legal_actions)
        for own, named in list(zip(seen.legal_actions, legal, strict=True))[:12]:
            assert worded.parse(f"So be it.\nAction: {named.lower()}", legal) == named
            if own != named:
                assert worded.parse(own, legal) is None  # a name of the game itself means nothing here
