"""Run folders read back: what is there, what is broken, and every match move by move."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from every_game import COMMONS

import sepo_kit as sk
from sepo_kit.engine.episode import decision_frame, round_frame
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.engine.tables import rounds_file, write_tables
from sepo_kit.evaluation import archive
from sepo_kit.evaluation.attack import AdversarySettings, train_adversary
from sepo_kit.games.base import POOLS
from sepo_kit.objective.credit import assign_credit, training_matches
from sepo_kit.runs import Run, RunError, append_line
from sepo_kit.training.recording import record_episodes


def make_run(folder, stage="sepo", game="kuhn", base="pico", steps=3, seed=0):
    """A finished run without a model: what its folder holds beside the adapter."""
    run = Run(
        folder, {"stage": stage, "base": str(base), "game": game, "seed": seed, "settings": {}}, writes=True
    )
    for step in range(1, steps + 1):
        append_line(folder / "metrics.jsonl", {"step": step, "sepo/safety": -1.0 / step})
    run.progress(steps, steps)
    run.finish()
    return run


def record(folder, game="kuhn", step=2, mode="credited", seed=0, common=True):
    game = sk.get_game(game)
    todo = training_matches(game, mode, 3, 2)
    episodes = play_matches(game, sk.uniform(game), todo, seed, step=step - 1, common_random_numbers=common)
    credit = assign_credit(game.spec, episodes, mode=mode)
    return record_episodes(folder, step, episodes, credit, common), episodes


@pytest.fixture
def runs(tmp_path):
    """A warm start and the SEPO run on it, where ``reproduce`` puts them."""
    plan = tmp_path / "runs" / "smoke" / "pico" / "kuhn"
    make_run(plan / "sft-seed-0", "sft")
    make_run(plan / "sepo-seed-0", base=plan / "sft-seed-0")
    return tmp_path / "runs"


def test_every_run_is_found_with_what_it_is(runs):
    found = archive.find_runs(runs)
    assert list(found["run"]) == ["smoke/pico/kuhn/sepo-seed-0", "smoke/pico/kuhn/sft-seed-0"]
    for _, row in found.iterrows():
        assert (row["profile"], row["model"], row["game"], row["seed"]) == ("smoke", "pico", "kuhn", 0)
        assert (row["status"], row["step"], row["steps"], row["problem"]) == ("done", 3, 3, "")
    assert list(archive.find_runs(runs / "smoke")["profile"]) == ["smoke", "smoke"]


def test_runs_of_a_changed_profile_are_named_by_both(runs):
    """As the penalty lab names them."""
    make_run(runs / "quick" / "mode=shared" / "pico" / "kuhn" / "sepo-seed-0")
    found = archive.find_runs(runs).set_index("run")
    row = found.loc["quick/mode=shared/pico/kuhn/sepo-seed-0"]
    assert (row["profile"], row["model"]) == ("quick,mode=shared", "pico")


def test_a_run_elsewhere_is_named_by_the_model_it_began_with(tmp_path):
    make_run(tmp_path / "mine" / "warm", "sft", base="owner/name")
    make_run(tmp_path / "mine" / "safe", base=tmp_path / "mine" / "warm")
    found = archive.find_runs(tmp_path).set_index("run")
    assert list(found["model"]) == ["owner/name", "owner/name"] and list(found["profile"]) == ["", ""]


def test_a_learner_is_listed_by_whom_it_attacks(tmp_path):
    settings = AdversarySettings(steps=1, episodes=2, check_every=1, check_episodes=2)
    train_adversary(sk.scripted("kuhn", "nash"), "kuhn", tmp_path / "learners" / "nash", settings)
    (row,) = archive.find_runs(tmp_path).to_dict("records")
    assert (row["status"], row["stage"], row["model"], row["problem"]) == (
        "done",
        "adversary",
        "against nash",
        "",
    )


def test_half_written_folders_and_checkpoints_are_no_runs(runs):
    run = runs / "smoke/pico/kuhn/sepo-seed-0"
    for name in ("checkpoints/checkpoint-1", ".adapter.x1"):
        (run / name).mkdir(parents=True)
        (run / name / "manifest.json").write_text("{}")
    assert len(archive.find_runs(runs)) == 2


def test_nothing_there_is_an_empty_table(tmp_path):
    assert archive.find_runs(tmp_path).empty and archive.find_runs(tmp_path / "none").empty
    assert list(archive.find_runs(tmp_path).columns) == list(archive.COLUMNS)
    assert archive.curves(tmp_path).empty and archive.recordings(tmp_path) == {}


@pytest.mark.parametrize(
    "text, says",
    [
        ("{", "is not valid JSON"),
        ('{"format": 0, "status": "done", "request": {}}', "made by another version"),
        ('{"format": 1, "status": "done", "request": {"stage": "sepo"}}', "lacks what this version writes"),
        ("\0\xff", "is not valid JSON"),
    ],
)
def test_a_broken_run_is_a_row_with_a_reason(runs, text, says):
    (runs / "smoke/pico/kuhn/sepo-seed-0/manifest.json").write_text(text)
    found = archive.find_runs(runs).set_index("run")
    broken = found.loc["smoke/pico/kuhn/sepo-seed-0"]
    assert broken["status"] == archive.BROKEN and says in broken["problem"] and "\n" not in broken["problem"]
    assert found.loc["smoke/pico/kuhn/sft-seed-0"]["status"] == "done"


def test_curves_are_the_logged_steps(runs):
    curve = archive.curves(runs / "smoke/pico/kuhn/sepo-seed-0")
    assert list(curve["step"]) == [1, 2, 3] and curve["sepo/safety"].iloc[-1] == -1 / 3


@pytest.mark.parametrize("text", ['{"step": 1}\n{"ste\n{"step": 3}\n', "[1]\n[2]\n"])
def test_a_broken_log_is_one_line(runs, text):
    run = runs / "smoke/pico/kuhn/sepo-seed-0"
    (run / "metrics.jsonl").write_text(text)
    with pytest.raises(RunError, match=r"metrics.jsonl") as error:
        archive.curves(run)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("game", ["kuhn", "ipd", "auction"])
@pytest.mark.parametrize("common", [True, False])
def test_training_matches_come_out_again_whichever_draws_they_had(tmp_path, game, common):
    file, episodes = record(tmp_path, game, common=common)
    recording = archive.read_episodes(file)
    met = {(e.pool, e.opponent, e.group, e.index): [d.information for d in e.decisions] for e in episodes}
    for key in recording.rounds[archive.MATCH].drop_duplicates().itertuples(index=False, name=None):
        turns = [turn for turn, _ in archive.turns_of(recording, *key) if turn.seat == 0]
        assert [turn.seen.key for turn in turns] == met[key]


def test_a_match_that_met_other_situations_does_not_come_out_again(tmp_path):
    """Payoffs may be the same by chance."""
    recording = archive.read_episodes(record(tmp_path)[0])
    first = recording.rounds[archive.MATCH].iloc[0]
    its = (recording.decisions[archive.MATCH] == first).all(axis=1) & (recording.decisions["seat"] == 0)
    recording.decisions.loc[its, "information"] = "J"
    with pytest.raises(RunError, match="does not come out again"):
        archive.turns_of(recording, *first)


def test_recordings_are_those_of_training_and_evaluation(runs):
    run = runs / "smoke/pico/kuhn/sepo-seed-0"
    record(run, step=2)
    record(run, step=25)
    (run.parent / "results").mkdir()
    for name in ("base", "sft-seed-0", "sepo-seed-0"):
        (run.parent / "results" / f"{name}.parquet").touch()
    labels = ["training, step 2", "training, step 25", "evaluation", "evaluation of the base"]
    assert list(archive.recordings(run)) == labels
    assert archive.recordings(run)["evaluation"].name == "sepo-seed-0.parquet"


@pytest.mark.parametrize("mode", ["credited", "auxiliary"])
@pytest.mark.parametrize("game", sk.GAMES)
def test_a_training_match_is_read_move_by_move(tmp_path, game, mode):
    file, episodes = record(tmp_path, game, step=2, mode=mode, seed=3)
    frame = archive.read_episodes(file)
    listed, stored_decisions = archive.matches_of(frame), frame.decisions
    for number, match in enumerate(listed[archive.MATCH].itertuples(index=False)):
        moves = archive.read_match(frame, *match)
        assert moves.equals(
            archive.read_match(frame, **listed.iloc[number][archive.MATCH])
        )  # NumPy's whole numbers
        (episode,) = [
            e for e in episodes if (e.pool, e.opponent, e.group, e.index, e.owner) == (*match, None)
        ]
        mine = moves[moves["who"] == "agent"]
        assert list(mine["action"]) == [d.action for d in episode.decisions]
        assert [episode.own[r - 1] for r in mine["round"]] == list(mine["own"])
        stored = stored_decisions[(stored_decisions[archive.MATCH] == list(match)).all(axis=1)]
        assert list(mine["advantage"]) == list(stored["advantage"])
        assert list(mine["reward"]) == list(stored["reward"])
        assert (moves["prompt"] != "").all() and (moves.loc[moves["who"] != "agent", "reason"] != "").all()
        row = listed[(listed[archive.MATCH] == list(match)).all(axis=1)].iloc[0]
        assert row["own"] == pytest.approx(sum(episode.own) / len(episode.own))


def test_an_evaluation_match_is_read_without_credit(tmp_path):
    game = sk.get_game("ipd")
    episodes = play_matches(
        game, sk.uniform(game), matches(game, POOLS, 2), seed=10_000, common_random_numbers=False
    )
    write_tables(tmp_path / "evaluation.parquet", decision_frame(episodes), round_frame(episodes))
    frame = archive.read_episodes(tmp_path / "evaluation.parquet")
    moves = archive.read_match(frame, "exploit", "always-defect", index=1)
    assert set(moves.loc[moves["who"] == "always-defect", "action"]) == {"DEFECT"}
    assert "advantage" not in moves and len(moves) == 16
    seen = game.initial_state().information(0)
    assert moves["prompt"].iloc[0] == game.render(seen)


def test_a_match_that_does_not_come_out_again_is_refused(tmp_path):
    file, _ = record(tmp_path, "ipd")
    frame = archive.read_episodes(file)
    changed = replace(frame, rounds=frame.rounds.assign(own=frame.rounds["own"] + 1))
    short = replace(frame, decisions=frame.decisions[frame.decisions["round"] < 5])
    for other in (changed, short):
        with pytest.raises(RunError, match="does not come out again"):
            archive.read_match(other, "train", "tit-for-tat")
    with pytest.raises(RunError, match="no match 9 of group 0 against tit-for-tat"):
        archive.read_match(frame, "train", "tit-for-tat", index=9)


def test_broken_and_older_recordings_are_one_line(tmp_path):
    file, _ = record(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="cannot be read") as error:
        archive.read_episodes(file)
    assert "\n" not in str(error.value)
    with pytest.raises(RunError, match="cannot be read"):
        archive.read_episodes(tmp_path / "none.parquet")
    pd.DataFrame({"game": ["kuhn"], "own": [1.0]}).to_parquet(file)
    with pytest.raises(RunError, match=r"no recorded play of this version .missing: action, collusion"):
        archive.read_episodes(file)


def test_a_recording_of_a_game_that_is_not_registered_here_is_not_given_up(tmp_path, monkeypatch):
    """It is as good as ever; the advice to delete it would destroy it."""
    monkeypatch.setitem(sk.GAMES._known, COMMONS.GAME.spec.id, COMMONS.GAME)
    episodes = sk.play(COMMONS.GAME, sk.scripted(COMMONS.GAME, "greedy"), "greedy", episodes=2)
    file = tmp_path / "evaluation.parquet"
    write_tables(file, decision_frame(episodes), round_frame(episodes))
    archive.read_episodes(file)
    monkeypatch.undo()
    with pytest.raises(RunError, match=r"not registered here, 'commons'; sk.register\(GAME\) or") as error:
        archive.read_episodes(file)
    assert "delete" not in str(error.value)


def test_what_cannot_be_read_just_now_is_not_to_be_deleted(tmp_path):
    """A file that is empty, gone, or no recording at all."""
    file, _ = record(tmp_path)
    none = pd.read_parquet(file).iloc[:0]
    none.to_parquet(tmp_path / "empty.parquet")
    pd.DataFrame({"mine": [1]}).to_parquet(tmp_path / "mine.parquet")
    for name in ("empty", "mine", "gone"):
        with pytest.raises(RunError, match=f"{name}.parquet") as error:
            archive.read_episodes(tmp_path / f"{name}.parquet")
        assert "delete" not in str(error.value)


@pytest.mark.parametrize("damage", ["missing", "cut", "other columns"])
def test_a_recording_without_its_rounds_is_one_line(tmp_path, damage):
    file, _ = record(tmp_path)
    rounds = rounds_file(file)
    if damage == "missing":
        rounds.unlink()
    elif damage == "cut":
        rounds.write_bytes(rounds.read_bytes()[:500])
    else:
        pd.read_parquet(rounds).drop(columns="own").to_parquet(rounds)
    with pytest.raises(RunError, match=r"step-000002\.rounds\.parquet") as error:
        archive.read_episodes(file)
    assert "\n" not in str(error.value)


@pytest.fixture
def commons(monkeypatch):
    """The example game, in which nobody moves once the stock is gone, registered for one test."""
    game = COMMONS.GAME
    monkeypatch.setitem(sk.GAMES._known, game.spec.id, game)
    return game


def test_rounds_without_a_decision_keep_their_payoffs(tmp_path, commons):
    """Takers empty the stock early; the rounds after it pay nothing, and count."""
    episodes = sk.play(commons, sk.scripted(commons, "greedy"), "greedy", episodes=3)
    assert sum(len(e.decisions) for e in episodes) < 3 * commons.spec.rounds
    file = tmp_path / "evaluation.parquet"
    write_tables(file, decision_frame(episodes), round_frame(episodes))
    found = archive.read_episodes(file)
    listed = archive.matches_of(found)
    for row, episode in zip(listed.itertuples(), episodes, strict=True):
        assert row.own == pytest.approx(sum(episode.own) / commons.spec.rounds)
        per_decision = sum(episode.own[d.round] for d in episode.decisions) / len(episode.decisions)
        assert row.own < per_decision - 0.5  # what summing over decisions would say
        moves = archive.read_match(found, row.pool, row.opponent, row.group, row.index)
        assert list(moves.loc[moves["who"] == "agent", "action"]) == [d.action for d in episode.decisions]


def test_runs_put_aside_are_not_listed_and_models_are_named_over_relative_bases(tmp_path):
    make_run(tmp_path / "mine" / "warm", "sft", base="owner/name")
    make_run(tmp_path / "mine" / "safe", base="../warm")
    make_run(tmp_path / "mine" / "safe.old-1", base="../warm")
    found = archive.find_runs(tmp_path)
    assert found["run"].to_list() == ["mine/safe", "mine/warm"] and set(found["model"]) == {"owner/name"}


def test_a_manifest_of_another_shape_does_not_stop_the_search(runs):
    file = runs / "smoke/pico/kuhn/sepo-seed-0/manifest.json"
    for value in (
        [],
        None,
        {"format": 1, "status": "done", "request": {"game": "kuhn", "stage": "x", "seed": "y"}},
    ):
        file.write_text(json.dumps(value))
        assert (archive.find_runs(runs)["status"] == archive.BROKEN).sum() == 1
