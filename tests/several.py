"""What tests start as processes: SFT, then SEPO from it, of a saved model on Kuhn poker.

Arguments: model folder, folder of the runs, SEPO steps. float32, so that sums in another order are near each other.
"""

import sys
from pathlib import Path

import torch

from sepo_kit.cli import main
from sepo_kit.training import grpo, sft
from sepo_kit.training.demonstrations import demonstrations
from sepo_kit.training.settings import SEPOSettings, SFTSettings

SFT = SFTSettings(
    records=16,
    epochs=1,
    learning_rate=1e-3,
    batch=4,
    accumulation=2,
    lora_r=4,
    lora_alpha=8,
    lora_dropout=0.0,
)
SEPO = SEPOSettings(
    steps=2, rollouts=4, learning_rate=1e-3, beta=0.1, lora_r=4, lora_alpha=8, lora_dropout=0.0, temperature=3.0,
    save_every=1,
)  # fmt: skip


def train(model: Path, runs: Path, steps: int = SEPO.steps) -> None:
    """Both stages; like the command line, with other settings."""
    grpo.training_dtype = sft.training_dtype = lambda device: torch.float32
    sft.demonstrations = lambda game: demonstrations(game, 100)
    plan = type(
        "Plan", (), {"game": "kuhn", "sft": SFT, "sepo": SEPOSettings(**{**vars(SEPO), "steps": steps})}
    )
    profile = type("Profile", (), {"models": (str(model),), "plan": lambda self, *_: plan})
    import sepo_kit as sk

    sk.get_profile = lambda name: profile()
    for stage, base in (("train-sft", model), ("train-sepo", runs / "train-sft")):
        status = main([stage, str(base), "kuhn", str(runs / stage)])
        if status:
            sys.exit(status)


def run(stage: str, model: Path, folder: Path, settings: SFTSettings | SEPOSettings) -> None:
    """One stage in the precision of the machine."""
    torch.set_num_threads(1)
    sft.demonstrations = lambda game: demonstrations(game, 150)
    train = {"sft": sft.train_sft, "sepo": grpo.train_sepo}[stage]
    train(model, "kuhn", folder, settings)


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
