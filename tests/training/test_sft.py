"""The supervised warm start: what exactly is learned."""

from __future__ import annotations

import pytest
import tiny
import torch

from sepo_kit.games import get_game
from sepo_kit.models.loading import load_model
from sepo_kit.runs import METRICS, Run, read_lines
from sepo_kit.training import sft
from sepo_kit.training.demonstrations import conversations, demonstrations
from sepo_kit.training.settings import SFTSettings

SETTINGS = SFTSettings(
    records=6, epochs=1, learning_rate=1e-2, batch=6, accumulation=1, lora_r=4, lora_alpha=8, lora_dropout=0.0
)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Enough of the corpus."""
    frame = demonstrations("kuhn", 300)
    monkeypatch.setattr(sft, "demonstrations", lambda game: frame)
    return frame


def batch_of(folder, run_folder, style) -> dict[str, torch.Tensor]:
    """The first batch as the loss gets it."""
    run = Run(run_folder, {}, writes=True)
    settings = SFTSettings(**{**SETTINGS.as_request(), "style": style})
    trainer = sft._trainer(load_model(folder), get_game("kuhn"), run, settings, seed=0)
    return next(iter(trainer.get_train_dataloader()))


@pytest.mark.parametrize("style", ["direct", "reasoned"])
def test_the_loss_is_on_the_tokens_of_the_assistant_only(tiny_folder, tokenizer, tmp_path, few, style):
    batch = batch_of(tiny_folder, tmp_path / "run", style)
    assert len(batch["labels"]) == SETTINGS.records
    told = {
        tokenizer.apply_chat_template(c["prompt"] + c["completion"], tokenize=False): c["completion"][0][
            "content"
        ]
        for c in conversations(few, style)
    }
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        text = tokenizer.decode(ids[mask == 1])
        learned = labels != -100
        assert torch.equal(ids[learned], labels[learned]) and not learned[mask == 0].any()
        # The reply and what closes it, so that the model learns to stop, and nothing of the prompt.
        assert tokenizer.decode(labels[learned]) == told[text] + "<|im_end|>\n"
        (where,) = learned.nonzero(as_tuple=True)
        assert where.tolist() == list(range(int(where[0]), int(mask.sum())))


def test_the_first_loss_is_the_mean_surprise_at_those_tokens(tiny_folder, tiny_model, tmp_path):
    batch = batch_of(tiny_folder, tmp_path / "a", "direct")
    run = sft.train_sft(tiny_folder, "kuhn", tmp_path / "b", SETTINGS)
    with torch.no_grad():
        logits = tiny_model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    surprise = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), batch["labels"][:, 1:], ignore_index=-100
    )
    (row,) = read_lines(run.path / METRICS)
    assert row["loss"] == pytest.approx(float(surprise), rel=0.02)  # the base may be in bfloat16
    assert run.manifest["final_loss"] == row["loss"]


@pytest.mark.parametrize("style", ["direct", "reasoned"])
def test_token_trees_give_the_loss_of_padded_rows_and_its_gradient(tiny_folder, tmp_path, monkeypatch, style):
    settings = SFTSettings(**{**SETTINGS.as_request(), "style": style})
    found = []
    for on_trees in (True, False):
        trainer = sft._trainer(
            load_model(tiny_folder),
            get_game("kuhn"),
            Run(tmp_path / f"{on_trees}", {}, writes=True),
            settings,
            seed=0,
        )
        assert trainer.on_trees
        trainer.on_trees = on_trees
        read = tiny.tokens_read(trainer.model.base_model.model.model, monkeypatch)
        model, batch = trainer.model.float().train(), next(iter(trainer.get_train_dataloader()))
        size = int(batch["attention_mask"].sum())
        loss = trainer.compute_loss(model, batch, num_items_in_batch=(batch["labels"] != -100).sum())
        loss.backward()
        gradient = torch.cat([p.grad.ravel() for p in model.parameters() if p.requires_grad])
        told = {name: values[-1] for name, values in trainer._metrics["train"].items()}
        found.append((float(loss.detach()), gradient, told, sum(read) / size))
    (loss, gradient, told, share), (expected, theirs, plain, whole) = found
    assert loss == pytest.approx(expected, rel=1e-5) and told == pytest.approx(plain, rel=1e-4)
    assert float((gradient - theirs).norm() / theirs.norm()) < 1e-4
    assert share < 0.6 and whole >= 1


def test_demonstrations_of_the_test_split_are_never_trained_on(few):
    """Whole conversations may repeat in Kuhn poker, so the check is on the frame that rows are drawn from."""
    train = few[few["split"] == "train"]
    settings = SFTSettings(**{**SETTINGS.as_request(), "records": len(train)})
    drawn = sft._rows(get_game("kuhn"), settings, seed=0)
    assert len(drawn) == len(train) < len(few)
    key = str
    assert sorted(map(key, drawn)) == sorted(map(key, conversations(train, "direct")))


def test_records_are_drawn_by_the_seed():
    settings = SFTSettings(**{**SETTINGS.as_request(), "records": 50})
    once, again, other = (sft._rows(get_game("kuhn"), settings, seed) for seed in (0, 0, 1))
    assert len(once) == 50 and once == again != other


def test_the_demonstrations_are_learned(tiny_folder, tmp_path):
    settings = SFTSettings(
        records=100, epochs=1, learning_rate=1e-2, batch=5, accumulation=1, lora_dropout=0.0
    )
    run = sft.train_sft(tiny_folder, "kuhn", tmp_path / "run", settings)
    losses = [row["loss"] for row in read_lines(run.path / METRICS)]
    assert len(losses) == 20
    assert losses[-1] < 0.6 * losses[0]


def test_demonstrations_longer_than_the_limit_are_refused_before_anything_is_written(tiny_folder, tmp_path):
    settings = SFTSettings(**{**SETTINGS.as_request(), "max_length": 40})
    with pytest.raises(
        ValueError, match=r"max_length must be >= \d{2,3}, got 40: the longest demonstration has"
    ):
        sft.train_sft(tiny_folder, "kuhn", tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_more_demonstrations_than_there_are_are_refused_before_anything_is_written(
    tiny_folder, tmp_path, few
):
    there = (few["split"] == "train").sum()
    settings = SFTSettings(**{**SETTINGS.as_request(), "records": int(there) + 1})
    with pytest.raises(ValueError, match=rf"records must be <= {there}, got {there + 1}: the corpus of kuhn"):
        sft.train_sft(tiny_folder, "kuhn", tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
