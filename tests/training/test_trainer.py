"""How rows are scored: which go through the model, how often, in how many pieces, and what happens to broken ones."""

from __future__ import annotations

import warnings
from dataclasses import replace
from math import nan

import forked
import large_vocabulary
import pytest
import tiny
import torch

from sepo_kit.games import get_game
from sepo_kit.games.base import Weights
from sepo_kit.models.loading import LoadedModel, load_model
from sepo_kit.runs import Run
from sepo_kit.training import grpo, sft
from sepo_kit.training.demonstrations import demonstrations
from sepo_kit.training.grpo import sepo_trainer
from sepo_kit.training.memory import is_out_of_memory, until_it_fits
from sepo_kit.training.settings import SEPOSettings, SFTSettings

SETTINGS = SEPOSettings(
    steps=1,
    rollouts=3,
    learning_rate=1e-2,
    beta=0.0,
    temperature=3.0,
    lora_r=4,
    lora_alpha=8,
    lora_dropout=0.0,
)
STYLES = {
    "direct": SETTINGS,
    "reasoned": replace(SETTINGS, rollouts=2, style="reasoned", max_new_tokens=3, micro_rows=1000),
}
FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to allocate"
    ),
    RuntimeError("CUDA error: out of memory"),
    MemoryError(),
]


@pytest.fixture(autouse=True)
def exact_arithmetic(monkeypatch):
    """float32 whatever the machine is fast at."""
    for module in (grpo, sft):
        monkeypatch.setattr(module, "training_dtype", lambda device: torch.float32)


@pytest.fixture
def made(tokenizer, tmp_path):
    """Builds a trainer whose adapters are not 0."""
    count = iter(range(100))

    def build(style: str = "direct", game: str = "kuhn", **changes):
        loaded = LoadedModel("tiny", tiny.model(tokenizer), tokenizer)
        run = Run(tmp_path / f"run{next(count)}", {}, writes=True)
        trainer = sepo_trainer(loaded, get_game(game), run, replace(STYLES[style], **changes), seed=3)
        tiny.with_adapters_that_act(trainer.model)
        return trainer

    return build


def step(trainer) -> torch.Tensor:
    """The gradient of one step, all of it."""
    trainer.model.train()
    trainer.create_optimizer_and_scheduler(1)
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = 1
    trainer.training_step(trainer.model, next(iter(trainer.get_train_dataloader())))
    return torch.cat([p.grad.ravel().clone() for p in trainer.model.parameters() if p.requires_grad])


def rows_scored(trainer, monkeypatch) -> list[int]:
    """Fills with the number of rows of every scoring with gradient."""
    seen: list[int] = []
    score = trainer._score

    def noted(model, ids, *rest):
        if torch.is_grad_enabled():
            seen.append(len(ids))
        return score(model, ids, *rest)

    monkeypatch.setattr(trainer, "_score", noted)
    return seen


def limited(trainer, monkeypatch, most: int, error: Exception = FULL[0], part=None) -> list[int]:
    """Memory for ``most`` tokens of one forward pass of the model, or ``part`` of it; the sizes that were asked for."""
    base = part or trainer.model.get_base_model()
    forward = base.forward
    sizes: list[int] = []

    def bounded(*args, **kwargs):
        sizes.append(kwargs["input_ids"].numel())
        if sizes[-1] > most:
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(base, "forward", bounded)
    return sizes


