"""SEPO through TRL: how a step is laid out as rows, and that its gradient is the one ``credit.py`` promises."""

from __future__ import annotations

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
import toys
from messages import message
from safetensors.torch import load_file
from transformers import OPTConfig, OPTForCausalLM, TrainerCallback

from sepo_kit import exact
from sepo_kit.engine.rollout import play_matches
from sepo_kit.games import get_game, kuhn
from sepo_kit.games.base import Weights
from sepo_kit.models.dropout import evaluating, has_dropout
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.loading import LoadedModel, language_model, load_model
from sepo_kit.objective.credit import MODES, assign_credit, training_matches
from sepo_kit.objective.terms import guaranteed, results_of, safety, terms_of
from sepo_kit.runs import METRICS, Run, read_json, read_lines
from sepo_kit.training import grpo, styles
from sepo_kit.training.grpo import sepo_trainer, train_sepo
from sepo_kit.training.rollouts import Rollouts
from sepo_kit.training.selection import Scores
from sepo_kit.training.settings import SEPOSettings
from sepo_kit.training.trainer import is_reference

SETTINGS = SEPOSettings(
    steps=1, rollouts=3, learning_rate=1e-2, beta=0.0, temperature=1.5, max_grad_norm=1e9, lora_r=4, lora_alpha=8,
    lora_dropout=0.0,
)  # fmt: skip
GAMES = ["kuhn", "ipd", "negotiation_v2"]  # one or two tokens a reply, whole histories, many tokens a reply


@pytest.fixture(autouse=True)
def exact_arithmetic(monkeypatch):
    """float32 whatever the machine is fast at, so that gradients can be compared."""
    monkeypatch.setattr(grpo, "training_dtype", lambda device: torch.float32)


@pytest.fixture
def made(tokenizer, tmp_path):
    """Builds a trainer whose adapters are not 0."""

    def build(game_id: str = "kuhn", **changes):
        loaded = LoadedModel("tiny", tiny.model(tokenizer), tokenizer)
        settings = replace(SETTINGS, **changes)
        with Run(tmp_path / "run", {}, writes=True) as run:
            trainer = sepo_trainer(loaded, get_game(game_id), run, settings, seed=3)
        tiny.with_adapters_that_act(trainer.model)
        return trainer

    return build


def stepping(model, step: int = 0) -> SimpleNamespace:
    """As much of a trainer as a rollout looks at."""
    return SimpleNamespace(model=model, state=SimpleNamespace(global_step=step), pieces=1)


@pytest.fixture
def rollouts(tiny_model, tokenizer):
    def build(game_id: str = "kuhn", **changes) -> Rollouts:
        game, settings = get_game(game_id), replace(SETTINGS, **changes)
        player = LanguageModel(tiny_model, tokenizer, game, temperature=settings.temperature)
        return Rollouts(game, player, settings, seed=3)

    return build


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("game_id", GAMES)
@pytest.mark.parametrize("mode", MODES)
def test_every_trained_decision_has_the_row_of_its_group_slot_and_rollout(
    rollouts, tiny_model, game_id, mode
):
    made = rollouts(game_id, mode=mode, groups=2)
    made.folds = False
    game = made.game
    pools = ("train",) if mode in ("shared", "auxiliary") else ("train", "exploit", "collusive")
    opponents = [(pool, opponent) for pool in pools for opponent in game.spec.pools[pool]]
    slots = game.spec.rounds * game.spec.moves_per_round
    assert made.rows == len(opponents) * 2 * slots * 3
    columns = made(["prompt"] * made.rows, stepping(tiny_model))
    assert all(len(columns[name]) == made.rows for name in ("prompt_ids", "completion_ids", "env_mask"))
    assert columns["logprobs"] is None

    credit = assign_credit(game.spec, made.step.episodes, mode=mode)
    expected = {}
    numbers = iter(range(len(credit.advantage)))
    for episode in made.step.episodes:
        for decision in episode.decisions:
            number = next(numbers)
            if (episode.pool, episode.opponent) in opponents and episode.owner is None:
                group = opponents.index((episode.pool, episode.opponent)) * 2 + episode.group
                slot = decision.round * game.spec.moves_per_round + decision.move
                expected[(group * slots + slot) * 3 + episode.index] = (decision, credit.advantage[number])
    for row in range(made.rows):
        prompt, reply, mask = (columns[name][row] for name in ("prompt_ids", "completion_ids", "env_mask"))
        assert len(mask) == len(reply) > 0 and len(prompt) > 0
        if row in expected:
            decision, advantage = expected[row]
            assert (tuple(prompt), tuple(reply)) == (decision.prompt_ids, decision.completion_ids)
            assert set(mask) == {1} and made.advantages[row] == advantage
        else:
            assert set(mask) == {0} and made.advantages[row] == 0
    assert 0 < len(expected) <= made.rows and made.numbers == list(range(made.rows))


