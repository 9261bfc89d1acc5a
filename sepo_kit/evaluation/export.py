"""A trained agent for those who do not have the kit: one folder that transformers, PEFT or llama.cpp reads, with a
model card. What the card says is ``model_card.py``'s, how the folder goes to a hub ``push.py``'s.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sepo_kit.evaluation.model_card import CARD, base_name, write_card
from sepo_kit.games.numbers import require_count
from sepo_kit.models.adapters import CONFIG
from sepo_kit.models.loading import LoadedModel, load_model
from sepo_kit.runs import (
    ADAPTER,
    MANIFEST,
    WEIGHTS,
    RunError,
    read_json,
    read_manifest,
    replacing_folder,
    require_new_folder,
    write_json,
)

FORMS = ("merged", "adapter", "gguf")
GGUF = "model.gguf"
LLAMA_CPP = "LLAMA_CPP"  # environment variable: the folder of a copy of llama.cpp
CONVERTERS = ("convert_hf_to_gguf.py", "convert-hf-to-gguf", "convert_hf_to_gguf")
SMALL = 100  # MiB: up to here a GGUF keeps float32, above it is written in half of that


def export(
    source: Path | str, folder: Path | str, form: str = "merged", *, episodes: int = 20, seed: int = 10_000
) -> Path:
    """Write the model of ``source`` into ``folder``, with a model card; the folder.

    Parameters
    ----------
    source
        A finished run, or anything else that ``load_model`` takes: the base that an adapter is for.
    folder
        A new or an empty one.
    form
        "merged": safetensors, as ``AutoModelForCausalLM.from_pretrained`` reads them; "adapter": LoRA for the raw base
        model, as ``PeftModel.from_pretrained`` reads it; "gguf": one file, by llama.cpp's converter.
    episodes
        Per opponent, for the numbers of the card, where they cannot be enumerated; 0 for a card without numbers.
    seed
        Of these episodes.

    Raises
    ------
    ValueError
        No such form, an unfinished run, a folder that holds something, or the adapter of what is no run.
    OSError
        llama.cpp's converter is not there, or does not know the model.
    """
    folder = Path(folder)
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    require_count("episodes", episodes, 0)
    require_new_folder(folder)
    converter = _converter() if form == "gguf" else []
    is_run = (Path(source) / MANIFEST).exists()
    if form == "adapter" and not is_run:
        raise ValueError(f"{source} is no run and has no adapter; name a run folder, or export it merged")
    if form == "adapter" and not read_manifest(source).get("chain"):
        raise RunError(
            f"the adapter of {source} is for its warm start, not for a base model; export it merged"
        )
    loaded = load_model(source)
    with replacing_folder(folder) as temporary:
        if form == "adapter":
            _copy_adapter(Path(source), temporary, base_name(loaded))
        elif form == "merged":
            loaded.save(temporary)
        else:
            _convert(converter, loaded, temporary)
        write_card(temporary / CARD, loaded, form, folder.name, episodes, seed)
    return folder


def _copy_adapter(run: Path, target: Path, base: str) -> None:
    """The adapter as the run has it, save that no path of this machine names its base."""
    shutil.copy2(run / ADAPTER / WEIGHTS, target)
    config = read_json(run / ADAPTER / CONFIG)
    write_json(target / CONFIG, {**config, "base_model_name_or_path": base})


# --- GGUF -----------------------------------------------------------------------------------------


def _converter() -> list[str]:
    """The command of llama.cpp's converter, where there is one."""
    if home := os.environ.get(LLAMA_CPP):
        script = Path(home) / CONVERTERS[0]
        if not script.exists():
            raise OSError(f"{LLAMA_CPP} is {home}, which has no {CONVERTERS[0]}; name a copy of llama.cpp")
        return [sys.executable, str(script)]
    for name in CONVERTERS:
        if found := shutil.which(name):
            return [sys.executable, found] if found.endswith(".py") else [found]
    raise OSError(
        f"GGUF needs llama.cpp's converter, {CONVERTERS[0]}, which is not on the PATH; get a copy of llama.cpp and set "
        f"{LLAMA_CPP} to its folder, or export merged"
    )


def _convert(converter: list[str], loaded: LoadedModel, folder: Path) -> None:
    size = sum(p.numel() * p.element_size() for p in loaded.model.parameters()) / 2**20
    kind = "f32" if size < SMALL else "f16"
    merged = folder / "merged"
    loaded.save(merged)
    done = subprocess.run(
        [*converter, str(merged), "--outfile", str(folder / GGUF), "--outtype", kind],
        capture_output=True,
        text=True,
    )
    shutil.rmtree(merged)
    if done.returncode or not (folder / GGUF).exists():
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        said = lines[-1] if lines else f"it ended with status {done.returncode}"
        raise OSError(f"llama.cpp's converter cannot convert {loaded.name}: {said}; export it merged")
