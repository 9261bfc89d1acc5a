"""A SEPO step: seconds, peak memory, tokens per second and share of the machine's matrix-product peak.

Every row is a process of its own that trains from the base model for a few steps, so its memory is its own. The first
step warms up and is left out. ``tokens`` are those a model is run over in a step, shared beginnings once:
``forward`` in rollouts and reference, ``trained`` forward and backward. ``peak_share`` counts the products with the
layers' weights only, 2 operations a weight and token forward and 2 backward, over what the machine does in square
products of the same precision in the same run.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import conclude, options, seconds
from transformers import PrinterCallback

import sepo_kit as sk
from sepo_kit.models.quiet import quiet
from sepo_kit.objective.credit import MODES
from sepo_kit.runs import METRICS, Run, read_lines
from sepo_kit.training.grpo import sepo_trainer
from sepo_kit.training.settings import SEPOSettings
from sepo_kit.training.watch import peak_memory

ADAPTERS = {"learning_rate": 1e-4, "beta": 0.02, "lora_dropout": 0.0}
SIDE = 2048  # of the square matrices


def matrix_product_peak(dtype: torch.dtype) -> float:
    """Operations per second of large square products, the best of several."""
    one, other = (torch.randn(SIDE, SIDE, dtype=dtype) for _ in range(2))
    return 2 * SIDE**3 / seconds(lambda: one @ other, 10)


def measure(name: str, game_id: str, settings: SEPOSettings) -> dict:
    """Train ``name`` on a game for the steps of ``settings``: one row."""
    counted = {"forward": 0, "trained": 0}

    def count(module, args, kwargs) -> None:
        counted["trained" if torch.is_grad_enabled() else "forward"] += kwargs["input_ids"].numel()

    with tempfile.TemporaryDirectory() as folder, quiet():
        run = Run(Path(folder) / "run", {}, writes=True)
        trainer = sepo_trainer(sk.load_model(name), sk.get_game(game_id), run, settings)
        trainer.remove_callback(PrinterCallback)
        base = trainer.model.get_base_model()
        base.register_forward_pre_hook(count, with_kwargs=True)
        trainer.train()
        rows = read_lines(run.path / METRICS)
    step = median(row["seconds"] for row in rows[1:])
    weights = sum(
        p.numel() for n, p in base.model.layers.named_parameters() if "lora" not in n and p.ndim == 2
    )
    forward, trained = (counted[kind] / settings.steps for kind in ("forward", "trained"))
    return {
        "model": name,
        "game": game_id,
        "mode": settings.mode,
        "episodes": len(trainer.rollouts.step.matches),
        "decisions": rows[-1]["sepo/decisions"],
        "forward": forward,
        "trained": trained,
        "seconds": step,
        "tokens_per_s": (forward + trained) / step,
        "peak_share": 2 * weights * (forward + 2 * trained) / step / matrix_product_peak(base.dtype),
        "peak_mib": next(iter(peak_memory().values())),
        "precision": str(base.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def cases(smoke: bool) -> list[tuple[str, str, SEPOSettings]]:
    """pico in every game, and in one in every credit mode; SmolLM2 at the paper's n = 4."""
    pico = SEPOSettings(steps=2 if smoke else 8, rollouts=2 if smoke else 8, **ADAPTERS)
    if smoke:
        return [("pico", "kuhn", pico)]
    smollm2 = SEPOSettings(steps=4, rollouts=4, **ADAPTERS)
    return [
        *(("pico", game, pico) for game in sk.GAMES),
        *(("pico", "ipd", replace(pico, mode=mode)) for mode in MODES if mode != pico.mode),
        *(("smollm2-135m", game, smollm2) for game in ("kuhn", "ipd")),
    ]


def main() -> None:
    smoke = options(__doc__).smoke
    with ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        rows = [measure(*case) if smoke else pool.submit(measure, *case).result() for case in cases(smoke)]
    conclude("step", rows, smoke)


if __name__ == "__main__":
    main()
