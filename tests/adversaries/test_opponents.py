"""The grammar of opponents: every kind of name, what it needs, and one line for a name that is none."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import sepo_kit as sk
from sepo_kit.adversaries.opponents import (
    ALLOWED,
    file_label,
    require_there,
    resolve,
    resolve_agent,
    resolve_all,
)
from sepo_kit.engine.policy import NoDistribution, Policy
from sepo_kit.engine.rollout import play_matches
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.objective.credit import assign_credit, training_matches
from sepo_kit.runs import MANIFEST, read_json, write_json
from sepo_kit.training.grpo import train_sepo
from sepo_kit.training.settings import SEPOSettings


class Talker(Policy):
    """Answers, but states nothing."""

    name = "talker"

    def distributions(self, seen):
        raise NoDistribution("it only talks")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_folder):
    """Three steps of SEPO, each saved."""
    settings = SEPOSettings(steps=3, rollouts=2, learning_rate=3e-2, beta=0.0, lora_r=4, save_every=1)
    return train_sepo(tiny_folder, "kuhn", tmp_path_factory.mktemp("runs") / "mine", settings).path


def probabilities(policy):
    return {key: list(row.values()) for key, row in sk.exact.policy_table("kuhn", policy).items()}


# --- names ----------------------------------------------------------------------------------------


def test_a_strategy_is_itself():
    assert resolve("ipd", "grim-trigger").strategy is sk.get_game("ipd").strategy("grim-trigger")


def test_self_is_the_agent():
    agent = sk.uniform("kuhn")
    assert resolve("kuhn", "self", agent) is agent


def test_worst_case_is_the_best_response_to_the_agent():
    agent = sk.uniform("kuhn")
    gained = sk.exact.against("kuhn", agent, resolve("kuhn", "worst-case", agent)).advantage
    assert gained == pytest.approx(11 / 12)
    again = sk.exact.against("kuhn", sk.scripted("kuhn", "nash"), resolve("kuhn", "worst-case", agent))
    assert again.advantage < 0  # it answers the agent it was asked for, and no other


@pytest.mark.parametrize(
    ("game", "agent", "why"),
    [
        ("kuhn", Talker(), "talker states no distribution"),
        ("negotiation_v2", sk.uniform("negotiation_v2"), "negotiation_v2 has too many states"),
    ],
)
def test_where_no_worst_case_is_found_a_line_says_what_to_name_instead(game, agent, why):
    with pytest.raises(ValueError, match=f"{why}; name strategies, self or run:PATH instead"):
        resolve(game, "worst-case", agent)


@pytest.mark.parametrize("name", ["nsh", "", "run:", "Self", "endpoint", "runs/mine", "nash:1"])
def test_a_name_that_is_none_lists_what_is_allowed(name):
    with pytest.raises(ValueError) as error:
        resolve("kuhn", name, sk.uniform("kuhn"))
    assert "known: nash" in str(error.value) and ALLOWED in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["self", "worst-case"])
def test_an_opponent_of_nobody_is_an_error(name):
    with pytest.raises(ValueError, match="is an opponent of an agent, and there is none"):
        resolve("kuhn", name)
    with pytest.raises(ValueError, match="is an opponent of an agent"):
        resolve_agent("kuhn", name)


def test_a_run_is_its_end_or_what_it_was_at_a_step(run):
    end, early, last = (resolve("kuhn", f"run:{run}{at}") for at in ("", "@1", "@3"))
    assert isinstance(end, LanguageModel)
    assert (end.name, early.name) == ("mine", "mine@1")
    assert probabilities(end) == probabilities(last)
    assert probabilities(end) != probabilities(early)


def test_the_adapters_that_outlive_a_run_are_small_and_whole(run):
    assert sorted(f.name for f in (run / "adapters").iterdir()) == [f"step-{n:06d}" for n in (1, 2, 3)]
    for folder in (run / "adapters").iterdir():
        assert sorted(f.name for f in folder.iterdir()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
        ]


@pytest.mark.parametrize(
    ("at", "says"),
    [
        ("@7", "keeps no adapter of step 7; kept: 1, 2, 3"),
        ("@last", "must be a whole number, got 'last'"),
        ("x", "there is no run"),
        ("x@1", "there is no run"),
    ],
)
def test_a_run_or_step_that_is_not_there_is_one_line(run, at, says):
    with pytest.raises(ValueError, match=says) as error:
        resolve("kuhn", f"run:{run}{at}")
    assert "\n" not in str(error.value)


def test_a_folder_may_have_the_sign_of_a_step_in_its_name(run, tmp_path):
    (tmp_path / "mine@2").symlink_to(run)
    assert probabilities(resolve("kuhn", f"run:{tmp_path}/mine@2")) == probabilities(
        resolve("kuhn", f"run:{run}")
    )


def test_a_model_plays_as_it_is_told(tiny_folder):
    found = resolve("kuhn", f"model:{tiny_folder}", temperature=0.5, style="reasoned")
    assert (found.temperature, found.style) == (0.5, "reasoned")
    with pytest.raises(ValueError, match="unknown model 'nobody'"):
        resolve("kuhn", "model:nobody")


def test_an_agent_may_be_named_plainly(run, tiny_folder):
    for name in (str(tiny_folder), f"model:{tiny_folder}", str(run), f"run:{run}@2"):
        assert isinstance(resolve_agent("kuhn", name), LanguageModel)
    with pytest.raises(ValueError, match="or a strategy of kuhn: nash"):
        resolve_agent("kuhn", "nsh")
    (run.parent / "half").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match="holds no model"):
        resolve_agent("kuhn", str(run.parent / "half"))


def test_each_name_is_found_once(run, monkeypatch):
    from sepo_kit.models import loading

    loaded = []
    real = loading.load_model
    monkeypatch.setattr(loading, "load_model", lambda *a, **k: loaded.append(a) or real(*a, **k))
    names = ["nash", f"run:{run}", "self", f"run:{run}", "nash"]
    found = resolve_all("kuhn", names, sk.uniform("kuhn"))
    assert list(found) == ["nash", f"run:{run}", "self"] and len(loaded) == 1


@pytest.mark.parametrize("kind", ["run:{}", "run:{}@2", "model:{}"])
def test_what_lies_here_is_known_to_without_being_loaded(run, tiny_folder, tmp_path, monkeypatch, kind):
    """And what is not, or rests on what is not, is refused as it is where it is to play."""
    name = kind.format(run)
    monkeypatch.setattr("sepo_kit.models.loading._load_pretrained", lambda *_: pytest.fail("loaded"))
    for there in (name, f"model:{tiny_folder}", "model:pico", "self", "nash"):
        require_there(sk.get_game("kuhn"), there)
    require_there(sk.get_game("ipd"), "axelrod:Gradual")
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    manifest = read_json(copied / MANIFEST)
    manifest["chain"][0]["model"] = str(tmp_path / "gone")
    manifest["chain"][0].pop("beside")
    write_json(copied / MANIFEST, manifest)
    with pytest.raises(ValueError, match=r"unknown model '.*gone'"):
        require_there(sk.get_game("kuhn"), kind.format(copied))


@pytest.mark.parametrize(
    ("game", "name", "says"),
    [
        ("kuhn", "run:{}@7", "keeps no adapter of step 7; kept: 1, 2, 3"),
        ("kuhn", "run:{}x", "there is no run"),
        ("kuhn", "run:.", "holds no model .* and no run"),
        ("kuhn", "model:/nope", "unknown model '/nope'"),
        ("kuhn", "axelrod:Gradual", "plays ipd, not kuhn"),
        ("ipd", "axelrod:Nope", "has no strategy 'Nope'"),
        ("ipd", "endpoint:nope", "no endpoint 'nope'"),
        ("ipd", "nsh", "unknown strategy 'nsh'"),
    ],
)
def test_what_is_not_there_is_refused_before_it_plays(run, game, name, says):
    for ask in (require_there, resolve):
        with pytest.raises(ValueError, match=says):
            ask(sk.get_game(game), name.format(run))


def test_labels_of_files_stay_apart():
    names = ["run:a/b", "run:a-b", "run-a-b", "model:a/b", "run:a/b@1", "tit-for-tat", "../up"]
    labels = [file_label(name) for name in names]
    assert len(set(labels)) == len(names) and labels[5] == "tit-for-tat"
    assert not any(sign in label for label in labels for sign in "/:@") and not labels[6].startswith(".")


# --- play and evaluation --------------------------------------------------------------------------


def test_play_takes_a_name_or_a_policy_and_the_game_by_id():
    agent = sk.scripted("ipd", "tit-for-tat")
    by_name = sk.play("ipd", agent, "always-defect", episodes=2)
    assert sk.play(sk.get_game("ipd"), agent, sk.scripted("ipd", "always-defect"), episodes=2) == by_name
    rows = {"start": [0, 1], "CC": [0, 1], "CD": [0, 1], "DC": [0, 1], "DD": [0, 1]}
    table = sk.tabular("ipd", rows, row="memory_one", name="mine")
    (episode, _) = sk.play("ipd", agent, table, episodes=2)
    assert episode.own == by_name[0].own and episode.opponent == "mine"
    assert [d.action for d in episode.answers] == ["DEFECT"] * 8


def test_unknown_games_are_one_line():
    for make in (
        lambda: sk.play("chess", sk.uniform("ipd"), "nash"),
        lambda: sk.scripted("chess", "nash"),
        lambda: sk.uniform("chess"),
        lambda: sk.tabular("chess", {}),
    ):
        with pytest.raises(ValueError, match="unknown game 'chess'; known: ipd"):
            make()


def test_pools_of_other_opponents_are_evaluated_and_enumerated():
    game, agent = sk.get_game("kuhn"), sk.uniform("kuhn")
    pools = replace(game.spec.pools, exploit=("worst-case",), shift=("self",))
    exact = sk.evaluate(agent, game, pools=pools, exact=True)
    assert exact.terms.exploit == pytest.approx(11 / 12)
    assert exact.terms.robust == pytest.approx(0.0, abs=1e-9)  # zero sum, seats taken in turn
    assert exact.terms.payoff == pytest.approx(sk.evaluate(agent, game, exact=True).terms.payoff)
    sampled = sk.evaluate(agent, game, episodes=300, pools=pools)
    assert sampled.terms.exploit == pytest.approx(11 / 12, abs=0.25)  # four standard errors
    assert {e.opponent for e in sampled.episodes if e.pool == "exploit"} == {"worst-case"}


def test_an_unknown_opponent_in_a_pool_is_an_error_before_anything_is_played():
    pools = replace(sk.get_game("kuhn").spec.pools, exploit=("nsh",))
    with pytest.raises(ValueError, match="unknown strategy 'nsh' in kuhn"):
        sk.evaluate(sk.uniform("kuhn"), "kuhn", pools=pools)


def test_a_model_plays_itself_in_one_batch(tiny_folder):
    agent = resolve_agent("kuhn", f"model:{tiny_folder}")
    sizes = []
    act = agent.act
    agent.act = lambda seen, uniforms: sizes.append(len(seen)) or act(seen, uniforms)
    episodes = sk.play("kuhn", agent, "self", episodes=4)
    assert sum(sizes) == sum(len(e.decisions) + len(e.answers) for e in episodes)
    assert all(d.prompt_ids and d.reply == d.action for e in episodes for d in e.answers)


def test_credit_never_meets_a_model_opposite(tiny_folder, run):
    """Another model, and the agent itself: credit has a place for each of the agent's decisions, and for no other."""
    game, agent = sk.get_game("kuhn"), resolve_agent("kuhn", str(tiny_folder))
    todo = training_matches(game, "credited", 2, 1)
    names = {name: f"run:{run}" if number else "self" for number, (_, name) in enumerate(game.opponents)}
    opponents = {name: resolve(game, names[name], agent) for name in names}
    episodes = play_matches(game, agent, todo, seed=0, opponents=opponents)
    assert all(e.answers for e in episodes)
    found = assign_credit(game.spec, episodes)
    wanted = assign_credit(game.spec, [replace(e, answers=[]) for e in episodes])
    assert found.advantage.tolist() == wanted.advantage.tolist()
    assert len(found.advantage) == sum(len(e.decisions) for e in episodes)