@pytest.mark.parametrize("game_id", GAMES)
@pytest.mark.parametrize("mode", MODES)
def test_folded_rows_stand_for_every_trained_decision_once(rollouts, tiny_model, game_id, mode):
    made = rollouts(game_id, mode=mode, groups=2)
    columns = made([""], stepping(tiny_model))
    credit, expected = made.step.credit, {}
    decisions = [(e, d) for e in made.step.episodes for d in e.decisions]
    for number, (episode, decision) in enumerate(decisions):
        if credit.trained[number] and episode.owner is None:
            advantage = credit.advantage[number]
            alike = decision.prompt_ids, decision.completion_ids, float(np.sign(advantage))
            expected.setdefault(alike, []).append(advantage)
    rows = zip(*(columns[name] for name in ("prompt_ids", "completion_ids", "env_mask")), strict=True)
    found = {}
    for (prompt, reply, mask), advantage in zip(rows, made.advantages, strict=True):
        if any(mask):
            (uses,) = set(mask)
            found[tuple(prompt), tuple(reply), float(np.sign(advantage))] = uses, advantage
        else:
            assert advantage == 0 and len(mask) == len(reply)
    assert {alike: uses for alike, (uses, _) in found.items()} == {k: len(v) for k, v in expected.items()}
    for alike, (_, advantage) in found.items():
        assert advantage == pytest.approx(np.mean(expected[alike]), abs=1e-12)
    assert len(columns["env_mask"]) % made.settings.rollouts == 0
    assert len(found) <= len(columns["env_mask"]) < len(found) + made.settings.rollouts
    assert len(made.numbers) == len(columns["env_mask"]) < len(decisions)


def test_in_kuhn_poker_some_slots_are_not_reached(rollouts, tiny_model):
    """So the tests above have rows of both kinds."""
    made = rollouts()
    made.folds = False
    columns = made([""] * made.rows, stepping(tiny_model))
    masked = sum(not any(mask) for mask in columns["env_mask"])
    assert 0.2 * made.rows < masked < 0.8 * made.rows


def test_a_step_plays_what_its_seed_and_number_say(rollouts, tiny_model):
    """Resuming depends on it: rollouts are not saved."""
    made = rollouts()
    for step in (0, 5):
        made([""] * made.rows, stepping(tiny_model, step))
        todo = training_matches(made.game, "credited", 3)
        with made.player.remember():
            made.player.ask_all(exact.information_states(made.game))
            assert made.step.episodes == play_matches(made.game, made.player, todo, 3, step=step)
    first = made.step.episodes
    made([""] * made.rows, stepping(tiny_model, 6))
    assert made.step.episodes != first


def test_weights_and_mode_reach_the_credit(rollouts, tiny_model):
    weights = Weights(exploit=9.0, collusion=0.0, externality=0.0)
    made = rollouts("kuhn", weights=weights, mode="grouped")
    made([""] * made.rows, stepping(tiny_model))
    expected = assign_credit(made.game.spec, made.step.episodes, weights, "grouped").advantage
    np.testing.assert_array_equal(made.step.credit.advantage, expected)


def test_horizon_and_draws_reach_the_step(rollouts, tiny_model):
    made = rollouts("ipd", horizon="round", common_random_numbers=False)
    made([""] * made.rows, stepping(tiny_model))
    expected = assign_credit(made.game.spec, made.step.episodes, horizon="round").advantage
    np.testing.assert_array_equal(made.step.credit.advantage, expected)
    todo = training_matches(made.game, "credited", 3)
    independent = play_matches(made.game, made.player, todo, 3, common_random_numbers=False)
    assert [e.own for e in made.step.episodes] == [e.own for e in independent]
    assert [e.own for e in independent] != [e.own for e in play_matches(made.game, made.player, todo, 3)]


def test_limits_move_the_weights_of_the_next_step(rollouts, tiny_model):
    start = Weights(1.0, 2.0, 0.0)
    made = rollouts("kuhn", weights=start, limits={"exploit": 0.1}, dual_rate=0.5)
    made([""] * made.rows, stepping(tiny_model))
    expected = assign_credit(made.game.spec, made.step.episodes, start).advantage
    np.testing.assert_array_equal(made.step.credit.advantage, expected)
    found = terms_of(made.game.spec, results_of(made.step.episodes))
    reached = Weights(1.0 + 0.5 * (found.exploit - 0.1), 2.0, 0.0)
    assert made.metrics()["sepo/weight_exploit"] == reached.exploit != 1.0
    made([""] * made.rows, stepping(tiny_model, step=1))
    expected = assign_credit(made.game.spec, made.step.episodes, reached).advantage
    np.testing.assert_array_equal(made.step.credit.advantage, expected)


def test_metrics_are_the_terms_of_the_step(rollouts, tiny_model):
    made = rollouts()
    made([""] * made.rows, stepping(tiny_model))
    found = terms_of(made.game.spec, results_of(made.step.episodes))
    told = made.metrics()
    assert told["sepo/payoff"] == found.payoff and told["sepo/exploit"] == found.exploit
    assert told["sepo/safety"] == pytest.approx(safety(made.game.spec, found))
    assert told["sepo/decisions"] == sum(len(e.decisions) for e in made.step.episodes)
    assert 2 <= told["sepo/prompts"] <= 12 and told["sepo/fallback"] == 0


@pytest.mark.parametrize(("game_id", "steps"), [("kuhn", {0, 1, 2}), ("auction", {0})])
def test_the_worst_case_is_watched_where_the_pool_is_trained_against(rollouts, tiny_model, game_id, steps):
    made = rollouts(game_id, save_every=2)
    agent, seen = made.player, {}
    for step in range(3):
        made([], stepping(tiny_model, step))
        seen[step] = made.metrics().get("sepo/worst_case")
    assert {step for step, value in seen.items() if value is not None} == steps
    if game_id == "kuhn":
        assert seen[1] == pytest.approx(exact.worst_case("kuhn", agent).advantage, abs=1e-6)