def similar(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float((one - other).norm() / other.norm()) < 1e-4


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_rows_that_cannot_train_are_left_out_and_equal_ones_are_scored_once(made, monkeypatch, style, beta):
    """With a KL penalty every decision trains, whatever it earned."""
    trainer = made(style, beta=beta)
    seen = rows_scored(trainer, monkeypatch)
    step(trainer)
    rollouts = trainer.rollouts
    decisions = [decision for episode in rollouts.step.episodes for decision in episode.decisions]
    earning = [d for d, a in zip(decisions, rollouts.step.credit.advantage, strict=True) if a or beta]
    distinct = {(d.prompt_ids, d.completion_ids) for d in earning}
    assert seen == [len(distinct)]
    assert len(decisions) < rollouts.rows
    if style == "direct":  # replies in free text hardly ever agree
        assert len(distinct) < len(earning)
    if not beta:
        assert len(earning) < len(decisions)


@pytest.mark.parametrize("style", STYLES)
def test_leaving_them_out_changes_no_gradient(made, monkeypatch, style):
    """Against a trainer that scores every row of the batch, masked and worthless ones too."""
    found = step(made(style))
    plain = made(style)

    def every_row(model, ids, mask, width, batch_size=None, compute_entropy=False, **kwargs):
        log_probs, entropies = plain._score(model, ids, mask, width, batch_size, kwargs)
        return log_probs, entropies, None

    monkeypatch.setattr(plain, "_get_per_token_logps_and_entropies", every_row)
    assert similar(found, step(plain))
    assert found.norm() > 1e-4


def test_a_step_in_which_nothing_is_earned_changes_nothing(made, monkeypatch):
    trainer = made()
    seen = rows_scored(trainer, monkeypatch)
    lay_out = trainer.rollouts._lay_out

    def worthless():
        columns = lay_out()
        trainer.rollouts.advantages[:] = 0
        return columns

    monkeypatch.setattr(trainer.rollouts, "_lay_out", worthless)
    assert not step(trainer).any() and seen == []


def test_the_reference_is_the_model_with_its_adapters_off_and_no_second_copy(made, tokenizer):
    trainer = made(beta=0.1)
    assert trainer.ref_model is None
    held = sum(p.numel() for p in trainer.model.parameters() if not p.requires_grad)
    assert held == sum(p.numel() for p in tiny.model(tokenizer).parameters())


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_pieces_add_up_to_the_whole(made, monkeypatch, style):
    whole = step(made(style))
    trainer = made(style)
    trainer.pieces = 3
    seen = rows_scored(trainer, monkeypatch)
    assert similar(step(trainer), whole)
    assert len(seen) == 6  # three forward, and again three for the backward pass


@pytest.mark.parametrize("style", STYLES)
def test_out_of_memory_halves_the_batch_and_repeats_the_step(made, monkeypatch, style, capfd):
    free = made(style)
    sizes = limited(free, monkeypatch, 10**9)
    whole = step(free)
    capfd.readouterr()
    trainer = made(style)
    tried = limited(trainer, monkeypatch, max(sizes) * 2 // 3)
    assert similar(step(trainer), whole)
    played = [[d.action for e in t.rollouts.step.episodes for d in e.decisions] for t in (trainer, free)]
    assert played[0] == played[1]
    assert max(tried) == max(sizes) and trainer.pieces + trainer.rollouts.pieces > 2
    lines = capfd.readouterr().err.splitlines()
    assert lines and all("out of memory; once more, in " in line for line in lines)
    assert all(line.startswith("SEPO kuhn: ") for line in lines)


def test_out_of_memory_in_the_backward_pass_repeats_the_step_too(made, capfd):
    whole = step(made())
    capfd.readouterr()
    trainer = made()
    weight = next(p for name, p in trainer.model.named_parameters() if "lora_A" in name)
    failures = iter(FULL[:2])

    def fail(grad):
        error = next(failures, None)
        if error is not None:
            raise error
        return grad

    weight.register_hook(fail)
    assert similar(step(trainer), whole)
    assert trainer.pieces == 4
    first, second = capfd.readouterr().err.splitlines()
    rows = len(trainer.rollouts.numbers)
    assert 0 < rows < trainer.rollouts.rows == 180
    assert first == f"SEPO kuhn: a step of {rows} rows: out of memory; once more, in 2 pieces"
    assert second.endswith("in 4 pieces")


def test_so_does_one_on_token_trees(warm_start, monkeypatch):
    trainer = warm_start()
    assert trainer.on_trees
    sizes = tiny.tokens_read(trainer.model.get_base_model().model, monkeypatch)
    whole = sft_step(trainer)
    trainer = warm_start()
    assert trainer.on_trees
    limited(trainer, monkeypatch, max(sizes) - 1, part=trainer.model.get_base_model().model)
    assert similar(sft_step(trainer), whole) and trainer.pieces > 1


def test_what_does_not_fit_at_all_ends_in_one_line(made, monkeypatch, capfd):
    trainer = made()
    limited(trainer, monkeypatch, 10)
    with pytest.raises(
        MemoryError, match=r"^SEPO kuhn: playing does not fit into memory, in \d+ piece"
    ) as error:
        step(trainer)
    assert "\n" not in str(error.value) and "the last checkpoint is kept" in str(error.value)


@pytest.mark.parametrize("error", FULL, ids=["torch", "cpu", "cuda", "python"])
def test_memory_can_run_out_in_several_words(error):
    assert is_out_of_memory(error)
    tried = []

    def attempt(pieces):
        tried.append(pieces)
        if pieces < 4:
            raise error
        return "done"

    assert until_it_fits(attempt, 1, 100, "work") == "done" and tried == [1, 2, 4]


def test_other_errors_are_not_repeated():
    for error in (RuntimeError("shapes do not match"), ValueError("out of memory")):
        assert not is_out_of_memory(error)
        with pytest.raises(type(error)):
            until_it_fits(lambda pieces, e=error: (_ for _ in ()).throw(e), 1, 8, "work")


@pytest.mark.parametrize("how", ["padded", "trees"])
def test_a_large_vocabulary_is_never_held_for_a_whole_reply(how, tmp_path):
    """The bounds that ``trainer`` states. Padded rows: eight float32 tiles of the row's tokens by 32,768 words, and not
    four, and more in the backward pass, of 512 tokens by 262,144 words (512 MiB each). Token trees: not even the logits
    of the whole reply once."""
    said = tmp_path / "said"
    running = forked.Program(forked.script, large_vocabulary.__file__, how, log=said)
    assert running.wait(600) == 0, said.read_text()
    told = said.read_text().splitlines()[-1]
    tokens = large_vocabulary.PROMPT + large_vocabulary.REPLY
    tile = tokens * 32_768 * 4 / 2**20
    whole = large_vocabulary.REPLY * large_vocabulary.VOCABULARY * 4 / 2**20
    assert tile < float(told) < (8 * tile + 150 if how == "padded" else whole)


# --- the warm start -------------------------------------------------------------------------------

SFT = SFTSettings(
    records=8, epochs=1, learning_rate=1e-2, batch=8, accumulation=1, lora_r=4, lora_alpha=8, lora_dropout=0.0
)


@pytest.fixture
def warm_start(monkeypatch, tiny_folder, tmp_path):
    frame = demonstrations("kuhn", 100)
    monkeypatch.setattr(sft, "demonstrations", lambda game: frame)
    count = iter(range(100))

    def build(**changes):
        run = Run(tmp_path / f"run{next(count)}", {}, writes=True)
        return sft._trainer(load_model(tiny_folder), get_game("kuhn"), run, replace(SFT, **changes), seed=0)

    return build


def sft_step(trainer) -> torch.Tensor:
    before = [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]
    trainer.args.learning_rate, trainer.args.optim = 1.0, "sgd"
    trainer.args.lr_scheduler_type, trainer.args.warmup_steps, trainer.args.max_grad_norm = "constant", 0, 1e9
    trainer.train()
    after = [p.detach() for p in trainer.model.parameters() if p.requires_grad]
    return torch.cat([(a - b).ravel() for a, b in zip(after, before, strict=True)])


def test_a_warm_start_out_of_memory_halves_its_batch(warm_start, monkeypatch, capfd):
    """By the whole trainer, since the loss is divided by the tokens of the update."""
    whole = sft_step(warm_start())
    capfd.readouterr()
    trainer = warm_start()
    trainer.on_trees = False
    longest = max(len(row["input_ids"]) for row in trainer.train_dataset)
    limited(trainer, monkeypatch, 3 * longest, FULL[1])
    assert similar(sft_step(trainer), whole) and whole.norm() > 0
    assert trainer.pieces == 4
    first, second = (line for line in capfd.readouterr().err.splitlines() if "memory" in line)
    assert first == "SFT kuhn: a batch of 8 rows: out of memory; once more, in 2 pieces"
    assert second.endswith("in 4 pieces")


# --- broken numbers -------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_names_its_rows(made, monkeypatch):
    trainer = made()
    lay_out = trainer.rollouts._lay_out

    def broken():
        columns = lay_out()
        reached = [row for row, mask in enumerate(columns["env_mask"]) if any(mask)]
        trainer.rollouts.advantages[reached[1]] = nan
        trainer.broken = trainer.rollouts.name_of(trainer.rollouts.numbers[reached[1]])
        return columns

    monkeypatch.setattr(trainer.rollouts, "_lay_out", broken)
    with pytest.raises(
        FloatingPointError, match=r"^SEPO kuhn: the loss of step 1 is not finite, for "
    ) as error:
        step(trainer)
    assert trainer.broken in str(error.value) and "train/nash group 0 rollout" in trainer.broken
    assert "hand 1 move 0" in trainer.broken and "\n" not in str(error.value)


def test_every_row_has_a_name_of_its_own(made):
    rollouts = made(groups=2).rollouts
    names = [rollouts.name_of(row) for row in range(rollouts.rows)]
    assert len(set(names)) == rollouts.rows
    for match in rollouts.step.matches[:8]:
        row = rollouts.groups[match.pool, match.opponent, match.group] * rollouts.slots * 3 + match.index
        assert names[row] == (
            f"{match.pool}/{match.opponent} group {match.group} rollout {match.index} hand 0 move 0"
        )


def test_a_warm_start_that_breaks_names_its_demonstrations(warm_start):
    trainer = warm_start()
    with torch.no_grad():
        next(p for n, p in trainer.model.named_parameters() if n.endswith("up_proj.weight"))[0, 0] = nan
    with pytest.raises(
        FloatingPointError, match=r"^SFT kuhn: the loss of step 1 is not finite, for '"
    ) as error:
        trainer.train()
    assert "assistant" in str(error.value) and "\n" not in str(error.value)


def test_weights_beyond_all_numbers_are_what_is_blamed(made):
    trainer = made(weights=Weights(1e308, 1e308, 1e308))
    with pytest.raises(
        FloatingPointError, match=r"^kuhn: what decisions earn under Weights\(.*; lower the wei"
    ):
        step(trainer)


def test_a_step_without_anything_to_learn_from_is_said_once_in_a_run(made):
    trainer = made(temperature=1e-3)
    with pytest.warns(UserWarning, match=r"step 1 had nothing to train on: .*temperature \(now 0\.001\)"):
        step(trainer)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*had nothing to train on")
        step(trainer)
