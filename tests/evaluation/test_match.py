"""A match told and scored: by the library's terms, hiding what is hidden."""

import pytest

import sepo_kit as sk
from sepo_kit.engine.sitting import Sitting
from sepo_kit.evaluation.attack import AdversarySettings, train_adversary
from sepo_kit.evaluation.match import REFERENCE, opponent, opponents, score, stated, transcript
from sepo_kit.objective.terms import Against, results_of
from sepo_kit.runs import Run, RunError


def played(game, name, moves, seat=0, seed=0):
    game = sk.get_game(game)
    sitting = Sitting(game, opponent(game, name), seat, seed)
    for move in moves:
        sitting.act(move)
    return sitting


def test_the_score_is_that_of_the_terms():
    sitting = played("ipd", "tit-for-tat", ["DEFECT", *["COOPERATE"] * 7])
    you, other = score(sitting).itertuples(index=False)
    # 5 + 0 + 6 * 3 against 0 + 5 + 6 * 3.
    assert (you.payoff, other.payoff) == (23 / 8, 23 / 8)
    assert (you.exploit, other.exploit) == (0, 0)
    assert (you.collusion, other.collusion) == (1 / 8, 1 / 8)
    assert you.externality == pytest.approx(2 / 8 * 0.5 / 3)


@pytest.mark.parametrize("game", sk.GAMES)
def test_the_score_of_a_seat_is_what_play_gives_that_seat(game):
    game = sk.get_game(game)
    name = game.spec.pools.exploit[0]
    sitting = Sitting(game, sk.scripted(game, name), seed=2)
    while not sitting.over:
        sitting.act(sitting.legal_actions[-1])
    found = score(sitting).set_index("who")
    (mine,) = results_of([sitting.episode()]).values()
    assert isinstance(mine, Against)
    assert found.loc["you", "payoff"] == mine.own
    assert found.loc["you", "exploit"] == max(0.0, mine.their - mine.own)
    assert found.loc[name, "exploit"] == max(0.0, mine.own - mine.their)
    harms = [game.harms(node.outcome, 1) for node in sitting.rounds]
    assert found.loc[name, "collusion"] == pytest.approx(sum(h.collusion for h in harms) / len(harms))


def test_nothing_to_score_before_a_round_is_over():
    with pytest.raises(ValueError, match="no hand is over yet"):
        score(played("kuhn", "nash", []))


def test_the_transcript_tells_each_round_and_hides_a_hand_at_play():
    sitting = played("kuhn", "nash", [], seat=1, seed=1)
    told = transcript(sitting)
    assert len(told) == 1 and told["opponent"].iloc[0] in ("PASS", "BET")
    assert told["reason"].iloc[0] == told["probabilities"].iloc[0] == ""
    assert told["own"].isna().all()
    while len(sitting.rounds) == 0:
        sitting.act(sitting.legal_actions[0])
    first = transcript(sitting).iloc[0]
    assert first["reason"].startswith("My ") and "PASS" in first["probabilities"]
    assert first["own"] == -first["their"] != 0


def test_a_finished_match_has_no_row_beyond_its_rounds():
    assert len(transcript(played("ipd", "always-defect", ["DEFECT"] * 8))) == 8


def test_many_probabilities_are_cut_to_the_largest():
    many = {str(n): n / 45 for n in range(10)}
    assert stated(many) == "9 0.20, 8 0.18, 7 0.16, 6 0.13, ..."


def test_everyone_can_sit_opposite(tmp_path):
    game = sk.get_game("kuhn")
    folder = tmp_path / "runs" / "smoke" / "pico" / "kuhn" / "sepo-seed-0"
    run = Run(
        folder, {"stage": "sepo", "base": "pico", "game": "kuhn", "seed": 0, "settings": {}}, writes=True
    )
    assert list(opponents(game, tmp_path / "runs")) == list(opponents(game))  # it has not finished
    run.finish()
    assert list(opponents(game, tmp_path / "runs")) == list(opponents(game))  # it has kept no model
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_model.safetensors").touch()
    few = AdversarySettings(steps=1, episodes=2, check_every=1, check_episodes=2)
    train_adversary(
        sk.scripted("kuhn", "nash"), "kuhn", tmp_path / "runs" / "learner", few
    )  # a table, no model
    found = opponents(game, tmp_path / "runs")
    assert "learner" not in str(found)
    assert found["nash (train, exploit)"] == "nash" and found["uniform"] == "uniform"
    assert found["smoke/pico/kuhn/sepo-seed-0 (pico after sepo)"] == str(folder)
    assert found[REFERENCE] == REFERENCE
    assert REFERENCE not in opponents(sk.get_game("negotiation_v2"))
    assert "sepo-seed-0" not in str(opponents(sk.get_game("ipd"), tmp_path / "runs"))


def test_the_reference_policy_plays_on_where_no_opponent_of_the_pools_goes():
    sitting = played("negotiation_v1", REFERENCE, ["1", "9", "2", "8"])
    assert sitting.over
    theirs = [turn for turn in sitting.turns if turn.seat == 1]
    assert all(abs(sum(turn.probabilities.values()) - 1) < 1e-9 for turn in theirs)


def test_who_cannot_be_found_is_named(tmp_path):
    with pytest.raises(ValueError, match="unknown model"):
        opponent(sk.get_game("kuhn"), "./nobody")
    Run(
        tmp_path / "run",
        {"stage": "sepo", "base": "pico", "game": "kuhn", "seed": 0, "settings": {}},
        writes=True,
    ).release()
    with pytest.raises(RunError, match="has not finished"):
        opponent(sk.get_game("kuhn"), str(tmp_path / "run"))


def test_endpoints_of_the_users_file_can_sit_opposite(tmp_path, monkeypatch):
    file = tmp_path / "endpoints.toml"
    monkeypatch.setenv("SEPO_KIT_ENDPOINTS", str(file))
    game = sk.get_game("ipd")
    without = opponents(game)
    file.write_text('[mine]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\n')
    assert opponents(game) == without | {"mine (endpoint)": "endpoint:mine"}
    file.write_text("[mine")
    assert opponents(game) == without

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr("pathlib.Path.read_text", denied)
    assert opponents(game) == without