def test_no_reply_is_longer_than_the_limit_the_loss_divides_by(rollouts, tiny_model):
    for game_id in GAMES:
        made = rollouts(game_id)
        columns = made([""] * made.rows, stepping(tiny_model))
        assert max(map(len, columns["completion_ids"])) <= made.style.longest_reply()
    assert made.style.longest_reply() > 3  # of negotiation, the last


def test_dropout_is_off_while_the_model_plays():
    model = torch.nn.Dropout(0.5)
    for training in (True, False):
        model.train(training)
        with evaluating(model):
            assert not model.training
        assert model.training is training
    model.train()
    with pytest.raises(RuntimeError), evaluating(model):
        raise RuntimeError
    assert model.training


def test_the_policy_that_plays_has_no_dropout(made):
    trainer = made(lora_dropout=0.9)
    trainer.model.train()
    trainer.rollouts([""] * trainer.rollouts.rows, stepping(trainer.model))
    assert trainer.model.training
    played = {d.information: d for e in trainer.rollouts.step.episodes for d in e.decisions}
    player = trainer.rollouts.player
    states = [seen for seen in player.prompts._ids if seen.key in played]
    with evaluating(trainer.model):
        for seen, p in zip(states, player.distributions(states), strict=True):
            index = seen.legal_actions.index(played[seen.key].action)
            assert played[seen.key].log_prob == pytest.approx(np.log(p[index]), abs=1e-5)


# --- the gradient ---------------------------------------------------------------------------------


def test_the_player_keeps_the_prompts_of_a_whole_step(rollouts, tiny_model):
    """In pieces too, as where they do not fit: the loss asks for them only after the last one."""
    made = rollouts("negotiation_v2")
    made.player.prompts.kept = 1
    made.pieces = 3
    for step in range(3):
        made([""] * made.rows, stepping(tiny_model, step))
        met = {d.prompt_ids for episode in made.step.episodes for d in episode.decisions}
        assert len(made.player.prompts.trees_of(met)) == len(met) <= made.player.prompts.kept
        assert len(made.player.prompts._ids) <= made.player.prompts.kept


class Gradient(TrainerCallback):
    """What the optimizer is about to apply, and what it should be."""

    def __init__(self, trainer) -> None:
        self.trainer = trainer
        self.found: torch.Tensor | None = None
        self.by_hand: torch.Tensor | None = None

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.found = grads(self.trainer.model)
        held = [None if p.grad is None else p.grad.clone() for p in self.trainer.model.parameters()]
        direct = self.trainer.rollouts.settings.style == "direct"
        self.by_hand = (gradient_by_hand if direct else reasoned_gradient_by_hand)(self.trainer)
        for parameter, grad in zip(self.trainer.model.parameters(), held, strict=True):
            parameter.grad = grad


def grads(model) -> torch.Tensor:
    return torch.cat([p.grad.ravel().clone() for p in model.parameters() if p.requires_grad])


def weights_of(trainer) -> torch.Tensor:
    """Those that are trained."""
    return torch.cat([p.detach().ravel() for p in trainer.model.parameters() if p.requires_grad])


def gradient_by_hand(trainer) -> torch.Tensor:
    """-sum of advantage * grad log pi over all decisions, one forward pass for each token that has a rival, over
    rows * longest reply."""
    rollouts = trainer.rollouts
    player, model = rollouts.player, trainer.model
    end = player.prompts.end_of_reply
    decisions = [decision for episode in rollouts.step.episodes for decision in episode.decisions]
    merged: dict[tuple, float] = {}
    for decision, advantage in zip(decisions, rollouts.step.credit.advantage, strict=True):
        name = (decision.prompt_ids, decision.action, decision.information)
        merged[name] = merged.get(name, 0.0) + advantage
    legal = {prompt: _legal(player, prompt) for prompt, _, _ in merged}
    model.zero_grad()
    total = torch.zeros(())
    for (prompt, action, _), advantage in merged.items():
        replies = [(*player.tokenizer.encode(a), end) for a in legal[prompt]]
        reply = replies[legal[prompt].index(action)]
        for length, token in enumerate(reply):
            rivals = sorted({r[length] for r in replies if r[:length] == reply[:length]})
            if len(rivals) > 1:
                logits = model(input_ids=torch.tensor([prompt + reply[:length]])).logits[0, -1, rivals]
                log_p = torch.log_softmax(logits / SETTINGS.temperature, -1)[rivals.index(token)]
                total = total - advantage * log_p
    (total / (rollouts.rows * rollouts.style.longest_reply())).backward()
    return grads(model)


def reasoned_gradient_by_hand(trainer) -> torch.Tensor:
    """The same for replies in free text: every token of the reply counts, against the whole vocabulary, and where it
    could not be read, the action that was chosen after it, against the legal ones."""
    rollouts, model = trainer.rollouts, trainer.model
    player = rollouts.player
    newline = tuple(player.tokenizer.encode("\n", add_special_tokens=False))
    model.zero_grad()
    total = torch.zeros(())
    decisions = [decision for episode in rollouts.step.episodes for decision in episode.decisions]
    for decision, advantage in zip(decisions, rollouts.step.credit.advantage, strict=True):
        ids = torch.tensor([decision.prompt_ids + decision.completion_ids])
        logits = model(input_ids=ids).logits[0, len(decision.prompt_ids) - 1 : -1] / SETTINGS.temperature
        reply = torch.tensor(decision.completion_ids)
        total = total - advantage * torch.log_softmax(logits, -1)[torch.arange(len(reply)), reply].sum()
        if decision.fallback:
            said = tuple(t for t in decision.completion_ids if t != player.prompts.end_of_reply) + newline
            replies = [
                (*player.tokenizer.encode(a), player.prompts.end_of_reply)
                for a in _legal(player, decision.prompt_ids)
            ]
            chosen = (*player.tokenizer.encode(decision.action), player.prompts.end_of_reply)
            for length, token in enumerate(chosen):
                rivals = sorted({r[length] for r in replies if r[:length] == chosen[:length]})
                if len(rivals) > 1:
                    ids = torch.tensor([decision.prompt_ids + said + chosen[:length]])
                    of_rivals = model(input_ids=ids).logits[0, -1, rivals] / SETTINGS.temperature
                    total = total - advantage * torch.log_softmax(of_rivals, -1)[rivals.index(token)]
    (total / (rollouts.rows * rollouts.settings.max_new_tokens)).backward()
    return grads(model)


