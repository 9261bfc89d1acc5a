"""Scores one reply of 512 tokens over a vocabulary of 262,144 words, and prints by how many MiB that raised the peak.

A process of its own, since a peak of memory falls where Linux is told so only.
"""

import resource
import sys
import tempfile
from pathlib import Path

import tiny
import torch

from sepo_kit.games import get_game
from sepo_kit.models.loading import LoadedModel
from sepo_kit.runs import Run
from sepo_kit.training import grpo, styles
from sepo_kit.training.settings import SEPOSettings

VOCABULARY, PROMPT, REPLY = 262_144, 8, 512
CLEARED = Path("/proc/self/clear_refs")


def peak() -> float:
    """Of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where ru_maxrss begins at the peak of the process that started this one
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def growth(folder: Path) -> float:
    """What one row costs, forward and backward."""
    grpo.training_dtype = lambda device: torch.float32
    tokenizer = tiny.tokenizer()
    model = tiny.model(tokenizer, vocabulary=VOCABULARY, hidden_size=8, num_hidden_layers=1)
    settings = SEPOSettings(
        steps=1, rollouts=2, learning_rate=1e-3, beta=0.0, style="reasoned", max_new_tokens=REPLY
    )
    loaded = LoadedModel("large", model, tokenizer)
    trainer = grpo.sepo_trainer(loaded, get_game("kuhn"), Run(folder / "run", {}, writes=True), settings)
    ids = torch.randint(0, VOCABULARY, (1, PROMPT + REPLY))
    if CLEARED.exists():
        CLEARED.write_text("5")  # the peak begins anew at what is held now
    before = peak()
    log_probs, entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, torch.ones_like(ids), REPLY, compute_entropy=True
    )
    log_probs.sum().backward()
    grads = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    assert grads and any(g.any() for g in grads) and entropies.min() > 0
    return peak() - before


if __name__ == "__main__":
    if sys.argv[1:] == ["padded"]:  # as where a model cannot share prefixes
        styles.scores_on_trees = lambda model: False
    with tempfile.TemporaryDirectory() as folder:
        print(growth(Path(folder)))