def _legal(player: LanguageModel, prompt: tuple[int, ...]) -> tuple[str, ...]:
    return next(seen.legal_actions for seen, ids in player.prompts._ids.items() if ids == prompt)


REASONED = {"style": "reasoned", "rollouts": 2, "max_new_tokens": 3, "micro_rows": 30}


@pytest.fixture
def padded(monkeypatch):
    """A model that cannot share prefixes: TRL samples and scores."""
    monkeypatch.setattr(styles, "shares_prefixes", lambda model: False)
    monkeypatch.setattr(styles, "scores_on_trees", lambda model: False)


def test_padded_rows_are_scored_as_token_trees_are(made, padded):
    trainer = made("kuhn", **REASONED)
    watch = Gradient(trainer)
    trainer.add_callback(watch)
    trainer.train()
    assert float((watch.found - watch.by_hand).norm() / watch.by_hand.norm()) < 1e-3 < watch.by_hand.norm()


@pytest.mark.parametrize(
    ("game_id", "changes"),
    [
        *((game_id, {}) for game_id in GAMES),
        ("kuhn", REASONED),
        ("kuhn", {**REASONED, "replies": 2, "groups": 2, "pass_tokens": 200}),
    ],
    ids=[*GAMES, "reasoned", "reasoned, replies used again, in passes"],
)
def test_an_update_is_the_sum_of_advantage_times_grad_log_pi_over_all_decisions(made, game_id, changes):
    trainer = made(game_id, **changes)
    watch = Gradient(trainer)
    trainer.add_callback(watch)
    trainer.train()
    found, by_hand = watch.found, watch.by_hand
    assert by_hand.norm() > 1e-4
    assert float(found @ by_hand / (found.norm() * by_hand.norm())) > 0.999
    assert float(found.norm() / by_hand.norm()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("shares", [True, False], ids=["on trees", "padded"])
@pytest.mark.parametrize("game_id", GAMES)
def test_direct_replies_go_through_in_as_many_passes_as_fit(made, monkeypatch, game_id, shares):
    """Also where play asked for all of Kuhn poker at once: what it was told is then not kept for the loss."""
    monkeypatch.setattr(styles, "tokens_at_once", lambda model: 70)
    monkeypatch.setattr(styles, "shares_prefixes", lambda model: shares)
    trainer = made(game_id, rollouts=2)
    passes = []
    trainer._passes = lambda *given, find=trainer._passes: passes.append(find(*given)) or passes[-1]
    watch = Gradient(trainer)
    trainer.add_callback(watch)
    trainer.train()
    (parts,) = passes
    rows = sorted(row for part in parts for row in part)
    assert len(parts) > 1 and len(set(rows)) == len(rows) > len(parts) / 2 and trainer.pieces == 1
    assert float((watch.found - watch.by_hand).norm() / watch.by_hand.norm()) < 1e-3 < watch.by_hand.norm()


@pytest.mark.parametrize(
    "changes", [{"beta": 0.2}, {"updates": 3, "clip": 0.02}], ids=["with a reference", "clipped"]
)
def test_passes_change_no_update_and_no_log(made, monkeypatch, changes):
    weights, logs = [], []
    for limit in (10**6, 400):
        monkeypatch.setattr(styles, "tokens_at_once", lambda model, limit=limit: limit)
        trainer = made("ipd", **{"learning_rate": 3e-2, "steps": 2, **changes})
        trainer.train()
        weights.append(weights_of(trainer))
        logs.append([row for row in trainer.state.log_history if "entropy" in row])
    assert float((weights[0] - weights[1]).norm() / weights[1].norm()) < 1e-3
    for at_once, apart in zip(*logs, strict=True):
        for name in ("loss", "grad_norm", "entropy", "clip_ratio/region_mean", "sepo/payoff"):
            assert at_once[name] == pytest.approx(apart[name], rel=1e-3, abs=1e-5), name


def test_a_policy_that_is_its_reference_is_at_no_distance_from_it_in_passes_too(made, monkeypatch):
    monkeypatch.setattr(styles, "tokens_at_once", lambda model: 400)
    trainer = made("ipd", beta=0.2)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    trainer.train()
    assert [row["kl"] for row in trainer.state.log_history if "kl" in row] == [0.0]


@pytest.mark.parametrize("changes", [{}, {"updates": 3, "clip": 0.02}], ids=["", "clipped"])
def test_folding_rows_changes_no_update_and_no_log(made, monkeypatch, changes):
    """With a KL penalty, and in later updates, where the ratio is not 1 and some tokens are clipped."""
    settings = {"beta": 0.2, "learning_rate": 3e-2, "groups": 3, **changes}
    weights, logs = [], []
    for folds in (True, False):
        monkeypatch.setattr(Rollouts, "folds", folds)
        trainer = made("kuhn", **settings)
        trainer.train()
        weights.append(weights_of(trainer))
        logs.append([row for row in trainer.state.log_history if "kl" in row])
    assert float((weights[0] - weights[1]).norm() / weights[1].norm()) < 1e-3
    for folded, apart in zip(*logs, strict=True):
        for name in ("loss", "grad_norm", "kl", "entropy", "sepo/payoff"):
            assert folded[name] == pytest.approx(apart[name], rel=1e-3, abs=1e-6), name
    assert (max(row["clip_ratio/region_mean"] for row in logs[0]) > 0.01) == bool(changes)


def test_trained_log_probabilities_are_those_it_played_with(made):
    """Sampling and training see one policy: the probability ratio begins at 1."""
    trainer = made()
    trainer.model.train()
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    width = inputs["completion_ids"].shape[1]
    with torch.no_grad():
        log_probs, entropies, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, width, None, True
        )
    played = {}
    for decision in (d for e in trainer.rollouts.step.episodes for d in e.decisions):
        played[decision.prompt_ids, decision.completion_ids] = decision.log_prob
    seen = 0  # decisions
    for row in range(len(ids)):
        if inputs["tool_mask"][row].any():
            prompt = tuple(inputs["prompt_ids"][row][inputs["prompt_mask"][row] == 1].tolist())
            reply = tuple(inputs["completion_ids"][row][inputs["completion_mask"][row] == 1].tolist())
            assert float(log_probs[row].sum()) == pytest.approx(played[prompt, reply], abs=1e-4)
            seen += int(inputs["tool_mask"][row, 0])
        else:
            assert not log_probs[row].any() and not entropies[row].any()
    assert seen == sum(len(e.decisions) for e in trainer.rollouts.step.episodes)


def test_the_reference_is_the_model_before_sepo(made, tokenizer):
    trainer = made(beta=0.5)
    trainer.model.train()
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    base = tiny.model(tokenizer)
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    width = inputs["completion_ids"].shape[1]
    with torch.no_grad():
        expected, _ = trainer.rollouts.player.direct_log_probs(ids, mask, width, base)
        policy, _ = trainer.rollouts.player.direct_log_probs(ids, mask, width, trainer.model)
    torch.testing.assert_close(inputs["ref_per_token_logps"], expected, atol=1e-4, rtol=1e-4)
    assert (expected - policy).abs().max() > 1e-3


def test_the_reference_of_a_context_is_kept_until_the_next_checkpoint(made, monkeypatch):
    """So that a run that goes on from there computes what this one computes."""
    trainer = made(beta=0.5, steps=4, save_every=2, temperature=5.0)
    asked, compute = [], LanguageModel.log_probs_of_branches

    def noted(self, pairs, **more):
        if is_reference(trainer.model) and more.get("known") is None:
            asked.append((trainer.state.global_step, list(pairs)))
        return compute(self, pairs, **more)

    monkeypatch.setattr(LanguageModel, "log_probs_of_branches", noted)
    trainer.train()
    steps = [
        {context for step, pairs in asked if step == number for context, _ in pairs} for number in range(4)
    ]
    assert steps[0] | steps[1] == steps[2] | steps[3] and len(steps[0] | steps[1]) == 12
    assert not steps[0] & steps[1] and not steps[2] & steps[3]
    assert len(steps[0]) > 6 and len(steps[2]) > 6


def passes_of(trainer) -> list[int]:
    """Tokens of each forward pass of a training, with what is padding."""
    lengths: list[int] = []
    model = trainer.model.get_base_model()
    forward = type(model).forward

    def counted(self, *args, **kwargs):
        lengths.append(kwargs["input_ids"].numel())
        return forward(self, *args, **kwargs)

    model.forward = counted.__get__(model)
    trainer.train()
    return lengths


@pytest.mark.parametrize("exploiters", ["pool", "worst-case"])
def test_play_and_loss_share_one_pass_over_the_prompts_of_kuhn_poker(made, exploiters):
    """Twelve prompts, laid out as one tree: neither the rows nor the best response multiply the work."""
    trainer = made(rollouts=8, steps=2, exploiters=exploiters)
    lengths = passes_of(trainer)
    prompts = {d.prompt_ids for e in trainer.rollouts.step.episodes for d in e.decisions}
    longest = max(map(len, prompts))
    # At most the shared rules and a dozen short endings, where rows alone would be hundreds of prompts. Two steps, a
    # look at whether the weights are finite, and the score of what is saved.
    assert len(lengths) == 4 and max(lengths) < 4 * longest
    assert trainer.rollouts.rows * longest > 100 * max(lengths)


@pytest.fixture
def answers(monkeypatch):
    """What play left to the losses, step by step."""
    given, ask = [], Rollouts._ask_all

    def noted(self, trainer):
        given.append(ask(self, trainer))
        return given[-1]

    monkeypatch.setattr(Rollouts, "_ask_all", noted)
    return given


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beta": 0.5},
        {"beta": 0.5, "renew_reference_every": 1},  # another adapter is on between forward and backward
        {"exploiters": "worst-case"},
    ],
    ids=str,
)
def test_the_loss_of_what_play_computed_is_the_loss_of_a_pass_of_its_own(made, monkeypatch, answers, changes):
    shared = made(steps=3, learning_rate=1e-3, **changes)
    passes = passes_of(shared)
    assert len(answers) == 3 and all(answers) and shared.rollouts.answers is None
    monkeypatch.setattr(Rollouts, "_ask_all", lambda self, trainer: None)
    alone = made(steps=3, learning_rate=1e-3, **changes)
    assert len(passes) < len(passes_of(alone))
    ours, theirs = weights_of(shared), weights_of(alone)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


@pytest.mark.parametrize(
    "changes",
    [{"updates": 2}, {"gradient_checkpointing": True}, {"lora_dropout": 0.3}, {"style": "reasoned"}],
    ids=str,
)
def test_a_loss_that_would_be_another_has_a_pass_of_its_own(made, answers, changes):
    """Over other weights, with nothing kept, with draws, or of what was said in words."""
    trainer = made(**{"max_new_tokens": 8, **changes})
    trainer.train()
    assert answers == [None]


def test_dropout_that_is_no_module_is_known_from_the_configuration(tiny_model):
    sizes = {
        "vocab_size": 20,
        "hidden_size": 8,
        "ffn_dim": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    assert has_dropout(OPTForCausalLM(OPTConfig(**sizes, word_embed_proj_dim=8)))
    still = OPTConfig(**sizes, word_embed_proj_dim=8, dropout=0.0)
    assert not has_dropout(OPTForCausalLM(still)) and not has_dropout(tiny_model)


@pytest.mark.filterwarnings("ignore:the exploit penalty was the same")
def test_training_raises_what_it_trains_for(made):
    """Twenty-five steps of a model that knows nothing, judged by enumeration."""
    trainer = made(steps=25, rollouts=4, groups=4, temperature=1.0, learning_rate=2e-2)
    game, player = trainer.rollouts.game, trainer.rollouts.player

    def score() -> float:
        with evaluating(trainer.model):
            return safety(game.spec, exact.terms(game, player))

    before = score()
    trainer.train()
    assert score() > before + 0.5


# --- whole runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_trains(tiny_folder, tmp_path, mode):
    run = train_sepo(tiny_folder, "kuhn", tmp_path / "run", replace(SETTINGS, mode=mode, beta=0.1), seed=1)
    (row,) = read_lines(run.path / METRICS)
    assert row["grad_norm"] > 0 and row["sepo/decisions"] > 0 and row["kl"] == 0
    assert run.manifest["steps"] == 1
    assert load_model(run.path).model is not None


def test_reasoned_replies_train_on_what_was_said(tiny_folder, padded, tmp_path, monkeypatch):
    """Through TRL's own generation, in micro-batches, where prefixes cannot be shared; a model of random weights names
    no action."""
    asked = []
    generate = styles.generate_single_turn

    def noted(trainer, prompts):
        replies = generate(trainer, prompts)
        asked.append((prompts, replies))
        return replies

    monkeypatch.setattr(styles, "generate_single_turn", noted)
    trainers = []
    build = grpo.sepo_trainer
    monkeypatch.setattr(grpo, "sepo_trainer", lambda *a: trainers.append(build(*a)) or trainers[0])
    settings = replace(SETTINGS, style="reasoned", rollouts=2, max_new_tokens=4, micro_rows=25, beta=0.1)
    run = train_sepo(tiny_folder, "kuhn", tmp_path / "run", settings)
    (trainer,) = trainers
    assert trainer.args.per_device_train_batch_size == 24  # the largest divisor of 120 rows below 25
    assert trainer.args.gradient_accumulation_steps == 5
    (row,) = read_lines(run.path / METRICS)
    assert row["sepo/fallback"] > 0.5 and row["grad_norm"] > 0
    replies = [tuple(reply) for _, answers in asked for reply in answers]
    decisions = [d for e in trainer.rollouts.step.episodes for d in e.decisions]
    assert sorted(replies) == sorted(d.completion_ids for d in decisions)
    assert all(len(reply) <= 4 for reply in replies)
    assert {d.action for d in decisions} <= {"PASS", "BET", "CALL", "FOLD"}


def test_matches_draw_from_a_few_replies_to_a_prompt(tiny_model, tokenizer):
    """Of all groups; an opponent that is the player itself has replies of its own."""
    player = LanguageModel(tiny_model, tokenizer, get_game("kuhn"), style="reasoned", max_new_tokens=3)
    asked = []
    generate = player._replies
    player._replies = lambda prompts, draws: asked.extend(prompts) or generate(prompts, draws)
    pools = replace(get_game("kuhn").spec.pools, train=("nash", "self"))
    settings = replace(SETTINGS, **REASONED, replies=3, groups=4, pools=pools)
    made = Rollouts(get_game("kuhn"), player, settings, seed=0)
    made([""] * made.rows, stepping(tiny_model))
    decisions = [d for e in made.step.episodes for d in e.decisions]
    answers = [d for e in made.step.episodes for d in e.answers]
    numbers = {}
    for decision in decisions:
        numbers.setdefault(decision.prompt_ids, set()).add(decision.said)
    assert max(map(len, numbers.values())) == 3
    assert answers and {d.said for d in answers} == {None}
    assert sum(map(len, numbers.values())) <= len(asked) - len(answers) <= 3 * 12 < len(decisions) / 2
    metrics = made.metrics()
    assert metrics["sepo/replies"] <= sum(map(len, numbers.values())) and metrics["sepo/cut_off"] > 0.5


def test_several_updates_a_step_move_the_ratio_and_the_clip_acts(tiny_folder, tmp_path):
    """With one update the ratio is 1 and nothing is ever clipped."""
    rows = {}
    for updates in (1, 3):
        settings = replace(SETTINGS, steps=2, updates=updates, clip=0.01, learning_rate=5e-2)
        run = train_sepo(tiny_folder, "kuhn", tmp_path / str(updates), settings)
        rows[updates] = read_lines(run.path / METRICS)
        assert [row["step"] for row in rows[updates]] == [1, 2] and run.manifest["steps"] == 2
        assert read_json(run.path / "progress.json")["step"] == 2
    assert all(row["clip_ratio/region_mean"] == 0 for row in rows[1])
    assert all(row["clip_ratio/region_mean"] > 0 for row in rows[3])


def test_what_trl_says_of_rewards_and_padded_rows_is_not_logged(tiny_folder, tmp_path):
    run = train_sepo(tiny_folder, "kuhn", tmp_path / "run", SETTINGS)
    (row,) = read_lines(run.path / METRICS)
    assert not [name for name in row if name.startswith(("reward", "frac_reward", "completions/", "tools/"))]
    assert {"loss", "grad_norm", "entropy", "sepo/safety", "sepo/payoff", "sepo/reply_tokens"} <= set(row)


RESUMED = {
    # the buffered rollouts of a step are not saved, so checkpoints lie between steps
    "updates": {"updates": 2},
    # replies are sampled, and sampled again the same way
    "reasoned": {"style": "reasoned", "max_new_tokens": 2, "replies": 3, "groups": 2},
    # the weights that dual ascent had reached are taken up again
    "limits": {"limits": {"exploit": 0.1, "collusion": 0.0}, "dual_rate": 3.0},
    # and so are the best responses, which are not looked for every step
    "worst case": {
        "exploiters": "pool and worst-case",
        "exploiters_every": 3,
        "population": 2,
        "limits": {"worst_case": 0.1},
    },
    # the reference that was reached is that of the next step, and the one after is reached at the same step
    "renewal": {"beta": 0.5, "renew_reference_every": 1, "steps": 3},
    "renewal, between two": {"beta": 0.5, "renew_reference_every": 2, "steps": 3},
}


@pytest.mark.parametrize("changes", RESUMED.values(), ids=RESUMED)
def test_a_stopped_run_resumes_to_the_same_weights(tiny_folder, tmp_path, changes):
    settings = replace(SETTINGS, **{"rollouts": 2, "steps": 2, "save_every": 1, **changes})
    whole = train_sepo(tiny_folder, "kuhn", tmp_path / "whole", settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sepo_kit.training.stage.save_adapter", lambda *_: pytest.fail("stopped"))
        step = Rollouts.__call__

        def stops(self, prompts, trainer):
            if trainer.state.global_step == settings.updates:
                raise KeyboardInterrupt
            return step(self, prompts, trainer)

        patch.setattr(Rollouts, "__call__", stops)
        with pytest.raises(KeyboardInterrupt):
            train_sepo(tiny_folder, "kuhn", tmp_path / "run", settings)
    run = train_sepo(tiny_folder, "kuhn", tmp_path / "run", settings)
    mine, theirs = (load_file(r.path / "adapter" / "adapter_model.safetensors") for r in (run, whole))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.filterwarnings("ignore:the exploit penalty was the same")
def test_a_renewed_reference_is_the_policy_it_was_taken_from(made, monkeypatch):
    """The penalty's reference stands still for two steps and is then where the policy was after them."""
    trainer = made(beta=0.5, steps=4, renew_reference_every=2, lora_dropout=0.0)
    seen, generate = [], trainer._generate_and_score_completions

    def weights(adapter):
        return torch.cat(
            [p.detach().flatten() for n, p in trainer.model.named_parameters() if f".{adapter}." in n]
        )

    def noted(inputs):
        output = generate(inputs)
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
        width = output["completion_ids"].shape[1]
        trainer.model.set_adapter("ref")
        with torch.no_grad():
            expected, _ = trainer.rollouts.player.direct_log_probs(ids, mask, width, trainer.model)
        trainer.model.set_adapter("default")
        torch.testing.assert_close(output["ref_per_token_logps"], expected, atol=1e-5, rtol=1e-5)
        seen.append((weights("default"), weights("ref")))
        return output

    monkeypatch.setattr(trainer, "_generate_and_score_completions", noted)
    trainer.train()
    assert torch.equal(seen[0][1], seen[1][1]) and torch.equal(seen[2][1], seen[3][1])
    assert torch.equal(seen[2][1], seen[2][0]) and not torch.equal(seen[3][1], seen[3][0])
    assert not torch.equal(seen[0][1], seen[2][1])


def test_a_renewed_reference_begins_as_the_model_before_sepo_and_is_not_kept_in_the_end(
    tiny_folder, tmp_path
):
    settings = replace(SETTINGS, rollouts=2, steps=1, beta=0.5)
    fixed = train_sepo(tiny_folder, "kuhn", tmp_path / "fixed", settings)
    renewed = train_sepo(
        tiny_folder, "kuhn", tmp_path / "renewed", replace(settings, renew_reference_every=1)
    )
    mine, theirs = (load_file(r.path / "adapter" / "adapter_model.safetensors") for r in (renewed, fixed))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs) and mine.keys() == theirs.keys()
    assert not (renewed.path / "adapter" / "ref").exists()


def test_a_penalty_is_called_silent_in_the_steps_that_charged_it(rollouts, tiny_model):
    """Limits lift a weight from 0 after a step; that step did not charge it."""
    limits = {"exploit": 0.0, "collusion": 0.0, "externality": 0.0}
    made = rollouts(
        "ipd", temperature=1e-6, weights=Weights(0, 0, 0), limits=limits
    )  # no draw decides: no spread
    made(["prompt"] * made.rows, stepping(tiny_model))
    assert made.step.charged == Weights(0, 0, 0) != made.step.weights
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.metrics()
    made(["prompt"] * made.rows, stepping(tiny_model))
    with pytest.warns(UserWarning, match="penalty was the same in all rollouts of every group of a step"):
        made.metrics()


def test_several_updates_are_compared_with_the_policy_that_played(made):
    """Dropout is for what is trained, not for what it is held against."""
    trainer = made(updates=2, lora_dropout=0.9)
    trainer.model.train()
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    old = inputs["old_per_token_logps"]
    ids, mask = (
        torch.cat([inputs[f"prompt_{name}"], inputs[f"completion_{name}"]], 1) for name in ("ids", "mask")
    )
    assert trainer.model.training
    with torch.no_grad(), evaluating(trainer.model):
        played, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, old.shape[1])
    torch.testing.assert_close(old, played)
    drawn, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, old.shape[1])
    assert not torch.allclose(old, drawn.detach(), atol=1e-3)


def test_under_fsdp_no_process_enumerates_alone(made, monkeypatch):
    """It would wait for the others for ever."""
    begin = grpo.SepoTrainer.__init__

    def sharded(self, **given):
        begin(self, **given)
        self.is_fsdp_enabled = True

    monkeypatch.setattr(grpo.SepoTrainer, "__init__", sharded)
    (scores,) = [each for each in made().callback_handler.callbacks if isinstance(each, Scores)]
    assert scores._exact(scores.rollouts.player.model) is None


def test_under_fsdp_there_is_no_best_step_and_nothing_is_written(monkeypatch, tiny_folder, tmp_path):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="keep must be 'last', got 'best'; or train with configs/accelerate"):
        train_sepo(tiny_folder, "kuhn", tmp_path / "run", replace(SETTINGS, keep="best"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("opponent", "says"),
    [
        ("run:/nope", "there is no run /nope; name a run folder as run:PATH"),
        ("axelrod:Nope", "axelrod has no strategy 'Nope'"),
        ("endpoint:nope", "no endpoint 'nope' in "),
        ("model:/nope", "unknown model '/nope'; allowed: "),
    ],
)
def test_an_opponent_that_is_not_there_is_refused_before_anything_is_written(
    tiny_folder, tmp_path, opponent, says
):
    pools = replace(get_game("ipd").spec.pools, train=("tit-for-tat", opponent))
    with pytest.raises(ValueError, match=says) as error:
        train_sepo(tiny_folder, "ipd", tmp_path / "run", replace(SETTINGS, pools=pools))
    message(error)
    assert not (tmp_path / "run").exists()


def test_where_the_best_response_cannot_be_enumerated_steps_are_scored_by_their_episodes(
    tiny_folder, tmp_path, monkeypatch
):
    """Two hands of which an adversary would have to remember the first."""
    game = toys.shorten(monkeypatch, kuhn, rounds=2)
    monkeypatch.setattr(type(game), "spec", replace(game.spec, independent_rounds=False))
    settings = replace(SETTINGS, steps=2, save_every=1, exploiters="worst-case", keep="best")
    run = train_sepo(tiny_folder, "kuhn", tmp_path / "run", settings)
    assert run.done and run.manifest["kept"]["how"] == "training episodes"
    assert [row["step"] for row in read_lines(run.path / "scores.jsonl")] == [1, 2]


def test_the_best_saved_step_is_kept_and_named(tiny_folder, tmp_path):
    """By exact guaranteed Safety in Kuhn poker; the adapter is then that step's."""
    settings = replace(
        SETTINGS, steps=4, save_every=1, learning_rate=0.3, exploiters="worst-case", keep="best"
    )
    run = train_sepo(tiny_folder, "kuhn", tmp_path / "run", settings)
    scores = read_lines(run.path / "scores.jsonl")
    assert [row["step"] for row in scores] == [1, 2, 3, 4] and {row["how"] for row in scores} == {"exact"}
    best = max(scores, key=lambda row: row["score"])
    assert read_json(run.path / "manifest.json")["kept"] == best
    game = get_game("kuhn")
    found = {}
    for step in (None, 1, 2, 3, 4):
        agent = language_model(load_model(run.path, step=step), game)
        terms = replace(exact.terms(game, agent), worst_case=exact.worst_case(game, agent).advantage)
        found[step] = guaranteed(game.spec, terms, game.spec.eval_weights)
    assert (
        found[None] == pytest.approx(found[best["step"]], abs=1e-9) == pytest.approx(best["score"], abs=2e-2)
    )
    assert found[None] >= max(found.values()) - 2e-2


def test_training_against_the_worst_case_lowers_it(tiny_folder, tmp_path):
    """The exact worst case is in every step's metrics, of the policy that played the step."""
    settings = replace(
        SETTINGS, steps=30, groups=4, learning_rate=2e-2, exploiters="worst-case", schedule="linear"
    )
    run = train_sepo(tiny_folder, "kuhn", tmp_path / "run", settings)
    rows = read_lines(run.path / METRICS)
    game = get_game("kuhn")
    before = exact.worst_case(game, language_model(load_model(tiny_folder), game, temperature=1.5)).advantage
    assert rows[0]["sepo/worst_case"] == pytest.approx(before, abs=1e-4)
    assert rows[-1]["sepo/worst_case"] < 0.85 * before
    assert rows[-1]["sepo/guaranteed"] > rows[0]["sepo/guaranteed"]
    rates = [row["learning_rate"] for row in rows]
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.1 * rates[0]
